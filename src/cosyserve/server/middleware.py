"""Middleware: what happens to every request before and after the routes."""

import logging
import secrets
from collections.abc import Mapping

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cosyserve import errors, logs
from cosyserve.errors import CosyError
from cosyserve.server.failures import response_of
from cosyserve.server.service import ServerState
from cosyserve.traces.span import UNTRACED, Span
from cosyserve.traces.start import arrived

access = logging.getLogger("cosyserve.access")

_LONGEST_PATH = 200  # characters of it in the log
_UNTRACED = ("/", "/metrics", "/favicon.ico")  # beside the checks: the page, and what asks every few seconds
_METHODS = frozenset(("GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"))
_CHECKS = ("/livez", "/readyz", "/health")
_STARTS = ("http.response.start", "websocket.http.response.start", "websocket.accept")
_ACCEPTED = 101


class Envelope:
    """Gives each request an id, in its response as `X-Request-Id` and in every log line about it; a line of its own in
    the log; and the headers that keep browsers from taking a response for something else or framing it."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        request_id = secrets.token_hex(8)
        logs.request_id.set(request_id)  # this task serves this request and no other
        span = _span(scope, request_id)

        async def send_in_envelope(message: Message) -> None:
            if message["type"] in _STARTS:
                status = message.get("status", _ACCEPTED)
                _note(scope, status)
                span.note({"http.response.status_code": status})
                headers = MutableHeaders(scope=message)
                headers["X-Request-Id"] = request_id
                headers["X-Content-Type-Options"] = "nosniff"
                headers.setdefault("Content-Security-Policy", "frame-ancestors 'none'")
                if scope["app"].state.service.state is ServerState.RETIRING:
                    headers["Connection"] = "close"  # the client's next request goes to the successor
            await send(message)

        with span:
            try:
                await self._app(scope, receive, send_in_envelope)
            finally:
                if route := getattr(scope.get("route"), "path_format", ""):  # which is known only now
                    span.rename(f"{_method(scope)} {route}")
                    span.note({"http.route": route})


def _span(scope: Scope, request_id: str) -> Span:
    """The span of a request. Its names are those of OpenTelemetry's conventions for HTTP."""
    path, method = _path(scope), _method(scope)
    if path in (*_CHECKS, *_UNTRACED) or path.startswith("/web/"):
        return UNTRACED
    headers: dict[str, list[str]] = {}
    for name, value in scope["headers"]:
        headers.setdefault(name.decode("latin-1"), []).append(value.decode("latin-1"))
    facts = {"http.request.method": method, "url.path": path[:_LONGEST_PATH], "url.scheme": scope.get("scheme", "http")}
    return arrived(method, headers, {**facts, "cosyserve.request_id": request_id})


def _method(scope: Scope) -> str:
    method = str(scope.get("method", "GET"))  # a WebSocket begins as one
    return method if method in _METHODS else "_OTHER"


def _path(scope: Scope) -> str:
    """Only the path: queries contain texts, and keys that do not belong there."""
    return str((scope.get("raw_path") or scope["path"].encode()).decode("latin-1"))


def _note(scope: Scope, status: int) -> None:
    path = _path(scope)
    if status == 200 and path in _CHECKS:
        return  # an orchestrator asks every few seconds; only the answer that all is not well is worth a line
    client = "{}:{}".format(*scope["client"]) if scope.get("client") else "?"
    access.info('%s "%s %s" %d', client, scope.get("method", "WebSocket"), path[:_LONGEST_PATH], status)


class Addresses:
    """A slash at the end of an address makes no difference, and HEAD is GET without its body."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if len(path := scope["path"]) > 1 and path.endswith("/"):
            scope["path"] = path.rstrip("/") or "/"
        if scope.get("method") == "HEAD":
            await _head(self._app, {**scope, "method": "GET"}, receive, send)
        else:
            await self._app(scope, receive, send)


async def _head(app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
    """For HEAD, nothing is needed after the head, so whatever makes the body is told that the client has left."""
    started = False

    async def send_head(message: Message) -> None:
        nonlocal started
        if not started:
            started = True
            await send(message)
            await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def receive_until_head() -> Message:
        return {"type": "http.disconnect"} if started else await receive()

    await app(scope, receive_until_head, send_head)


class BodyLimit:
    """Refuses bodies over a size: at once by their declared length, otherwise as soon as they exceed it. Only a
    recording may be large, and at some paths a text; other large bodies would keep a parser busy for their whole
    length."""

    def __init__(self, app: ASGIApp, max_bytes: int, max_bytes_of_upload: int, max_bytes_at: Mapping[str, int]) -> None:
        self._app, self._max_bytes, self._max_bytes_of_upload = app, max_bytes, max_bytes_of_upload
        self._max_bytes_at = max_bytes_at

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        is_upload = headers.get("content-type", "").lower().startswith("multipart/form-data")
        most = self._max_bytes_at.get(scope["path"], self._max_bytes)
        limit = self._max_bytes_of_upload if is_upload else min(most, self._max_bytes_of_upload)
        too_large = CosyError(errors.BODY_TOO_LARGE, limit=limit)
        declared = headers.get("content-length", "0")
        if declared.isdecimal() and int(declared) > limit:
            await response_of(too_large)(scope, receive, send)
            return
        received = 0

        async def counted() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > limit:
                # An HTTPException, because that is what FastAPI lets through while it reads a body.
                raise HTTPException(413) from too_large
            return message

        await self._app(scope, counted, send)
