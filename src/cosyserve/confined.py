"""Work on what strangers send, in a process that may be killed by it.

One process imports what the work needs and then does nothing but fork. Its children do the work, with bounds on memory
and time, and the end of one gives everything back. So a child costs a fork and not the start of an interpreter, several
work side by side, none holds the caller's interpreter, and whatever becomes of one, the next is as fresh.
"""

import atexit
import gc
import os
import resource
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

from cosyserve.errors import CosyError
from cosyserve.errors.passing import packed, unpacked

Work = Callable[[bytes], bytes]

_DONE, _FAILED, _CRASHED = b"d", b"f", b"c"
_LENGTH_BYTES = 8
_START_SECONDS = 60.0  # for the imports, on a machine that has other things to do
# Threads that a library starts at its import do not come along into a fork.
_ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}


class UnfinishedError(Exception):
    """The child ended without an answer: it exceeded a limit, or crashed."""


class NotStartedError(UnfinishedError):
    """The work cannot be imported, for example because a package is missing; the input is not the reason."""


@dataclass(frozen=True)
class Bounds:
    """What a call may take. Processor time is the main bound; wall-clock time catches a call that waits forever."""

    memory: int  # bytes of address space, beyond that of the process that forks
    cpu_seconds: float
    seconds: float
    at_once: int  # calls; more wait for their turn
    kept: int = 0  # children that stay for another call


class Confined:
    """A function of bytes that runs in a child process. Threads may share it."""

    def __init__(self, work: str, bounds: Bounds) -> None:
        """`work` is the function's name, `module:function`."""
        self._bounds, self._forker = bounds, _Forker(work, bounds)
        self._turns = threading.BoundedSemaphore(bounds.at_once)
        self._idle: list[socket.socket] = []
        atexit.register(self.close)

    def __call__(self, argument: bytes) -> bytes:
        """Raises `UnfinishedError`, `NotStartedError`, or the `CosyError` that the function raised."""
        with self._turns:
            child = self._child()
            try:
                _send(child, argument)
                answer = _received(child)
            except (OSError, EOFError) as error:
                child.close()
                if isinstance(error, TimeoutError):  # a child ends itself, so it is the forking that hangs
                    self._forker.close()
                if self._forker.has_failed():
                    raise NotStartedError("its process ended at the start; its own words stand above") from error
                raise UnfinishedError(str(error)) from error
            self._keep(child)
        kind, held = answer[:1], answer[1:]
        if kind == _FAILED:
            raise unpacked(held)
        if kind == _CRASHED:
            raise UnfinishedError(held.decode())
        return held

    def start(self) -> None:
        """Begin to import what the work needs, so that the first call does not have to wait for it."""
        self._forker.start()

    def close(self) -> None:
        """End the processes; a later call starts others."""
        while self._idle:
            self._idle.pop().close()
        self._forker.close()

    def _child(self) -> socket.socket:
        with suppress(IndexError):
            while _is_gone(child := self._idle.pop()):
                child.close()
            return child
        ours, theirs = socket.socketpair()
        with theirs:
            self._forker.fork(theirs)
        ours.settimeout(self._bounds.seconds + _START_SECONDS)
        return ours

    def _keep(self, child: socket.socket) -> None:
        if len(self._idle) < self._bounds.kept:
            self._idle.append(child)
        else:
            child.close()


