"""Sends one request's audio while it is made: admission, synthesis, encoding, socket.

Everything a request holds hangs on the one task that runs here. When its client goes away the task is
cancelled, and with it the synthesis, the encoder and the place in the queue.
"""

import asyncio
import base64
import json
import logging
import math
from collections.abc import AsyncGenerator, Coroutine
from contextlib import aclosing
from typing import Any, Protocol

import anyio
from anyio.to_thread import run_sync
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from cosyserve import errors
from cosyserve.errors import CosyError
from cosyserve.server.failures import body_of, outcome_of
from cosyserve.server.metrics import Stopwatch
from cosyserve.server.service import Service, service_of
from cosyserve.speech.audio import SAMPLE_RATE
from cosyserve.speech.encoders import Format
from cosyserve.speech.pipeline import Utterance, speak

log = logging.getLogger(__name__)

_SPEECH_TOKENS_PER_SECOND = 25  # CosyVoice2's rate; what `usage` counts as output


class Delivery:
    """One utterance on its way to one client, over whatever kind of connection."""

    def __init__(self, service: Service, endpoint: str, utterance: Utterance, fmt: Format) -> None:
        self._service, self._endpoint = service, endpoint
        self._utterance, self._format = utterance, fmt
        self.stopwatch = Stopwatch()

    async def chunks(self) -> AsyncGenerator[bytes, None]:
        """The encoded audio. The first piece comes with the first audio and may be empty, as some codecs
        need more before they say anything; a stream's place is held until the last piece is taken."""
        encoder = self._format.encoder()
        async with self._service.admission.place():
            self.stopwatch.admit()
            audio = speak(self._service.synthesizer, self._utterance, self._service.settings.max_audio_seconds)
            async with aclosing(audio):
                async for pcm in audio:
                    self.stopwatch.chunk(pcm.size / SAMPLE_RATE)
                    data = await run_sync(encoder.encode, pcm)
                    with self.stopwatch.delivering():
                        yield data
            if not self.stopwatch.audio_seconds:
                raise CosyError(errors.TEXT_EMPTY)
            yield await run_sync(encoder.finish)

    def record(self, outcome: str) -> None:
        """Count a request that got as far as audio, and say in the log how it went (never what it said)."""
        metrics, watch = self._service.metrics, self.stopwatch
        metrics.count(self._endpoint, outcome)
        metrics.audio_seconds.inc(watch.audio_seconds)
        if watch.first_chunk_seconds is None:
            log.info("%s %s before its first audio", self._endpoint, outcome)
            return
        metrics.first_chunk.observe(watch.first_chunk_seconds)
        metrics.real_time_factor.observe(watch.real_time_factor)
        log.info(
            "%s %s: %.2f s of %s, first chunk after %.0f ms, real-time factor %.3f",
            *(self._endpoint, outcome, watch.audio_seconds, self._format.name),
            *(1000 * watch.first_chunk_seconds, watch.real_time_factor),
        )


class Framing(Protocol):
    """How encoded audio is laid on the wire."""

    def media_type(self, fmt: Format) -> str: ...

    def audio(self, data: bytes) -> bytes: ...

    def done(self, seconds: float) -> bytes: ...

    def failed(self, error: CosyError) -> bytes | None:
        """The last words after a failure, or None where only a broken connection can tell."""
        ...


class Raw:
    """The audio and nothing else."""

    def media_type(self, fmt: Format) -> str:
        return fmt.media_type

    def audio(self, data: bytes) -> bytes:
        return data

    def done(self, seconds: float) -> bytes:
        return b""

    def failed(self, error: CosyError) -> bytes | None:
        return None


class ServerSentEvents:
    """OpenAI's `stream_format: sse`."""

    def __init__(self, characters: int) -> None:
        self._characters = characters

    def media_type(self, fmt: Format) -> str:
        return "text/event-stream"

    def audio(self, data: bytes) -> bytes:
        return _event(type="speech.audio.delta", audio=base64.b64encode(data).decode())

    def done(self, seconds: float) -> bytes:
        return _event(type="speech.audio.done", usage=usage(self._characters, seconds))

    def failed(self, error: CosyError) -> bytes | None:
        return _event(type="error", **body_of(error))


def usage(characters: int, seconds: float) -> dict[str, int]:
    """Characters in and speech tokens out, under the names OpenAI's clients read."""
    tokens = math.ceil(seconds * _SPEECH_TOKENS_PER_SECOND)
    return {"input_tokens": characters, "output_tokens": tokens, "total_tokens": characters + tokens}


def _event(**fields: Any) -> bytes:
    return f"data: {json.dumps(fields)}\n\n".encode()


class SpeechResponse(Response):
    """An HTTP response that is spoken. Until the first audio exists it can still become an error status."""

    def __init__(self, request: Request, utterance: Utterance, fmt: Format, framing: Framing | None = None) -> None:
        service = service_of(request)
        self._framing: Framing = framing or Raw()
        self._delivery = Delivery(service, request.scope["route"].path, utterance, fmt)
        self._stall_seconds = service.settings.stall_seconds
        self._started = False
        headers = {
            "Cache-Control": "no-store",
            "X-Accel-Buffering": "no",  # a proxy such as nginx would hold the stream back
            "X-Sample-Rate": str(SAMPLE_RATE),
            "X-CosyServe-Synthesizer": service.synthesizer.name,
        }
        super().__init__(headers=headers, media_type=self._framing.media_type(fmt))
        del self.headers["content-length"]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await _while_connected(receive, self._stream(send))
        except ClientGoneError as gone:
            self._delivery.record(gone.outcome)
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
                await send({"type": "http.response.body", "body": last_words})
        else:
            self._delivery.record("ok")

    async def _stream(self, send: Send) -> None:
        async with aclosing(self._delivery.chunks()) as chunks:
            async for data in chunks:
                if not self._started:
                    self._started = True
                    await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
                if data:
                    await self._send(send, self._framing.audio(data), more=True)
        await self._send(send, self._framing.done(self._delivery.stopwatch.audio_seconds), more=False)

    async def _send(self, send: Send, data: bytes, *, more: bool) -> None:
        with anyio.move_on_after(self._stall_seconds) as patience:
            await send({"type": "http.response.body", "body": data, "more_body": more})
        if patience.cancelled_caught:
            raise ClientGoneError("stalled")


class ClientGoneError(Exception):
    """The client closed its connection, or takes nothing any more."""

    def __init__(self, outcome: str) -> None:
        self.outcome = outcome


def as_cosy_error(problem: Exception) -> CosyError:
    """What the client is told; what it is not told goes to the log."""
    if isinstance(problem, CosyError):
        return problem
    log.error("Synthesis failed", exc_info=problem)
    return CosyError(errors.SYNTHESIS_FAILED)


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
