"""uvicorn's WebSockets, with bounds on what a connection sends, on how much work it is, and on how long it takes."""

import asyncio
import logging
from functools import partial
from http import HTTPStatus
from typing import Any

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.datastructures import Headers
from websockets.frames import Frame
from websockets.http11 import Request, Response

from cosyserve import errors
from cosyserve.errors import CosyError
from cosyserve.server.connections import ABORT, Connections, Parting, Writing, cut
from cosyserve.server.failures import response_of

log = logging.getLogger(__name__)

_AT_ONCE = 8 * 1024  # bytes that are parsed before others get a turn
_MOST_UNSENT = 4 * 1024 * 1024  # bytes that wait for a client, such as answers to its pings
_MOST_FRAMES = 2000  # that bring no message to its end: pings, pongs, fragments
_TOO_MANY, _GONE_IDLE = 1008, 1001  # WebSocket's codes for what breaks a rule, and for an end that goes away


class Socket(WebSocketsSansIOProtocol):
    def __init__(self, connections: Connections, **of_uvicorn: Any) -> None:
        super().__init__(**of_uvicorn)
        self._all = connections
        self._since = self.loop.time()
        self._unread = bytearray()  # that is parsed when others have had their turn
        self._frames = 0  # since the last message
        self._parting: Parting | None = None
        self._accept, self.conn.accept = self.conn.accept, self._accepted  # type: ignore[method-assign]

    @property
    def waits_since(self) -> float | None:
        """A socket that is open is never in the way; the idle limit is for that."""
        return None if self.handshake_complete else self._since

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._writing = Writing(self.transport, self._all.limits.stall_seconds)
        self._all.admit(self)
        self._all.count(1)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._unread.clear()
        self._all.leave(self)
        self._all.count(-1)

    def data_received(self, data: bytes) -> None:
        if self._parting is not None:
            self._parting.go_on()
        if self._frames >= _MOST_FRAMES or self.conn.parser_exc is not None:
            return  # it was told
        idle = not self._unread
        self._unread += data
        if idle:
            self._read_on()

    def _read_on(self) -> None:
        """Parse as much as one turn may take. Frames can be tiny, and each is work."""
        piece = bytes(self._unread[:_AT_ONCE])
        del self._unread[:_AT_ONCE]
        if self._unread:
            self.transport.pause_reading()
        try:
            super().data_received(piece)
        except Exception as problem:  # of the library; what it says may repeat a key
            log.info("A WebSocket is closed: %s", type(problem).__name__)
            cut(self.transport)
        if self.transport.get_write_buffer_size() > _MOST_UNSENT:
            cut(self.transport)
        if self._unread:
            self.loop.call_soon(self._read_on)
        elif not self.read_paused and not self.transport.is_closing():
            self.transport.resume_reading()

    def _accepted(self, request: Request) -> Response:
        """The library's answer to a handshake; where it refuses, with an id and a remedy."""
        answer = self._accept(request)
        if answer.status_code == HTTPStatus.SWITCHING_PROTOCOLS:
            return answer
        ours = response_of(CosyError(errors.REQUEST_INVALID, details="a WebSocket cannot begin with these headers"))
        headers = Headers([*answer.headers.raw_items()])
        for name, value in ours.headers.items():
            headers.pop(name, None)
            headers[name] = value
        return Response(answer.status_code, answer.reason_phrase, headers, bytes(ours.body))

    def handle_connect(self, event: Request) -> None:
        super().handle_connect(event)
        if not self.handshake_complete:
            extensions: Any = {**self.scope["extensions"], ABORT: partial(cut, self.transport)}
            self.scope["extensions"] = extensions

    def handle_parser_exception(self) -> None:
        close = self.conn.close_sent
        if close is None:  # it has not even begun
            cut(self.transport)
            return
        self._unread.clear()
        self._part(close.code, close.reason)
        self.transport.write_eof()  # an answer to the close is not read any more

    def handle_ping(self) -> None:
        if self._is_worth_a_frame():
            super().handle_ping()

    def handle_pong(self, event: Frame) -> None:
        if self._is_worth_a_frame():
            super().handle_pong(event)

    def handle_cont(self, event: Frame) -> None:
        if self._is_worth_a_frame():
            super().handle_cont(event)

    def _is_worth_a_frame(self) -> bool:
        self._frames += 1
        if self._frames == _MOST_FRAMES:
            self._unread.clear()
            self._close(_TOO_MANY, "too many frames and no message")
        return self._frames < _MOST_FRAMES

    def send_receive_event_to_app(self) -> None:
        self._since, self._frames = self.loop.time(), 0
        super().send_receive_event_to_app()

    async def receive(self) -> Any:
        """As uvicorn's, but that what was read and is not parsed goes first."""
        message = await self.queue.get()
        if self.read_paused and self.queue.empty():
            self.read_paused = False
            if not self._unread:
                self.transport.resume_reading()
        return message

    async def send(self, message: Any) -> None:
        await super().send(message)
        self._since = self.loop.time()
        if message["type"] == "websocket.http.response.body" and not message.get("more_body"):
            self.handshake_complete = True  # refused; uvicorn would complain that nobody answered

    def look(self, now: float) -> None:
        waited = now - self._since
        if not self.handshake_complete:
            if waited > self._all.limits.head_seconds and not self.handshake_initiated:
                cut(self.transport)
        elif waited > self._all.limits.idle_seconds and not self.close_sent:
            self._close(_GONE_IDLE, "nothing was said for too long")
        self._writing.look(now, paused=not self.writable.is_set())

    def _close(self, code: int, reason: str) -> None:
        """Say why."""
        if not self.close_sent:
            self.conn.send_close(code, reason)
            self._part(code, reason)

    def _part(self, code: int, reason: str) -> None:
        """The library has a close to send; then the client gets time to read it."""
        self.stop_keepalive()
        self.transport.write(b"".join(self.conn.data_to_send()))
        self.close_sent = True
        self.queue.put_nowait({"type": "websocket.disconnect", "code": code, "reason": reason})
        self.read_paused = False
        self.transport.resume_reading()
        limits = self._all.limits
        self._parting = Parting(self.transport, limits.parting_seconds, limits.drain_seconds)
        # Without a timer of its own uvicorn closes as soon as the application is done.
        self.close_timer = self.loop.call_later(limits.drain_seconds, cut, self.transport)
