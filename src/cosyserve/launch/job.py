"""Runs a piece of work that needs MPI, on the first rung of the ladder that works."""

import logging
from collections.abc import Sequence

from cosyserve.command import command
from cosyserve.launch.flag import Flag
from cosyserve.launch.ladder import Rung
from cosyserve.launch.supervisor import Server

log = logging.getLogger(__name__)


def run(rungs: Sequence[Rung], tmpdir: str | None, seconds: float, stopping: Flag) -> str | None:
    """Returns None once the work reports success, else why it failed. The next rung is tried only if MPI did not start:
    work that fails with MPI would fail on every rung. Output of the work goes into the log. The work has `seconds` in
    all once MPI is up, and ends when `stopping` is set."""
    for rung in rungs:
        try:
            work = Server(rung, tmpdir, {})
        except OSError as error:  # such as no mpirun on this machine
            log.warning("Launch method '%s' cannot be tried: %s", rung.name, error)
            continue
        try:
            failure = work.wait_until_ready(stopping, seconds)
            if failure is None:
                work.join()
                return None
            failure = f"{failure}{work.last_words}"
            if work.has_heartbeat or stopping.is_set():
                return failure
        finally:
            work.end()
        log.warning("Launch method '%s' failed: %s", rung.name, failure)
    return f"MPI cannot be started here; {command()} doctor says why"
