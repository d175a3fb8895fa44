"""Speech as the answer to an HTTP request: a stream, server-sent events, or a whole."""

import asyncio
import base64
import io
import json
from collections.abc import Coroutine
from contextlib import aclosing
from tempfile import SpooledTemporaryFile
from typing import Any, Protocol

from anyio.to_thread import run_sync
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from cosyserve.errors import CosyError
from cosyserve.server.captions import HEADER as CAPTIONS_HEADER
from cosyserve.server.client import ClientGoneError, abort, taken
from cosyserve.server.delivery import Began, Delivery, usage
from cosyserve.server.failures import as_cosy_error, body_of, outcome_of
from cosyserve.server.service import key_of, service_of
from cosyserve.speech.audio import SAMPLE_RATE
from cosyserve.speech.captions import CaptionFormat
from cosyserve.speech.encoders import Format
from cosyserve.speech.label import HEADER
from cosyserve.speech.pipeline import SpeechRequest

_IN_MEMORY = 4 * 1024 * 1024  # bytes of a whole; what is longer goes on through a file
_PIECE = 64 * 1024


class Framing(Protocol):
    """How encoded audio is sent."""

    def media_type(self, fmt: Format) -> str: ...

    def audio(self, data: bytes) -> bytes: ...

    def began(self, segment: Began) -> bytes: ...

    def done(self, delivery: Delivery) -> bytes: ...

    def failed(self, error: CosyError) -> bytes | None:
        """The last message after a failure; None if only a broken connection can tell."""
        ...


class Raw:
    """The audio and nothing else."""

    def media_type(self, fmt: Format) -> str:
        return fmt.media_type

    def audio(self, data: bytes) -> bytes:
        return data

    def began(self, segment: Began) -> bytes:
        return b""

    def done(self, delivery: Delivery) -> bytes:
        return b""

    def failed(self, error: CosyError) -> bytes | None:
        return None


class ServerSentEvents:
    """OpenAI's `stream_format: sse`, with captions."""

    def __init__(self, characters: int) -> None:
        self._characters = characters

    def media_type(self, fmt: Format) -> str:
        return "text/event-stream"

    def audio(self, data: bytes) -> bytes:
        return _event(type="speech.audio.delta", audio=base64.b64encode(data).decode())

    def began(self, segment: Began) -> bytes:
        return _event(**segment.event)

    def done(self, delivery: Delivery) -> bytes:
        return _event(
            type="speech.audio.done",
            usage=usage(self._characters, delivery.stopwatch.audio_seconds),
            captions=[each.fields for each in delivery.captions],
        )

    def failed(self, error: CosyError) -> bytes | None:
        return _event(type="error", **body_of(error))


def _event(**fields: Any) -> bytes:
    return f"data: {json.dumps(fields)}\n\n".encode()


class SpeechResponse(Response):
    """An HTTP response with speech. Until the first audio exists it can still become an error status."""

    def __init__(
        self,
        request: Request,
        speech: SpeechRequest,
        fmt: Format,
        framing: Framing | None = None,
        captions: CaptionFormat | None = None,
    ) -> None:
        service = service_of(request)
        self._framing: Framing = framing or Raw()
        key = key_of(request)
        taken = service.quotas.take(key, speech.characters)
        pending = service.captions.pending(captions) if captions else None
        self._delivery = Delivery(service, request.scope["route"].path, speech, fmt, taken, pending)
        self._stall_seconds = service.settings.stall_seconds
        self._started = False
        headers = {
            "Cache-Control": "no-store",
            "X-Accel-Buffering": "no",  # a proxy such as nginx would hold the stream back
            "X-Sample-Rate": str(SAMPLE_RATE),
            "X-CosyServe-Synthesizer": service.synthesizer.name,
            **service.quotas.headers(key),
        }
        if label := self._delivery.label:
            headers[HEADER] = label.entry
        if pending:
            headers[CAPTIONS_HEADER] = pending.id
        super().__init__(headers=headers, media_type=self._framing.media_type(fmt))
        del self.headers["content-length"]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await _while_connected(receive, self._stream(send))
        except ClientGoneError as gone:
            self._delivery.record(gone.outcome)
            if gone.outcome == "stalled":
                abort(scope)
        except asyncio.CancelledError:
            # The server stops and the grace time is over. This is the task's end, so nobody waits for the
            # cancellation to go on, and uvicorn would only log it as a crash.
            self._delivery.record("cancelled")
        except Exception as problem:
            error = as_cosy_error(problem)
            if not self._started:
                raise error from problem
            self._delivery.record(outcome_of(error))
            # Without last words the response stays incomplete: the server then breaks the connection,
            # the only way to tell such a client that its audio is not whole.
            if last_words := self._framing.failed(error):
                try:
                    await self._send(send, last_words, more=False)
                except ClientGoneError:
                    abort(scope)
        else:
            self._delivery.record("ok")

    async def _stream(self, send: Send) -> None:
        async with aclosing(self._delivery.chunks()) as chunks:
            async for piece in chunks:
                if not self._started:
                    await self._start(send)
                if data := self._framed(piece):
                    await self._send(send, data, more=True)
        await self._send(send, self._framing.done(self._delivery), more=False)

    def _framed(self, piece: bytes | Began) -> bytes:
        if isinstance(piece, Began):
            return self._framing.began(piece)
        return self._framing.audio(piece) if piece else b""

    async def _start(self, send: Send) -> None:
        self._started = True
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})

    async def _send(self, send: Send, data: bytes, *, more: bool) -> None:
        await taken(send({"type": "http.response.body", "body": data, "more_body": more}), self._stall_seconds)


class WholeSpeechResponse(SpeechResponse):
    """The same, made completely before any of it is sent: it has a length, and an error status for every failure."""

    async def _stream(self, send: Send) -> None:
        with SpooledTemporaryFile(_IN_MEMORY) as file:
            async with self._delivery.whole(file):
                left = file.seek(0, io.SEEK_END)
                self.headers["content-length"] = str(left)
                await self._start(send)
                file.seek(0)
                while left:
                    piece = await run_sync(file.read, _PIECE)
                    left -= len(piece)
                    # The last piece says so: a client that has it all may leave before anything else is sent.
                    await self._send(send, piece, more=left > 0)


async def _while_connected(receive: Receive, work: Coroutine[Any, Any, None]) -> None:
    """Do `work`, but cancel it and raise ClientGoneError when the client disconnects first."""
    working = asyncio.ensure_future(work)
    watching = asyncio.ensure_future(_disconnected(receive))
    try:
        await asyncio.wait({working, watching}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise ClientGoneError("cancelled")
        await working
    finally:
        for task in (working, watching):
            task.cancel()
        await asyncio.gather(working, watching, return_exceptions=True)


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
