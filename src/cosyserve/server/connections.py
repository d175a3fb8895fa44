"""All connections of a server: how many there may be, and how long each may keep the server waiting."""

import asyncio
import resource
import socket
import struct
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

from cosyserve.settings import Settings

# In a request's scope: what closes its connection at once, with all that the client has not taken.
ABORT = "cosyserve.abort"

_SWEEP_SECONDS = 1.0
_SPARE_DESCRIPTORS = 256  # for files, threads and children
_MOST_DESCRIPTORS = 65_536  # where the machine knows no limit, children would spend seconds on closing them


@dataclass(frozen=True)
class Limits:
    """What a connection may do before it is closed. Times in seconds, sizes in bytes."""

    connections: int = 1024
    head_bytes: int = 64 * 1024
    line_bytes: int = 8000  # of a WebSocket's head, whose library takes no longer ones
    headers: int = 128
    head_seconds: float = 10
    # A body that trickles is treated like one that has stopped. It gets this time, and a second more for so many bytes.
    body_seconds: float = 30
    body_bytes_per_second: float = 500
    body_bytes: int = 10 * 1024 * 1024
    stall_seconds: float = 60  # nothing comes, or nothing is taken
    idle_seconds: float = 300  # nothing is said on a socket
    parting_seconds: float = 2  # of silence, for a client to read why it was refused
    drain_seconds: float = 30  # for one that is still sending


def limits_of(settings: Settings) -> Limits:
    """Stays below the number of descriptors that the system gives."""
    return Limits(
        connections=min(settings.max_connections, _descriptors()),
        body_bytes=settings.max_upload_bytes,
        stall_seconds=settings.stall_seconds,
        idle_seconds=settings.idle_seconds,
    )


def _descriptors() -> int:
    """The number of descriptors left for connections once the limit is raised as far as the system allows."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _MOST_DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, _MOST_DESCRIPTORS)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    most = wanted if soft == resource.RLIM_INFINITY else max(soft, wanted)
    return max(most // 2, most - _SPARE_DESCRIPTORS)


def cut(transport: asyncio.Transport) -> None:
    """Close at once. The system also drops what the client has not read, which may be megabytes."""
    if (descriptor := transport.get_extra_info("socket")) is not None:
        with suppress(OSError, ValueError):  # it is closed already
            descriptor.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()


class Parting:
    """The last moments of a connection: incoming bytes are dropped for `most` seconds, or until none have come for
    `quiet`.

    If a connection is closed while bytes are unread, its last answer is lost (RFC 9112, 9.6).
    """

    def __init__(self, transport: asyncio.Transport, quiet: float, most: float) -> None:
        self._transport, self._quiet = transport, quiet
        self._loop = asyncio.get_running_loop()
        self._ends = self._loop.time() + most
        self.go_on()
        self._look()

    def go_on(self) -> None:
        """Something has come."""
        self._quiet_since = self._loop.time()

    def _look(self) -> None:
        ends = min(self._quiet_since + self._quiet, self._ends)
        if self._loop.time() < ends:
            self._loop.call_at(ends, self._look)
        else:
            cut(self._transport)


class Writing:
    """How long a client has not read, and how long a connection has been closing."""

    def __init__(self, transport: asyncio.Transport, stall_seconds: float) -> None:
        self._transport = transport
        # The application gives up first, and tells a client that stalls from one that has left.
        self._patience = stall_seconds + 1
        self._since: float | None = None

    def look(self, now: float, *, paused: bool) -> None:
        if not paused and not self._transport.is_closing():
            self._since = None
        elif self._since is None:
            self._since = now
        elif now - self._since > self._patience:
            cut(self._transport)


class Connection(Protocol):
    transport: asyncio.Transport

    @property
    def waits_since(self) -> float | None:
        """Since when no byte of a request has come, by the loop's clock; None while there is a complete one."""
        ...

    def look(self, now: float) -> None:
        """Close the connection where it is overdue."""
        ...


class Connections:
    """`count` is called for every request that begins (1) and ends (-1)."""

    def __init__(self, limits: Limits, count: Callable[[int], None] = lambda change: None) -> None:
        self.limits, self.count = limits, count
        self._open: set[Connection] = set()
        self._sweeping: asyncio.TimerHandle | None = None

    def admit(self, connection: Connection) -> bool:
        """Whether there is room for it. The connection that has kept the server waiting longest is closed for it."""
        if len(self._open) >= self.limits.connections:
            waiting = [each for each in self._open if each.waits_since is not None]
            if not waiting:
                return False
            longest = min(waiting, key=lambda each: each.waits_since or 0.0)
            self.leave(longest)
            cut(longest.transport)
        self._open.add(connection)
        if self._sweeping is None:
            self._schedule()
        return True

    def __contains__(self, connection: Connection) -> bool:
        return connection in self._open

    def leave(self, connection: Connection) -> None:
        self._open.discard(connection)

    def _schedule(self) -> None:
        self._sweeping = asyncio.get_running_loop().call_later(_SWEEP_SECONDS, self._sweep)

    def _sweep(self) -> None:
        now = asyncio.get_running_loop().time()
        for connection in tuple(self._open):
            connection.look(now)
        self._sweeping = None
        if self._open:
            self._schedule()
