"""WebSocket: text in as it comes (an LLM's tokens), audio out as it is made.

Text opens a generation and `input_text.flush` ends it: what is left is spoken, then `speech.audio.done` comes.
`input_text.cancel` drops everything at once. Generations are spoken one after the other. An error ends its
generation and leaves the session open. The messages are described in docs/api.md.
"""

import asyncio
from collections.abc import AsyncIterator, MutableMapping
from contextlib import aclosing
from typing import Annotated, Any, Literal

import anyio
from fastapi import APIRouter, WebSocket, WebSocketDisconnect
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from cosyserve import errors
from cosyserve.errors import CosyError
from cosyserve.server.delivery import ClientGoneError, Delivery, as_cosy_error, usage
from cosyserve.server.door import chosen_protocol
from cosyserve.server.failures import body_of, outcome_of
from cosyserve.server.routes.openai import FormatName, Seed, Speed
from cosyserve.server.service import service_of
from cosyserve.speech.audio import SAMPLE_RATE
from cosyserve.speech.encoders import FORMATS
from cosyserve.speech.segments import Segmenter
from cosyserve.speech.synthesizer import Options
from cosyserve.speech.text import clean_piece

router = APIRouter()

_PATH = "/v1/audio/speech/stream"
_MAX_WAITING = 16  # complete texts of one session that are not being spoken yet; each may be of the full length


class Update(BaseModel):
    """How the generations that follow are spoken."""

    model_config = ConfigDict(strict=True)

    type: Literal["session.update"]
    voice: str = ""
    response_format: FormatName = "pcm"
    speed: Speed = 1.0
    instructions: str = ""
    seed: Seed | None = None

    @property
    def options(self) -> Options:
        return Options(self.instructions, seed=self.seed)


class Append(BaseModel):
    model_config = ConfigDict(strict=True)

    type: Literal["input_text.append"]
    text: str


class Command(BaseModel):
    type: Literal["input_text.flush", "input_text.cancel", "input_text.end"]


Message = Update | Append | Command
_MESSAGE: TypeAdapter[Message] = TypeAdapter(Annotated[Message, Field(discriminator="type")])


class Generation:
    """One text that is arriving, and how it is to be spoken."""

    def __init__(self, update: Update, max_chars: int, stall_seconds: float) -> None:
        self.update, self.characters = update, 0
        self._max_chars, self._stall_seconds = max_chars, stall_seconds
        self._segmenter = Segmenter()
        # No bound on its items, as a full queue would keep the session from reading a cancel; the text in
        # it is bounded by `max_chars`.
        self._segments: asyncio.Queue[str | None] = asyncio.Queue()

    def push(self, text: str) -> None:
        self.characters += len(text)
        if self.characters > self._max_chars:
            raise CosyError(errors.TEXT_TOO_LONG, param="text", length=self.characters, limit=self._max_chars)
        for segment in self._segmenter.push(clean_piece(text)):
            self._segments.put_nowait(segment)

    def flush(self) -> None:
        for segment in self._segmenter.flush():
            self._segments.put_nowait(segment)
        self._segments.put_nowait(None)

    async def segments(self) -> AsyncIterator[str]:
        while True:
            try:
                # Not asyncio.wait_for: before Python 3.12 it loses a cancel that comes with the segment.
                with anyio.fail_after(self._stall_seconds):
                    segment = await self._segments.get()
            except TimeoutError:
                raise CosyError(errors.TEXT_STALLED, seconds=self._stall_seconds) from None
            if segment is None:
                return
            yield segment


