"""What happens to every request before a route sees it."""

import secrets

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cosyserve import errors, logs
from cosyserve.errors import CosyError
from cosyserve.server.failures import response_of
from cosyserve.server.service import State


class RequestId:
    """Gives each request an id: in its response as `X-Request-Id` and in every log line about it."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        request_id = secrets.token_hex(8)
        logs.request_id.set(request_id)  # this task serves this request and no other

        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers["X-Request-Id"] = request_id
                if scope["app"].state.service.state is State.RETIRING:
                    headers["Connection"] = "close"  # the client's next request goes to the successor
            await send(message)

        await self._app(scope, receive, send_with_id)


class BodyLimit:
    """Refuses bodies over a size: at once by their declared length, else as soon as they exceed it."""

    def __init__(self, app: ASGIApp, max_bytes: int) -> None:
        self._app, self._max_bytes = app, max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        declared = Headers(scope=scope).get("content-length", "0")
        if declared.isdecimal() and int(declared) > self._max_bytes:
            await response_of(self._error())(scope, receive, send)
            return
        received = 0

        async def counted() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > self._max_bytes:
                # An HTTPException, because that is what FastAPI lets through while it reads a body.
                raise HTTPException(413) from self._error()
            return message

        await self._app(scope, counted, send)

    def _error(self) -> CosyError:
        return CosyError(errors.BODY_TOO_LARGE, limit=self._max_bytes)
