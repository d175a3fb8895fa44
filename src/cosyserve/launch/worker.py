"""The other side of `job.run`: a program that does one piece of work under MPI and reports its progress."""

from collections.abc import Callable

from cosyserve.launch import mpi, stacks
from cosyserve.launch.heartbeat import folder_of_start, to_supervisor


def carry_out(work: Callable[[], None]) -> None:
    """Starts MPI first, because that may hang; then does the work."""
    parent = to_supervisor()
    if parent is not None:
        stacks.offer(folder_of_start())
    mpi.initialise()
    if parent is not None:
        parent.send("mpi")
    work()
    if parent is not None:
        parent.send("ready")
