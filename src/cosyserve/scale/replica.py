"""A replica for Ray Serve: an actor that forwards frames to the launch behind it, and lives as long as that launch."""

import logging
import os
from collections.abc import AsyncGenerator
from contextlib import aclosing
from pathlib import Path

import ray

from cosyserve.scale.launch import Launch
from cosyserve.scale.wire import DESCRIBE

log = logging.getLogger(__name__)

# What says that the worker is gone. Another OSError, such as of too many open files, is a failure of one segment alone.
_GONE = (EOFError, ConnectionError, FileNotFoundError)


class Replica:
    """Ready once its launch has spoken. When the launch ends, the actor exits, and Serve starts another."""

    async def __init__(self, python: str, folder: str = ".") -> None:  # type: ignore[misc] # as Serve has it
        """The launch runs on `python` and in `folder`: relative settings and `.env` are read from there."""
        resources = ray.get_runtime_context().get_assigned_resources()  # type: ignore[no-untyped-call]
        self._launch = Launch(python, Path(folder), resources.get("GPU", 0.0), on_end=_leave)
        await self._launch.ready()

    async def describe(self) -> bytes:
        return await self._one(DESCRIBE)

    async def learn(self, question: bytes) -> bytes:
        """An empty frame, or the failure."""
        return await self._one(question)

    async def synthesize(self, question: bytes) -> AsyncGenerator[bytes, None]:
        """Frames of sound, perhaps with a failure as the last."""
        try:
            async with aclosing(self._launch.ask(question)) as frames:
                async for frame in frames:
                    yield frame
        except _GONE:
            _leave()  # and so are all other streams of it

    async def check_health(self) -> None:
        """Healthy as long as its launch runs: the supervisor checks the heartbeat and exits if the worker has none."""
        if not self._launch.runs:
            raise RuntimeError("its launch has ended")

    def __del__(self) -> None:
        """Called by Serve once the running requests are done."""
        if launch := getattr(self, "_launch", None):
            launch.stop()

    async def _one(self, question: bytes) -> bytes:
        return b"".join([frame async for frame in self._launch.ask(question)])


def _leave() -> None:
    """Exit at once: Ray then tells all callers of this replica, and sends nothing more to it."""
    log.error("The launch of this replica has ended")
    os._exit(1)
