"""Runs something that may hang, in a child process with a time limit, and says where it hung.

Output goes to a file and never to a pipe, because a daemon that the child leaves behind would keep a pipe open.
Leftover processes are found by a marker in their environment: orted calls setsid, so the process group does not reach
it.
"""

import contextlib
import logging
import os
import shutil
import subprocess
import tempfile
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path

import psutil

from cosyserve.host.child import end as end_child

log = logging.getLogger(__name__)

MARKER = "_COSYSERVE_MARK"
END_SECONDS = 20.0  # a killed process that has a card's memory to give back takes some of them
_OUTPUT_TAIL = 4000  # characters
_PY_SPY_SECONDS = 3


class Outcome(str, Enum):
    OK = "ok"
    FAILED = "failed"
    HUNG = "hung"


@dataclass(frozen=True)
class Stuck:
    """One process of a hung probe: what the kernel says it waits for, and its connections."""

    pid: int
    parent: int
    name: str
    state: str
    wait_channel: str
    peers: tuple[str, ...]

    def line(self) -> str:
        peers = f", {', '.join(self.peers)}" if self.peers else ""
        return f"{self.name}[{self.pid}] of {self.parent}: {self.state} in {self.wait_channel or '?'}{peers}"


@dataclass(frozen=True)
class Result:
    outcome: Outcome
    seconds: float
    output: str
    status: int | None = None
    stuck: tuple[Stuck, ...] = field(default=())
    stack: str = ""


def run(argv: Sequence[str], environ: Mapping[str, str], limit: float) -> Result:
    """Run `argv` for at most `limit` seconds. What it started is ended when this returns."""
    mark = uuid.uuid4().hex
    with tempfile.TemporaryFile(dir=_quiet_folder()) as output:
        began = time.monotonic()
        try:
            child = subprocess.Popen(  # noqa: S603 - argv is ours
                list(argv),
                env={**environ, MARKER: mark},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        except OSError as error:
            return Result(Outcome.FAILED, time.monotonic() - began, str(error))
        stuck: tuple[Stuck, ...] = ()
        stack = ""
        status: int | None = None
        try:
            status = child.wait(limit)
        except subprocess.TimeoutExpired:
            left = marked(mark)
            stuck = tuple(filter(None, map(look_at, left)))
            stack = python_stack(left)
        finally:
            end(mark)
            end_child(child)
        seconds = time.monotonic() - began
        output.seek(0)
        text = output.read().decode(errors="replace")[-_OUTPUT_TAIL:]
    outcome = Outcome.HUNG if status is None else Outcome.FAILED if status else Outcome.OK
    return Result(outcome, seconds, text, status, stuck, stack)


def marked(mark: str) -> list[psutil.Process]:
    """Every process that carries the marker, in any process group."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if process.environ().get(MARKER) == mark:
                found.append(process)
    return found


def _of_session(session: int) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if os.getsid(process.pid) == session and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def end(mark: str, session: int | None = None) -> None:
    """End every process that carries the marker, and every process of a session, because one that renames itself may
    lose its marker.

    A process that waits in the kernel, for a dead network disk or a driver, ends only when that answers. It is named in
    the log and left, so that the caller can go on.
    """
    deadline = time.monotonic() + END_SECONDS
    while left := marked(mark) + ([] if session is None else _of_session(session)):
        if time.monotonic() > deadline:
            lines = [stuck.line() for stuck in map(look_at, left) if stuck is not None]
            log.error("These processes cannot be ended, and are left: %s", "; ".join(lines))
            return
        for process in left:
            with contextlib.suppress(psutil.Error):
                process.kill()
        psutil.wait_procs(left, timeout=1)


def _quiet_folder() -> str | None:
    """A folder in memory if possible: TMPDIR may be the very thing that is broken."""
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # noqa: S108


def look_at(process: psutil.Process) -> Stuck | None:
    with contextlib.suppress(psutil.Error):
        peers = []
        with contextlib.suppress(psutil.Error):
            for connection in process.net_connections("inet"):
                if connection.raddr:
                    peers.append(f"{connection.status} to {connection.raddr.ip}:{connection.raddr.port}")
        try:
            wait_channel = Path(f"/proc/{process.pid}/wchan").read_text(encoding="ascii")
        except OSError:
            wait_channel = ""
        name, state = process.name(), process.status()
        return Stuck(process.pid, process.ppid(), name, state, wait_channel.strip("0"), tuple(peers))
    return None


def python_stack(processes: list[psutil.Process]) -> str:
    """The stack from py-spy if it is installed; otherwise the probe's faulthandler has written one to its output."""
    py_spy = shutil.which("py-spy")
    python = next((process for process in processes if process.name().startswith("python")), None)
    if py_spy is None or python is None:
        return ""
    try:
        dump = subprocess.run(  # noqa: S603
            [py_spy, "dump", "--pid", str(python.pid)], capture_output=True, timeout=_PY_SPY_SECONDS, text=True
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return dump.stdout
