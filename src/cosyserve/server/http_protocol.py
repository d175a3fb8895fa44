"""uvicorn's HTTP protocol, with bounds on the size and the duration of what a connection sends.

What is refused here never reaches the application: a head that is too large, a request that never ends.
"""

import asyncio
import sys
from collections.abc import Callable
from enum import Enum
from functools import partial
from http import HTTPStatus
from typing import Any, cast

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from cosyserve import errors
from cosyserve.errors import CosyError
from cosyserve.server.connections import ABORT, Connections, Parting, Writing, cut
from cosyserve.server.failures import response_of

_AT_ONCE = 8 * 1024  # bytes of a body, between two looks at what comes around it


class _Phase(Enum):
    """What the server waits for."""

    NOTHING = 0  # between two requests: uvicorn's own limit of a few seconds
    HEAD = 1
    BODY = 2
    ANSWER = 3  # for itself
    PARTING = 4  # for a client that was refused to read why


class Cycle(RequestResponseCycle):
    """A request and its answer. If more of the body would still come than is allowed, the answer says that the
    connection ends with it; otherwise the client would send its next request on a connection that is about to be
    closed."""

    may_be_too_large = False  # its body

    async def send(self, message: Any) -> None:
        if message["type"] == "http.response.start" and self.more_body and self.may_be_too_large:
            self.keep_alive = False
        await super().send(message)


class PlainCycle(Cycle):
    """HTTP/1.0 knows no chunks: the connection's end is the body's."""

    async def send(self, message: Any) -> None:
        if message["type"] == "http.response.start":
            self.chunked_encoding = False
        else:
            self.expected_content_length = len(message.get("body", b""))  # uvicorn counts down to nothing
        await super().send(message)


class _Closing:
    """A transport for a request's cycle, which closes it as soon as it has answered."""

    def __init__(self, transport: asyncio.Transport, close: Callable[[], None]) -> None:
        self._transport, self.close = transport, close

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


class _BodyAlone:
    """Parses the body of a request whose head offers an upgrade, which uvicorn's parser would treat as agreed."""

    def __init__(self, framing: bytes, on_body: Callable[[bytes], None], on_end: Callable[[], None]) -> None:
        self.on_body, self.on_message_complete = on_body, on_end
        self._parser = httptools.HttpRequestParser(self)
        self._parser.feed_data(b"POST / HTTP/1.1\r\n" + framing + b"\r\n\r\n")

    def feed(self, data: bytes) -> None:
        """Raises `httptools.HttpParserError`."""
        self._parser.feed_data(data)


