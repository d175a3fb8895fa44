"""The real server in processes of its own, as a user starts it."""

import os
import re
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from statistics import median
from types import TracebackType
from typing import Any, NoReturn, TypeVar
from unittest.mock import patch

import httpx
import psutil
import pytest
from typing_extensions import Self

Answer = TypeVar("Answer")

ROOT = Path(__file__).parent.parent
GREETING = "你好，世界。Hello, world 3.14!"
HANGS = 300
"""Seconds after which what is waited for never happens. It bounds a hang and decides nothing else: the machine may be
busy with other work, or with the tests beside this one."""

_starts = deque([2.0], maxlen=10)  # seconds that the last servers took until they stood
_longer = 1  # how many times as long as usual the limits are


def asked(read: Callable[[], Answer]) -> Answer | None:
    """What a process answers; None where it has ended, which it may do at any moment."""
    try:
        return read()
    except psutil.NoSuchProcess:
        return None


def lives(process: psutil.Process) -> bool:
    """Whether it is there, and no zombie."""
    return asked(process.status) not in (None, psutil.STATUS_ZOMBIE)


def starts(count: float) -> float:
    """As many seconds as so many starts of a server take here and now, by the median of the last ten.

    For a limit that is the subject of a test. What is healthy has to keep it as well: see `with_longer_limits`.
    """
    return round(count * median(_starts) * _longer, 1)


def with_longer_limits(test: Callable[..., None]) -> Callable[..., None]:
    """A test of a limit in `starts`: where it fails, it runs again with limits four and sixteen times as long.

    On a busy machine a healthy start now and then takes many times what the last ones took, and counts as hung. A fault
    of what is tested fails with any limit.
    """

    @wraps(test)
    def run(**fixtures: Any) -> None:
        for longer in (1, 4):
            try:
                return limited(longer, fixtures)
            except Exception as error:  # the busy machine's, or the fault's own, which the last round shows
                print(f"{test.__name__} with {longer} times the limits: {error}")
        return limited(16, fixtures)

    def limited(longer: int, fixtures: dict[str, Any]) -> None:
        if "tmp_path" in fixtures:
            fixtures = {**fixtures, "tmp_path": fixtures["tmp_path"] / f"limits-x{longer}"}
            fixtures["tmp_path"].mkdir()
        with patch(f"{__name__}._longer", longer):
            test(**fixtures)

    return run


def leave_out(reason: str) -> NoReturn:
    """Skip a test for what is missing here. In CI nothing is skipped."""
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)


class Server:
    """`cosyserve serve` on a free port of loopback. Used with `with`, it speaks inside and is gone afterwards."""

    arguments: tuple[str, ...] = ()

    def __init__(self, folder: Path, before: tuple[str, ...] = (), **settings: object) -> None:
        patient = {"grace_seconds": HANGS, "stall_seconds": HANGS}
        given = {"port": 0, "state_dir": folder / "state", **patient, **settings}
        environment = {name: value for name, value in os.environ.items() if not name.startswith("COSYSERVE_")}
        environment |= {f"COSYSERVE_{name.upper()}": str(value) for name, value in given.items()}
        self.log = folder / "server.log"
        self.url = ""
        self._began = time.monotonic()
        with self.log.open("ab") as log:
            self.process = psutil.Popen(
                [*before, sys.executable, "-m", "cosyserve", "serve", *self.arguments],
                env=environment,
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def text(self) -> str:
        return self.log.read_text(errors="replace")

    def says(self, what: str) -> list[str]:
        """The lines of the log with it, once one is there: the supervisor writes it a moment later."""

        def found() -> list[str]:
            complete, *_ = self.text().rpartition("\n")  # the last one may be being written
            return [line for line in complete.splitlines() if what in line]

        eventually(lambda: bool(found()))
        return found()

    def wait_until_it_stands(self, times: int = 1) -> tuple[str, str]:
        """The rung and the address, once it has become ready so many times."""
        deadline = time.monotonic() + HANGS
        stands: list[str] = []
        found: list[str] = []
        while min(len(stands), len(found)) < times:  # the supervisor's line and the server's own, in either order
            stands, found = re.findall(r"runs with launch method '([\w-]+)'", self.text()), addresses(self.text())
            assert time.monotonic() < deadline, self.text()
            assert self.process.poll() is None, self.text()
            time.sleep(0.02)
        if not self.url:
            _starts.append(time.monotonic() - self._began)
        self.url = found[-1]
        return stands[-1], self.url

    @property
    def port(self) -> int:
        return int(self.url.rsplit(":", 1)[1])

    @property
    def wyoming(self) -> str:
        """The address for the Wyoming protocol."""
        return str(re.findall(r"(tcp://[\w.:]+) for the Wyoming protocol", self.text())[-1])

    def stop(self) -> int:
        self.process.terminate()
        return self.wait()

    def wait(self) -> int:
        """The exit status, once the process has ended by itself."""
        return int(self.process.wait(HANGS))

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def __enter__(self) -> Self:
        try:
            self.wait_until_it_stands()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def addresses(log: str) -> list[str]:
    """The addresses that servers have announced, in either format of the log."""
    return re.findall(r"CosyServe: (http://[^/\s]+)/", log)


@contextmanager
def meanwhile(ask: Callable[[], Answer]) -> Iterator[list[Answer]]:
    """What `ask` answers while the body runs, called again and again in a thread of its own."""
    answers: list[Answer] = []
    enough = threading.Event()

    def go_on() -> None:
        while not enough.is_set():
            answers.append(ask())

    thread = threading.Thread(target=go_on)
    thread.start()
    try:
        yield answers
    finally:
        enough.set()
        thread.join()


def eventually(condition: Callable[[], bool], seconds: float = HANGS) -> None:
    """Wait for it. To ask takes a fifth of the time at most: what is waited for needs the processor, too."""
    deadline = time.monotonic() + seconds
    while True:
        began = time.monotonic()
        if condition():
            return
        now = time.monotonic()
        assert now < deadline, f"it did not happen within {seconds:g} seconds"
        time.sleep(max(0.01, 4 * (now - began)))


def wait_until_warm(url: str) -> None:
    """The server answers /readyz from the moment it listens; its warm-up ends a moment later, well or not."""
    with httpx.Client(base_url=url, transport=httpx.HTTPTransport(retries=5), timeout=HANGS) as client:
        eventually(lambda: client.get("/readyz").json()["status"] != "starting")
