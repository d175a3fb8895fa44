"""The port for the Wyoming protocol: who is let in, how many at a time, and how long each may keep it waiting."""

import asyncio
import logging
import secrets
import socket
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import cast

import anyio

from cosyserve import errors, logs
from cosyserve.errors import CosyError
from cosyserve.machine import Machine
from cosyserve.server.accepting import stop_accepting
from cosyserve.server.bodies import most_bytes
from cosyserve.server.client import ClientGoneError
from cosyserve.server.connections import Connections, Limits, Writing, cut, limits_of
from cosyserve.server.published import gateways
from cosyserve.server.service import Service
from cosyserve.server.wyoming.address import is_welcome
from cosyserve.server.wyoming.events import Reader
from cosyserve.server.wyoming.session import Session

log = logging.getLogger(__name__)

_CONNECTIONS = 64  # of one home; what HTTP has is kept for HTTP
_PIECE = 64 * 1024


class Client:
    """One connection, as `Connections` looks after it."""

    def __init__(self, transport: asyncio.Transport, session: Session, limits: Limits) -> None:
        self.transport, self._session, self._idle_seconds = transport, session, limits.idle_seconds
        self._writing = Writing(transport, limits.stall_seconds)

    @property
    def waits_since(self) -> float | None:
        return self._session.last_text if self._session.is_idle else None

    def look(self, now: float) -> None:
        since = self.waits_since
        if since is not None and now - since > self._idle_seconds:
            self.transport.close()
        self._writing.look(now, paused=False)  # a session notices by itself that its client takes nothing


class Wyoming:
    """Serves on a listening socket. `count` is called for every text that begins (1) and ends (-1) to be spoken."""

    def __init__(
        self,
        service: Service,
        bound: socket.socket,
        count: Callable[[int], None] = lambda change: None,
        limits: Limits | None = None,
    ) -> None:
        self.bound = bound
        self._service, self._count = service, count
        self._limits = limits or limits_of(service.settings)
        self._clients = Connections(replace(self._limits, connections=min(_CONNECTIONS, self._limits.connections)))
        self._networks = service.settings.wyoming_networks(gateways(Machine()))
        self._longest = most_bytes(service.settings.max_text_chars)
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._sessions: dict[asyncio.Task[None], Session] = {}

    @property
    def address(self) -> str:
        host, port = self.bound.getsockname()[:2]
        return f"tcp://[{host}]:{port}" if ":" in host else f"tcp://{host}:{port}"

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._accepted, sock=self.bound, limit=self._longest)
        log.info("Listening on %s for the Wyoming protocol", self.address)

    async def close(self) -> None:
        """Take no new connections; texts that are being spoken go on."""
        if self._server is not None:
            await stop_accepting([self._server])

    async def stop(self) -> None:
        """End all connections. Clients that have been spoken to may read to the end."""
        await self.close()
        for session in self._sessions.values():
            session.finish()
        await self._wait(self._limits.parting_seconds)
        for task, session in self._sessions.items():
            if session.owes_sound:
                task.cancel()
        await self._wait(self._limits.drain_seconds)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _wait(self, seconds: float) -> None:
        """Until all connections have ended, for so long at most."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=seconds)

    def _accepted(self, stream: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(self._serve(stream, writer))
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._sessions.pop(task, None)

    async def _serve(self, stream: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        host, port = (*writer.get_extra_info("peername", ("", 0)), 0)[:2]
        logs.request_id.set(secrets.token_hex(8))
        transport = cast("asyncio.Transport", writer.transport)
        reader = Reader(stream, self._longest, self._limits)
        session = Session(self._service, reader, writer, f"{host}:{port}", self._count)
        client = Client(transport, session, self._limits)
        if (refusal := self._refusal(client, host)) is not None:
            session.record(refusal)
            with suppress(ClientGoneError):
                await session.refuse(refusal)
            writer.close()
            return
        if (task := asyncio.current_task()) is not None:
            self._sessions[task] = session
        has_all = False
        try:
            with suppress(ClientGoneError):
                await session.run()
                has_all = await self._part(stream, writer)
        finally:
            self._clients.leave(client)
            if has_all:
                writer.close()  # what the system still holds goes out
            else:
                cut(transport)

    def _refusal(self, client: Client, host: str) -> CosyError | None:
        """Why this client is refused, if it is. A stranger takes no client's connection."""
        if not is_welcome(host, self._networks):
            return CosyError(errors.WYOMING_STRANGER, address=host)
        if not self._clients.admit(client):
            return CosyError(errors.CONNECTIONS_FULL, limit=self._clients.limits.connections)
        return None

    async def _part(self, stream: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Let the client read to the end, and tell whether the system has all that is left for it. What comes meanwhile
        is dropped, because a connection that is closed while bytes are unread loses its last words."""
        with suppress(OSError):
            if not writer.is_closing():
                writer.transport.set_write_buffer_limits(0)  # so that it drains to the last byte
                writer.write_eof()
            with anyio.move_on_after(self._limits.drain_seconds) as patience:
                await writer.drain()
            with anyio.move_on_after(self._limits.parting_seconds):
                while await stream.read(_PIECE):
                    pass
            return not patience.cancelled_caught
        return False