class _Forker:
    """The process that forks; it is started if it is not there. It ends when the connection to it closes."""

    def __init__(self, work: str, bounds: Bounds) -> None:
        limits = (bounds.memory, bounds.cpu_seconds, bounds.seconds)
        self._argv = [sys.executable, "-m", __name__, work, *map(str, limits)]
        self._lock = threading.Lock()
        self._running: tuple[subprocess.Popen[bytes], socket.socket] | None = None

    def start(self) -> None:
        with self._lock:
            self._connection()

    def fork(self, connection: socket.socket) -> None:
        """Start a child that serves the connection until its other end is closed."""
        with self._lock:
            try:
                socket.send_fds(self._connection(), [b"f"], [connection.fileno()])
            except OSError:  # it has been killed
                self._end()
                socket.send_fds(self._connection(), [b"f"], [connection.fileno()])

    def has_failed(self) -> bool:
        """Whether it has ended by itself. One that was killed is replaced at the next call."""
        with self._lock:
            if self._running is None or not _is_gone(self._running[1]):
                return False
            return self._running[0].wait() > 0

    def close(self) -> None:
        with self._lock:
            self._end()

    def _connection(self) -> socket.socket:
        if self._running is None:
            ours, theirs = socket.socketpair()
            with theirs:
                process = subprocess.Popen(  # noqa: S603 - argv is ours
                    self._argv,
                    env={**os.environ, **_ONE_THREAD},
                    stdin=theirs.fileno(),
                    stdout=subprocess.DEVNULL,
                    start_new_session=True,  # a terminal's signals are for the server, which may still need it
                )
            self._running = process, ours
        return self._running[1]

    def _end(self) -> None:
        if self._running is not None:
            process, connection = self._running
            connection.close()
            process.kill()
            process.wait()
        self._running = None


def _is_gone(child: socket.socket) -> bool:
    """Whether an idle child has sent something; that can only be its end."""
    look = select.poll()
    look.register(child, select.POLLIN)
    return bool(look.poll(0))


def _send(connection: socket.socket, data: bytes) -> None:
    connection.sendall(len(data).to_bytes(_LENGTH_BYTES, "big"))
    connection.sendall(data)


def _received(connection: socket.socket) -> bytes:
    """Raises `EOFError` where the other side is gone."""
    return _exactly(connection, int.from_bytes(_exactly(connection, _LENGTH_BYTES), "big"))


def _exactly(connection: socket.socket, length: int) -> bytes:
    data = bytearray()
    while len(data) < length:
        piece = connection.recv(min(length - len(data), 1 << 20))
        if not piece:
            raise EOFError("it is gone")
        data += piece
    return bytes(data)


def _fork_on_demand(control: socket.socket, work: Work, memory: int, cpu_seconds: float, seconds: float) -> None:
    """Returns when the other side is gone, for whatever reason."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody asks how a child ended
    gc.freeze()
    while True:
        message, descriptors, _, _ = socket.recv_fds(control, 1, 1)
        if not message:
            return
        for descriptor in descriptors:
            with socket.socket(fileno=descriptor) as connection:
                if os.fork() == 0:
                    control.close()
                    _bound(memory)
                    with suppress(EOFError, MemoryError, OSError):  # nobody needs it any more
                        while True:
                            _serve(connection, work, cpu_seconds, seconds)
                    os._exit(0)


def _bound(memory: int) -> None:
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    most, hard = pages * resource.getpagesize() + memory, resource.getrlimit(resource.RLIMIT_AS)[1]
    most = most if hard == resource.RLIM_INFINITY else min(most, hard)
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with suppress(OSError):  # where memory is short, this is the process to end
        Path("/proc/self/oom_score_adj").write_text("1000", encoding="ascii")


def _serve(connection: socket.socket, work: Work, cpu_seconds: float, seconds: float) -> None:
    """One call."""
    argument = _received(connection)
    _limit(cpu_seconds, seconds)
    try:
        answer = _DONE + work(argument)
    except CosyError as error:
        answer = _FAILED + packed(error)
    except Exception as error:
        answer = _CRASHED + repr(error).encode(errors="replace")
    _limit(0, 0)
    _send(connection, answer)


def _limit(cpu_seconds: float, seconds: float) -> None:
    """After that time the process ends, whatever code it runs. Zero removes the limit."""
    for number, timer, limit in (
        (signal.SIGPROF, signal.ITIMER_PROF, cpu_seconds),
        (signal.SIGALRM, signal.ITIMER_REAL, seconds),
    ):
        signal.signal(number, signal.SIG_DFL)
        signal.setitimer(timer, limit)


def _main(work: str, memory: str, cpu_seconds: str, seconds: str) -> None:
    module, _, function = work.partition(":")
    with socket.socket(fileno=os.dup(0)) as control:
        os.close(0)
        work_of = getattr(import_module(module), function)
        _fork_on_demand(control, work_of, int(memory), float(cpu_seconds), float(seconds))


if __name__ == "__main__":
    _main(*sys.argv[1:])
