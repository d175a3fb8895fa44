"""How child processes are started, and how they are ended."""

import ctypes
import signal
import subprocess
import threading
from typing import Any

_PR_SET_PDEATHSIG = 1
_END_SECONDS = 1.0
# Looked up here: between fork and exec another thread may hold the loader's lock forever. Only Linux has it.
_prctl = getattr(ctypes.CDLL(None), "prctl", None)


def die_with_parent() -> None:
    """For `preexec_fn`: children end with this process. Otherwise they would keep a card, a port or a file."""
    if _prctl is not None:
        _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def end(process: "subprocess.Popen[Any]") -> int:
    """Kill a child and reap it; returns its exit status. A child that waits in the kernel, such as for a dead network
    disk, ends only when that answers: it counts as killed, and is reaped whenever that happens."""
    process.kill()
    try:
        return process.wait(_END_SECONDS)
    except subprocess.TimeoutExpired:
        threading.Thread(target=process.wait, daemon=True).start()
        return -signal.SIGKILL
