"""The stacks of a hung process. At a signal it writes them into a file, even while its event loop is blocked. A thread
blocks the signal while it writes, so the reader knows when the stacks are complete."""

import faulthandler
import os
import signal
import time
from contextlib import suppress
from pathlib import Path

import psutil

_SIGNAL = signal.SIGUSR1
_SECONDS = 10  # for a process that has to be swapped in first, or gets no time; nearly all answer at once
_TICK = 0.01
_PREFIX = "stacks-"


def offer(folder: Path) -> None:
    """From now on a process that knows `folder` may `ask` this one."""
    file = (folder / f"{_PREFIX}{os.getpid()}").open("w")  # which faulthandler keeps
    faulthandler.register(_SIGNAL, file, all_threads=True)


def ask(folder: Path) -> list[str]:
    """The stacks of all processes that offered them in `folder`; empty if they cannot write them."""
    return [line for file in sorted(folder.glob(f"{_PREFIX}*")) for line in _written(file)]


def _written(file: Path) -> list[str]:
    pid, size = int(file.name.removeprefix(_PREFIX)), file.stat().st_size
    with suppress(psutil.Error, OSError):
        process, before = psutil.Process(pid), _blocking(pid)
        if process.status() != psutil.STATUS_STOPPED:  # a stopped process takes no signal
            process.send_signal(_SIGNAL)
            deadline = time.monotonic() + _SECONDS
            while time.monotonic() < deadline and (file.stat().st_size == size or _blocking(pid) - before):
                time.sleep(_TICK)
    return file.read_bytes()[size:].decode(errors="replace").splitlines()


def _blocking(pid: int) -> set[str]:
    """The threads that have the signal blocked."""
    found = set()
    for status in Path(f"/proc/{pid}/task").glob("*/status"):
        with suppress(FileNotFoundError):  # a thread that has just ended
            masks = dict(line.split(":\t", 1) for line in status.read_text().splitlines() if line.startswith("SigBlk"))
            if int(masks["SigBlk"], 16) >> (_SIGNAL - 1) & 1:
                found.add(status.parent.name)
    return found
