"""uvicorn's two protocols, with bounds on what a connection sends and on how long it takes.

What is refused here never reaches the application: a head that is too large, a request that does not come to its end.
"""

import asyncio
import logging
import sys
from enum import Enum
from functools import partial
from http import HTTPStatus
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from cosyserve import errors
from cosyserve.errors import CosyError
from cosyserve.server.connections import ABORT, Connections, cut
from cosyserve.server.failures import response_of

log = logging.getLogger(__name__)

_MOST_UNSENT = 4 * 1024 * 1024  # bytes that wait for a socket's client, such as answers to its pings
_GONE_IDLE = 1001  # WebSocket's code for an endpoint that goes away


class _Phase(Enum):
    """What the server waits for."""

    NOTHING = 0  # between two requests: uvicorn's own limit of a few seconds
    HEAD = 1
    BODY = 2
    ANSWER = 3  # for itself
    PARTING = 4  # for a client that was refused to read why


class PlainCycle(RequestResponseCycle):
    """HTTP/1.0 knows no chunks: the connection's end is the body's."""

    async def send(self, message: Any) -> None:
        if message["type"] == "http.response.start":
            self.chunked_encoding = False
        else:
            self.expected_content_length = len(message.get("body", b""))  # uvicorn counts down to nothing
        await super().send(message)


class _Writing:
    """For how long a client has taken nothing, and for how long a connection has been about to close."""

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


class Http(HttpToolsProtocol):
    def __init__(self, connections: Connections, **of_uvicorn: Any) -> None:
        super().__init__(**of_uvicorn)
        self._all, self._limits = connections, connections.limits
        self._phase, self._since = _Phase.HEAD, self.loop.time()
        self._body_began = 0.0
        self._received = 0  # bytes of the head or the body
        self._requests = 0  # that have begun and are not answered
        self._too_large = False
        self._piece = b""  # that is being parsed
        self._body_left = 0  # bytes of a body that the parser does not read

    @property
    def waits_since(self) -> float | None:
        return None if self._phase is _Phase.ANSWER else self._since

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._writing = _Writing(transport, self._limits.stall_seconds)
        if not self._all.admit(self):
            self._refuse(CosyError(errors.CONNECTIONS_FULL, retry_after=1, limit=self._limits.connections))

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._leave()

    def data_received(self, data: bytes) -> None:
        """A head is read only as far as it may be long."""
        while data and self._phase is not _Phase.PARTING and not self.transport.is_closing():
            if self._phase is _Phase.NOTHING:
                self._enter(_Phase.HEAD)
            if self._body_left:
                self._take_body(data)
                return
            piece = data
            if self._phase is _Phase.HEAD:
                piece = data[: self._limits.head_bytes - self._received]
                self._received += len(piece)
            data = data[len(piece) :]
            self._piece = piece
            super().data_received(piece)
            if self.transport.get_protocol() is not self:
                return  # it has become a WebSocket
            if self._phase is _Phase.HEAD and self._received >= self._limits.head_bytes:
                self._refuse_head()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        extensions: Any = {ABORT: partial(cut, self.transport)}
        self.scope["extensions"] = extensions
        if self._phase is not _Phase.HEAD:  # it comes right behind another one
            self._enter(_Phase.HEAD)
        self._requests += 1
        self._all.count(1)

    def on_header(self, name: bytes, value: bytes) -> None:
        if len(self.headers) >= self._limits.headers:
            self._too_large = True
            raise ValueError("too many headers")  # uvicorn answers what its parser raises
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        super().on_headers_complete()
        self._enter(_Phase.BODY)
        self._body_began, self._received = self._since, 0
        if self.cycle is not None:
            if self.scope["http_version"] == "1.0":
                self.cycle.__class__ = PlainCycle  # uvicorn makes its cycles itself
            if self.parser.should_upgrade():  # to something that it does not become
                self.cycle.keep_alive = False

    def on_body(self, body: bytes) -> None:
        self._enter(_Phase.BODY)
        self._received += len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        if self.parser.should_upgrade() and not self._should_upgrade() and not self._body_left:
            length = next((value for name, value in self.headers if name == b"content-length"), b"0")
            self._body_left = int(length)  # the parser has seen that it is a number
            if self._body_left:
                return
        super().on_message_complete()
        answered = self.cycle is not None and self.cycle.response_complete
        self._enter(_Phase.NOTHING if answered else _Phase.ANSWER)
        self._received = 0

    def on_response_complete(self) -> None:
        self._ended()
        if self._phase is _Phase.ANSWER and not self.pipeline:
            self._enter(_Phase.NOTHING)
        super().on_response_complete()

    def _should_upgrade(self) -> bool:
        """A WebSocket begins with GET; any other method is answered as what it is."""
        return self.scope.get("method") == "GET" and super()._should_upgrade()

    def _unsupported_upgrade_warning(self) -> None:
        """Some clients offer HTTP/2 in passing. The parser takes it as agreed on, and leaves the body to us."""
        problem = sys.exc_info()[1]  # which uvicorn is handling; it says how far the head went
        if problem is not None:
            self._take_body(self._piece[problem.args[0] :])

    def _take_body(self, data: bytes) -> None:
        body = data[: self._body_left]
        if body:
            self.on_body(body)
        if self._body_left and len(body) == self._body_left:
            super().on_message_complete()
            self._enter(_Phase.ANSWER)
        self._body_left -= len(body)

    def handle_websocket_upgrade(self) -> None:
        self._leave()  # the socket takes the place
        super().handle_websocket_upgrade()

    def send_400_response(self, msg: str) -> None:
        if self._too_large:
            self._refuse_head()
        else:
            self._refuse(CosyError(errors.REQUEST_INVALID, details="it is not HTTP"))

    def look(self, now: float) -> None:
        limits, waited = self._limits, now - self._since
        if self._phase in (_Phase.HEAD, _Phase.BODY) and self.flow.read_paused:
            self._since, self._body_began = now, self._body_began + waited  # it is the server that takes its time
        elif self._phase is _Phase.HEAD and waited > limits.head_seconds:
            self._refuse(CosyError(errors.REQUEST_SLOW))
        elif self._phase is _Phase.BODY:
            allowed = limits.body_seconds + self._received / limits.body_bytes_per_second
            if waited > limits.stall_seconds or now - self._body_began > allowed:
                self._refuse(CosyError(errors.REQUEST_SLOW))
        elif self._phase is _Phase.PARTING and waited > limits.parting_seconds:
            cut(self.transport)
        self._writing.look(now, paused=self.flow.write_paused)

    def _enter(self, phase: _Phase) -> None:
        self._phase, self._since = phase, self.loop.time()

    def _ended(self) -> None:
        if self._requests:
            self._requests -= 1
            self._all.count(-1)

    def _leave(self) -> None:
        self._all.leave(self)
        while self._requests:
            self._ended()

    def _refuse_head(self) -> None:
        self._refuse(CosyError(errors.HEAD_TOO_LARGE, limit=self._limits.head_bytes, headers=self._limits.headers))

    def _refuse(self, error: CosyError) -> None:
        """Answer, and read no more. What still comes is dropped for a moment: a connection that is closed on unread
        bytes takes its answer with it."""
        if self.transport.is_closing():
            return
        if self.cycle is not None and not self.cycle.response_complete:
            if self.cycle.response_started:
                cut(self.transport)
                return
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        response = response_of(error)
        status = HTTPStatus(response.status_code)
        head = [f"HTTP/1.1 {status.value} {status.phrase}".encode(), *map(b": ".join, response.raw_headers)]
        self.transport.write(b"\r\n".join([*head, b"connection: close", b"", bytes(response.body)]))
        self.transport.write_eof()
        self._enter(_Phase.PARTING)


