"""A command in a terminal of its own, as a person types it: what it shows, what is answered, Ctrl-C."""

import fcntl
import os
import pty
import select
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType

import psutil
from typing_extensions import Self

from tests.running import HANGS, eventually


class Terminal:
    """Used with `with`; at the end what still runs is ended."""

    def __init__(self, command: str, folder: Path, environ: Mapping[str, str]) -> None:
        self.shown, self.began = "", time.monotonic()
        self._ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))  # a bar needs a width
        self._process = subprocess.Popen(
            command.split(),
            cwd=folder,
            env=environ,
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # so that Ctrl-C is a signal
        )
        os.close(theirs)

    def until(self, text: str) -> str:
        """All that is shown, once `text` is."""
        while text not in self.shown:
            assert self._read(), f"it ended without {text!r}:\n{self.shown}"
        return self.shown

    def waits(self) -> None:
        """Return once it does nothing but wait for what is typed: Python's `input` loses a Ctrl-C just before."""
        eventually(lambda: psutil.Process(self._process.pid).status() == psutil.STATUS_SLEEPING)

    def types(self, text: str) -> None:
        os.write(self._ours, text.encode())

    def presses_ctrl_c(self) -> None:
        self.types("\x03")

    def ends(self) -> int:
        """Its status, once it has ended by itself; everything is shown then."""
        while self._read():
            pass
        return self._process.wait(HANGS)

    @property
    def last_line(self) -> str:
        return self.shown.strip().splitlines()[-1]

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.began

    def _read(self) -> bool:
        """Whether there may be more to come."""
        assert select.select([self._ours], [], [], HANGS)[0], f"nothing more is shown:\n{self.shown}"
        try:
            more = os.read(self._ours, 4096)
        except OSError:  # how a terminal says that nobody is left
            return False
        self.shown += more.decode(errors="replace")
        return bool(more)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGTERM)
        with suppress(OSError):  # somebody has to take what is still shown
            while self._read():
                pass
        os.close(self._ours)
        self._process.wait(HANGS)