class Session:
    """Reads messages while a task of its own speaks, so that a cancel is heard in the middle of a word."""

    def __init__(self, socket: WebSocket) -> None:
        self._socket, self._service = socket, service_of(socket)
        self._update = Update(type="session.update")
        self._open: Generation | None = None
        self._start_speaking()

    async def run(self) -> None:
        synthesizer = self._service.synthesizer.name
        try:
            await self._tell("session.created", synthesizer=synthesizer, sample_rate=SAMPLE_RATE)
            while True:
                try:
                    await self._handle(self._parse(await self._socket.receive()))
                except CosyError as error:
                    await self._stop_speaking()
                    self._start_speaking()
                    await self._tell("error", **body_of(error))
        except WebSocketDisconnect:
            pass
        finally:
            await self._stop_speaking()

    def _parse(self, frame: MutableMapping[str, Any]) -> Message:
        if frame["type"] == "websocket.disconnect":
            raise WebSocketDisconnect(frame.get("code", 1000))
        try:
            return _MESSAGE.validate_json(frame.get("text") or "")
        except ValidationError as error:
            first = error.errors(include_input=False, include_url=False)[0]
            place = ".".join(map(str, first["loc"][1:]))
            raise CosyError(
                errors.MESSAGE_INVALID, param=place or None, details=f"{place or 'message'}: {first['msg']}"
            ) from None

    async def _handle(self, message: Message) -> None:
        if isinstance(message, Update):
            self._service.voice(message.voice)
            self._service.require_capabilities(message.options)
            self._update = message
        elif isinstance(message, Append):
            if self._open is None:
                if self._generations.qsize() >= _MAX_WAITING:
                    raise CosyError(errors.MESSAGE_INVALID, details=f"{_MAX_WAITING} texts wait to be spoken already")
                settings = self._service.settings
                self._open = Generation(self._update, settings.max_text_chars, settings.stall_seconds)
                self._generations.put_nowait(self._open)
            self._open.push(message.text)
        elif message.type == "input_text.cancel":
            await self._stop_speaking()
            self._start_speaking()
            await self._tell("speech.audio.cancelled")
        else:
            if self._open is not None:
                self._open.flush()
                self._open = None
            if message.type == "input_text.end":
                self._generations.put_nowait(None)

    def _start_speaking(self) -> None:
        self._generations: asyncio.Queue[Generation | None] = asyncio.Queue()
        self._speaking = asyncio.create_task(self._speak_all())

    async def _stop_speaking(self) -> None:
        self._open = None
        self._speaking.cancel()
        await asyncio.gather(self._speaking, return_exceptions=True)

    async def _speak_all(self) -> None:
        while (generation := await self._generations.get()) is not None:
            try:
                await self._speak(generation)
            except CosyError as error:
                if generation is self._open:
                    self._open = None
                await self._tell("error", **body_of(error))
        await self._socket.close()

    async def _speak(self, generation: Generation) -> None:
        update = generation.update
        utterance = self._service.streamed(generation.segments(), update.voice, update.speed, update.options)
        delivery = Delivery(self._service, _PATH, utterance, FORMATS[update.response_format])
        outcome = "cancelled"
        try:
            async with aclosing(delivery.chunks()) as chunks:
                async for data in chunks:
                    if data:
                        await self._send(data)
            outcome = "ok"
        except ClientGoneError as gone:
            outcome = gone.outcome
            await self._socket.close()
            return
        except Exception as problem:
            error = as_cosy_error(problem)
            outcome = outcome_of(error)
            raise error from problem
        finally:
            delivery.record(outcome)
        seconds = delivery.stopwatch.audio_seconds
        await self._tell("speech.audio.done", usage=usage(generation.characters, seconds))

    async def _send(self, data: bytes) -> None:
        with anyio.move_on_after(self._service.settings.stall_seconds) as patience:
            await self._socket.send_bytes(data)
        if patience.cancelled_caught:
            raise ClientGoneError("stalled")

    async def _tell(self, kind: str, **fields: Any) -> None:
        await self._socket.send_json({"type": kind, **fields})


@router.websocket(_PATH)
async def stream_speech(socket: WebSocket) -> None:
    await socket.accept(chosen_protocol(socket.scope["subprotocols"]))
    await Session(socket).run()