class Socket(WebSocketsSansIOProtocol):
    def __init__(self, connections: Connections, **of_uvicorn: Any) -> None:
        super().__init__(**of_uvicorn)
        self._all = connections
        self._since = self.loop.time()

    waits_since = None  # a socket that is open is never in the way; the idle limit is for that

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._writing = _Writing(self.transport, self._all.limits.stall_seconds)
        self._all.admit(self)
        self._all.count(1)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._all.leave(self)
        self._all.count(-1)

    def data_received(self, data: bytes) -> None:
        try:
            super().data_received(data)
        except Exception as problem:  # of the library, over a head that is no WebSocket's
            log.info("A WebSocket is closed: %r", problem)
            cut(self.transport)
        if self.transport.get_write_buffer_size() > _MOST_UNSENT:
            cut(self.transport)

    def handle_connect(self, event: Any) -> None:
        super().handle_connect(event)
        if self.handshake_initiated and not self.handshake_complete:
            extensions: Any = {**self.scope["extensions"], ABORT: partial(cut, self.transport)}
            self.scope["extensions"] = extensions

    def handle_parser_exception(self) -> None:
        if self.conn.close_sent is None:  # it has not even begun
            cut(self.transport)
        else:
            super().handle_parser_exception()

    def send_receive_event_to_app(self) -> None:
        self._since = self.loop.time()
        super().send_receive_event_to_app()

    async def send(self, message: Any) -> None:
        await super().send(message)
        self._since = self.loop.time()
        if message["type"] == "websocket.http.response.body" and not message.get("more_body"):
            self.handshake_complete = True  # refused; uvicorn would complain that nobody answered

    def look(self, now: float) -> None:
        if now - self._since > self._all.limits.idle_seconds and not self.close_sent:
            self._close_idle()
        self._writing.look(now, paused=not self.writable.is_set())

    def _close_idle(self) -> None:
        if not self.handshake_complete:
            cut(self.transport)
            return
        self.stop_keepalive()
        self.conn.send_close(_GONE_IDLE, "nothing was said for too long")
        self.transport.write(b"".join(self.conn.data_to_send()))
        self.close_sent = True
        self.queue.put_nowait({"type": "websocket.disconnect", "code": _GONE_IDLE})
        self.transport.close()
