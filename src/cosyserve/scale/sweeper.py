"""Ends what Ray leaves behind when a server is killed: its agents wait a minute and more for what is dead.

A process of its own, which waits for the end of its input and then ends all others of its session.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def at_hand() -> Iterator[None]:
    """Inside the body, this process cannot end without ending its session first."""
    process = subprocess.Popen([sys.executable, "-m", "cosyserve.scale.sweeper"], stdin=subprocess.PIPE)
    try:
        yield
    finally:
        process.kill()
        process.wait()


def sweep() -> None:
    own, session = os.getpid(), os.getsid(0)
    for pid in [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdecimal()]:
        with suppress(OSError):
            if pid != own and os.getsid(pid) == session:
                os.kill(pid, signal.SIGKILL)


if __name__ == "__main__":
    sys.stdin.read()
    sweep()
