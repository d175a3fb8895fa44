"""The launch behind a replica: `cosyserve replica`, with its ladder and its supervisor, and the way to its worker."""

import asyncio
import os
import subprocess
import tempfile
import threading
from collections.abc import AsyncGenerator, Callable
from contextlib import suppress
from pathlib import Path

from cosyserve.host import child
from cosyserve.launch.heartbeat import GPU_SHARE
from cosyserve.scale.wire import END, receive, send

_INTERNAL = "_COSYSERVE_"
_LOOK_SECONDS = 0.1
_STOP_SECONDS = 45  # the grace time of a server, and something


class LaunchEndedError(Exception):
    """The launch has ended by itself; its output says why."""


class Launch:
    """One launch, in `folder`, from whose `.env` and relative paths it reads as a server started there would."""

    def __init__(self, python: str, folder: Path, gpu_share: float, on_end: Callable[[], None]) -> None:
        """`python` is that of the environment to speak in, which need have nothing of Ray.

        `on_end` is called in a thread when the launch ends without having been told to.
        """
        self._own = tempfile.TemporaryDirectory(prefix="cosyserve-")
        self._place = Path(self._own.name) / "worker"
        self._on_end, self._stopping = on_end, False
        # What a server above us was told by its own supervisor is not for this one.
        environ = {name: value for name, value in os.environ.items() if not name.startswith(_INTERNAL)}
        if gpu_share:
            environ[GPU_SHARE] = str(gpu_share)
        self._process = subprocess.Popen(  # noqa: S603 - our own command
            [python, "-m", "cosyserve", "replica", str(self._place)],
            cwd=folder,
            env=environ,
            stdin=subprocess.PIPE,  # its end is ours, however we end
        )

    async def ready(self) -> None:
        """Returns once its worker is warm; raises `LaunchEndedError` if the launch ends first."""
        while not self._place.exists():
            if self._process.poll() is not None:
                raise LaunchEndedError(f"its launch ended with status {self._process.returncode}")
            await asyncio.sleep(_LOOK_SECONDS)
        threading.Thread(target=self._watch, daemon=True).start()

    @property
    def runs(self) -> bool:
        return self._process.poll() is None

    async def ask(self, question: bytes) -> AsyncGenerator[bytes, None]:
        """The frames of the answer, without the one that ends it; the last may be a failure. Raises `OSError` or
        `EOFError` if the answer breaks off. Closing the iterator cancels the work."""
        reader, writer = await asyncio.open_unix_connection(self._place)
        try:
            await send(writer, question)
            while (frame := await receive(reader)) != END:
                yield frame
        finally:
            writer.close()

    def stop(self) -> None:
        """Stop it: when its input ends, it stops as at SIGTERM."""
        self._stopping = True
        assert self._process.stdin is not None  # noqa: S101 - a pipe was asked for
        with suppress(OSError):
            self._process.stdin.close()
        try:
            self._process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            child.end(self._process)
        self._own.cleanup()

    def _watch(self) -> None:
        self._process.wait()
        if not self._stopping:
            self._on_end()