class Http(HttpToolsProtocol):
    def __init__(self, connections: Connections, **of_uvicorn: Any) -> None:
        super().__init__(**of_uvicorn)
        self._all, self._limits = connections, connections.limits
        self._phase, self._since = _Phase.HEAD, self.loop.time()
        self._body_began = 0.0
        self._received = 0  # bytes of the head or the body
        self._framing = 0  # bytes that came with the body and are not of it: sizes of chunks, trailers
        self._requests = 0  # that have begun and are not answered
        self._too_large = False
        self._parting: Parting | None = None
        self._piece = b""  # that is being parsed
        self._body: _BodyAlone | None = None

    @property
    def waits_since(self) -> float | None:
        return None if self._phase is _Phase.ANSWER else self._since

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._writing = Writing(transport, self._limits.stall_seconds)
        if not self._all.admit(self):
            self._refuse(CosyError(errors.CONNECTIONS_FULL, retry_after=1, limit=self._limits.connections))

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._leave()

    def data_received(self, data: bytes) -> None:
        """A head is parsed only up to its allowed length, a body only with a limited amount of framing around it."""
        if self._parting is not None:
            self._parting.go_on()
        while data and self._phase is not _Phase.PARTING and not self.transport.is_closing():
            if self._phase is _Phase.NOTHING:
                self._enter(_Phase.HEAD)
            self._piece, data = self._cut_off(data)
            if self._body is not None:
                self._feed_body(self._piece)
            else:
                super().data_received(self._piece)
            if self.transport.get_protocol() is not self:
                return  # it has become a WebSocket
            if self._phase is _Phase.HEAD and self._received >= self._limits.head_bytes:
                self._refuse_head()
            if self._framing > self._limits.head_bytes + self._received // 4:
                self._refuse(CosyError(errors.REQUEST_INVALID, details="more comes around its body than in it"))

    def _cut_off(self, data: bytes) -> tuple[bytes, bytes]:
        """The part to parse now, and the rest."""
        size = len(data)
        if self._phase is _Phase.HEAD:
            size = min(size, self._limits.head_bytes - self._received)
            self._received += size
        elif self._phase is _Phase.BODY:
            size = min(size, _AT_ONCE)
            self._framing += size
        return data[:size], data[size:]

    def on_message_begin(self) -> None:
        super().on_message_begin()
        extensions: Any = {ABORT: partial(cut, self.transport)}
        self.scope["extensions"] = extensions
        if self._phase is not _Phase.HEAD:  # it comes right behind another one
            self._enter(_Phase.HEAD)
        self._requests += 1
        self._all.count(1)

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._phase is not _Phase.HEAD:
            return  # a trailer, which nobody has looked at
        if len(self.headers) >= self._limits.headers:
            self._too_large = True
            raise ValueError("too many headers")  # uvicorn answers what its parser raises
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        super().on_headers_complete()
        self._enter(_Phase.BODY)
        self._body_began, self._received, self._framing = self._since, 0, 0
        if self.cycle is not None:
            self.cycle.transport = cast("asyncio.Transport", _Closing(self.transport, self._close))
            plain = self.scope["http_version"] == "1.0"
            self.cycle.__class__ = PlainCycle if plain else Cycle  # uvicorn makes its cycles itself
            cast("Cycle", self.cycle).may_be_too_large = self._may_be_too_large()
            if plain:
                self.cycle.waiting_for_100_continue = False
            if self.parser.should_upgrade():  # to something that it does not become
                self.cycle.keep_alive = False

    def _may_be_too_large(self) -> bool:
        """The parser accepts a single length of digits, or chunks, whose total is unknown."""
        lengths = [int(value) for name, value in self.headers if name == b"content-length"]
        chunked = any(name == b"transfer-encoding" for name, _ in self.headers)
        return chunked or any(length > self._limits.body_bytes for length in lengths)

    def on_body(self, body: bytes) -> None:
        self._enter(_Phase.BODY)
        self._received += len(body)
        self._framing = max(0, self._framing - len(body))
        if self._received > self._limits.body_bytes and self.cycle.response_complete:
            self._part()  # it was told that it is too large, and goes on
        super().on_body(body)

    def on_message_complete(self) -> None:
        if self._body is None and self.parser.should_upgrade() and not self._should_upgrade():
            framing = next(
                (pair for pair in self.headers if pair[0] in (b"transfer-encoding", b"content-length")), None
            )
            if framing is not None:
                self._body = _BodyAlone(b": ".join(framing), self.on_body, self._end_message)
                return
        self._end_message()

    def _end_message(self) -> None:
        super().on_message_complete()
        answered = self.cycle is not None and self.cycle.response_complete
        self._enter(_Phase.NOTHING if answered else _Phase.ANSWER)
        self._received = self._framing = 0

    def on_response_complete(self) -> None:
        self._ended()
        if self._phase is _Phase.ANSWER and not self.pipeline:
            self._enter(_Phase.NOTHING)
        super().on_response_complete()

    def _get_upgrade(self) -> bytes | None:
        """uvicorn looks at the last `Connection` alone; a proxy may have added one."""
        tokens = b",".join(value for name, value in self.headers if name == b"connection").lower().split(b",")
        upgrades = [value.lower() for name, value in self.headers if name == b"upgrade"]
        return upgrades[-1] if upgrades and b"upgrade" in map(bytes.strip, tokens) else None

    def _should_upgrade(self) -> bool:
        """A WebSocket begins with GET; other methods are handled as ordinary requests."""
        return self.scope.get("method") == "GET" and super()._should_upgrade()

    def _unsupported_upgrade_warning(self) -> None:
        """Some clients offer HTTP/2 in passing, with their body right behind it."""
        problem = sys.exc_info()[1]  # which uvicorn is handling; it says how far the head went
        if problem is not None and self._body is not None:
            self._feed_body(self._piece[problem.args[0] :])

    def _feed_body(self, data: bytes) -> None:
        assert self._body is not None  # noqa: S101 - called only where there is one
        try:
            self._body.feed(data)
        except httptools.HttpParserError:
            self.send_400_response("")

    def handle_websocket_upgrade(self) -> None:
        """Answers here what the library's own parser of heads would fail on without any message."""
        if any(name in (b"content-length", b"transfer-encoding") for name, _ in self.headers):
            self._refuse(CosyError(errors.REQUEST_INVALID, details="a WebSocket request has no body"))
        elif max(len(self.url), *(len(name) + len(value) for name, value in self.headers)) > self._limits.line_bytes:
            self._refuse_head()
        elif not all(value.isascii() for _, value in self.headers):
            self._refuse(CosyError(errors.REQUEST_INVALID, details="a WebSocket's headers are ASCII"))
        else:
            self._leave()  # the socket takes the place
            super().handle_websocket_upgrade()

    def send_400_response(self, msg: str) -> None:
        if self._too_large:
            self._refuse_head()
        else:
            details = "it is not HTTP; an address has to be percent-encoded"
            self._refuse(CosyError(errors.REQUEST_INVALID, details=details))

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
        self._writing.look(now, paused=self.flow.write_paused)

    def _enter(self, phase: _Phase) -> None:
        if self._phase is not _Phase.PARTING:  # which is the last one
            self._phase = phase
        self._since = self.loop.time()

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
        """Answer, and accept nothing more. If another answer is due or under way, this one is not sent."""
        if self._phase is _Phase.PARTING or self.transport.is_closing():
            return
        own = self._phase is _Phase.BODY and not self.pipeline
        if self.cycle is not None and (self.cycle.response_started or not own):
            if self.pipeline or not self.cycle.response_complete or own:
                cut(self.transport)
                return
        elif self.cycle is not None:
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        response = response_of(error)
        status = HTTPStatus(response.status_code)
        head = [f"HTTP/1.1 {status.value} {status.phrase}".encode(), *map(b": ".join, response.raw_headers)]
        self.transport.write(b"\r\n".join([*head, b"connection: close", b"", bytes(response.body)]))
        self._part()

    def _close(self) -> None:
        """After an answer, or amidst one that has failed."""
        if self._phase is _Phase.BODY:
            self._part()
        else:
            self.transport.close()

    def _part(self) -> None:
        """Send nothing more, and give the client time to read the answer."""
        if self._phase is _Phase.PARTING or self.transport.is_closing():
            return
        self._enter(_Phase.PARTING)
        self.transport.write_eof()
        self.flow.resume_reading()
        limits = self._limits
        most = limits.drain_seconds if self in self._all else limits.parting_seconds
        self._parting = Parting(self.transport, limits.parting_seconds, most)

    def timeout_keep_alive_handler(self) -> None:
        if self._phase is not _Phase.PARTING:
            super().timeout_keep_alive_handler()
