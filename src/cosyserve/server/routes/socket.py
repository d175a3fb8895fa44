"""WebSocket: text in as it comes (an LLM's tokens), audio out as it is made.

Text opens a generation and `input_text.flush` ends it: what is left is spoken, then `speech.audio.done` comes.
`input_text.cancel` drops everything at once. Generations are spoken one after the other. An error ends its
generation and leaves the session open. The messages are described in docs/api.md.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, MutableMapping
from contextlib import aclosing
from typing import Annotated, Any, Literal

import anyio
from fastapi import APIRouter, WebSocket, WebSocketDisconnect
from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from starlette.websockets import WebSocketState

from cosyserve import errors
from cosyserve.errors import CosyError
from cosyserve.server.bodies import most_bytes, parsed_json
from cosyserve.server.client import ClientGoneError, abort, taken
from cosyserve.server.delivery import Began, Delivery, usage
from cosyserve.server.door import chosen_protocol
from cosyserve.server.failures import as_cosy_error, body_of, outcome_of
from cosyserve.server.fields import Body, InputFormat, ShortText, unfit
from cosyserve.server.quotas import QuotaError, Taken
from cosyserve.server.routes.openai import FormatName, Seed, Speed
from cosyserve.server.service import key_of, service_of
from cosyserve.speech.audio import SAMPLE_RATE
from cosyserve.speech.encoders import FORMATS
from cosyserve.speech.pipeline import AnySegment
from cosyserve.speech.synthesizer import Options, pronounces
from cosyserve.text.checks import checked_piece
from cosyserve.text.front_end import Document, FragmentFrontEnd, FrontEnd, Sentence, segments
from cosyserve.text.lexicon import NO_WORDS, Words
from cosyserve.text.open_segments import open_segments
from cosyserve.text.ssml import Pause

router = APIRouter()

_PATH = "/v1/audio/speech/stream"
_FAREWELL_SECONDS = 1
_MOST_FIELDS = 16
_WHOLE = "interleave: SSML is read as a whole; use plain text"
_POLICY = 1008  # RFC 6455, 7.4.1
_MAX_WAITING = 16  # complete texts of one session that are not being spoken yet; each may be of the full length


class Update(Body):
    """How the following generations are spoken. A field that is missing keeps its value."""

    model_config = ConfigDict(strict=True, extra="forbid")

    type: Literal["session.update"]
    voice: ShortText = ""
    response_format: FormatName = "pcm"
    speed: Speed = 1.0
    instructions: ShortText = ""
    seed: Seed | None = None
    normalize: bool = True
    input_format: InputFormat = "text"
    interleave: bool = False

    @property
    def options(self) -> Options:
        return Options(self.instructions, seed=self.seed, interleave=self.interleave)

    def merged(self, later: "Update") -> "Update":
        return self.model_copy(update={name: getattr(later, name) for name in later.model_fields_set})


class Append(Body):
    type: Literal["input_text.append"]
    text: str


class Command(Body):
    type: Literal["input_text.flush", "input_text.cancel", "input_text.end"]


Message = Update | Append | Command
_MESSAGE: TypeAdapter[Message] = TypeAdapter(Annotated[Message, Field(discriminator="type")])


class Generation:
    """One text that is arriving, and how it is to be spoken."""

    taken: Taken
    outcome = "cancelled"  # for the metrics, if it is broken off

    def __init__(
        self,
        update: Update,
        max_chars: int,
        stall_seconds: float,
        *,
        pronounced: bool = False,
        words: Words = NO_WORDS,
    ) -> None:
        self.update, self.characters, self.complete = update, 0, False
        self._max_chars, self._stall_seconds = max_chars, stall_seconds
        self._pronounced, self._words = pronounced, words
        self._document: list[str] | None = [] if update.input_format == "ssml" else None  # which is read as a whole
        front_end = FragmentFrontEnd if update.interleave else FrontEnd
        self._front_end = front_end(normalize=update.normalize, pronounced=pronounced, words=words)
        self._half = ""  # of a surrogate pair, whose other half the next text begins with
        # No bound on its items, as a full queue would keep the session from reading a cancel; the text in
        # it is bounded by `max_chars`.
        self._sentences: asyncio.Queue[Sentence | Pause | None] = asyncio.Queue()
        self._last_text = anyio.current_time()

    def push(self, text: str) -> None:
        self._last_text = anyio.current_time()
        text = self._joined(text)
        self.characters += len(text)
        if self.characters > self._max_chars:
            raise CosyError(errors.TEXT_TOO_LONG, param="text", length=self.characters, limit=self._max_chars)
        text = checked_piece(text)
        if self._document is not None:
            self._document.append(text)
            return
        for sentence in self._front_end.push(text):
            self._sentences.put_nowait(sentence)

    def flush(self) -> None:
        checked_piece(self._half)  # nothing comes any more that could complete it
        self.complete = True
        for sentence in self._last():
            self._sentences.put_nowait(sentence)
        self._sentences.put_nowait(None)

    def _last(self) -> Iterable[Sentence | Pause]:
        if self._document is None:
            return self._front_end.flush()
        document, normalize = "".join(self._document), self.update.normalize
        return Document(document, normalize=normalize, pronounced=self._pronounced, words=self._words).items

    def _joined(self, text: str) -> str:
        """`text` behind the half that waited for it, and without the half that it ends with."""
        if self._half:
            text = (self._half + text).encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass")
        self._half = text[-1:] if "\ud800" <= text[-1:] <= "\udbff" else ""
        return text.removesuffix(self._half) if self._half else text

    def segments(self) -> AsyncIterator[AnySegment]:
        of_text = open_segments if self.update.interleave else segments
        return of_text(self, normalize=self.update.normalize, pronounced=self._pronounced)

    @property
    def waiting(self) -> bool:
        return not self._sentences.empty()

    async def next(self) -> Sentence | Pause | None:
        """The next sentence; None after the last. Waits as long as text keeps coming."""
        while not self.waiting and anyio.current_time() - self._last_text < self._stall_seconds:
            # Not asyncio.wait_for: before Python 3.12 it loses a cancel that comes with the sentence.
            with anyio.CancelScope(deadline=self._last_text + self._stall_seconds):
                return await self._sentences.get()
        if not self.waiting:
            raise CosyError(errors.TEXT_STALLED, seconds=self._stall_seconds)
        return self._sentences.get_nowait()


class Session:
    """Reads messages while another task speaks, so that a cancel takes effect in the middle of a word."""

    def __init__(self, socket: WebSocket) -> None:
        self._socket, self._service, self._key = socket, service_of(socket), key_of(socket)
        self._update = Update(type="session.update")
        self._open: Generation | None = None
        self._spoken: Generation | None = None  # the last that was begun to be spoken
        self._start_speaking()

    async def run(self) -> None:
        synthesizer = self._service.synthesizer.name
        try:
            await self._tell("session.created", synthesizer=synthesizer, sample_rate=SAMPLE_RATE)
            while True:
                try:
                    await self._handle(await self._received())
                except CosyError as error:
                    await self._refuse(error)
        except WebSocketDisconnect:
            pass
        except ClientGoneError:
            await self._break_off()
        finally:
            await self._stop_speaking()

    async def _refuse(self, error: CosyError) -> None:
        """End the text that is arriving, if any, and what waits. Of one that exceeds a limit, what came counts."""
        refused = self._open
        if refused is not None:
            refused.outcome = outcome_of(error)
        await self._stop_speaking()
        if refused is not None:
            if refused is not self._spoken:
                self._service.metrics.count(_PATH, refused.outcome, self._key.name)
            if not isinstance(error, QuotaError):
                refused.taken.fail()
        self._start_speaking()
        await self._tell("error", **body_of(error))

    async def _received(self) -> Message:
        frame = await self._socket.receive()
        if frame["type"] == "websocket.disconnect":
            raise WebSocketDisconnect(frame.get("code", 1000))
        return await _parsed(frame, self._service.settings.max_text_chars)

    async def _handle(self, message: Message) -> None:
        if isinstance(message, Update):
            update = self._update.merged(message)
            self._service.voice(update.voice)
            self._service.require_capabilities(update.options)
            if update.interleave and update.input_format == "ssml":
                raise CosyError(errors.MESSAGE_INVALID, param="interleave", details=_WHOLE)
            self._update = update
        elif isinstance(message, Append):
            await self._append(message.text)
        elif message.type == "input_text.cancel":
            await self._stop_speaking()
            self._start_speaking()
            await self._tell("speech.audio.cancelled")
        elif message.type == "input_text.flush":
            (self._open or self._generation()).flush()
            self._open = None
        else:
            if self._open is not None:
                self._open.flush()
                self._open = None
            self._generations.put_nowait(None)

    async def _append(self, text: str) -> None:
        if self._open is not None:
            self._open.taken.more(len(text))
            self._open.push(text)
            return
        try:
            taken = self._service.quotas.take(self._key, len(text))
        except CosyError as error:  # a text that has not begun; those before it go on
            self._service.metrics.count(_PATH, outcome_of(error), self._key.name)
            await self._tell("error", **body_of(error))
            if error.fault is errors.KEY_REFUSED:  # it has been revoked
                await self._send(self._socket.close, _POLICY)
            return
        with taken:
            self._generation(taken).push(text)

    def _generation(self, taken: Taken | None = None) -> Generation:
        """A new one, which is open from now on."""
        if self._generations.qsize() >= _MAX_WAITING:
            raise CosyError(errors.MESSAGE_INVALID, details=f"{_MAX_WAITING} texts are already waiting to be spoken")
        settings, pronounced = self._service.settings, pronounces(self._service.synthesizer)
        most, patience = settings.max_text_chars, settings.stall_seconds
        words = self._service.words(self._update.voice)
        self._open = Generation(self._update, most, patience, pronounced=pronounced, words=words)
        self._open.taken = taken or Taken(self._service.quotas, self._key)
        self._generations.put_nowait(self._open)
        return self._open

    def _start_speaking(self) -> None:
        self._generations: asyncio.Queue[Generation | None] = asyncio.Queue()
        self._speaking = asyncio.create_task(self._speak_all())

    async def _stop_speaking(self) -> None:
        self._open = None
        self._speaking.cancel()
        await asyncio.gather(self._speaking, return_exceptions=True)

    async def _speak_all(self) -> None:
        try:
            while (generation := await self._generations.get()) is not None:
                try:
                    await self._speak(generation)
                except CosyError as error:
                    if generation is self._open:
                        self._open = None
                    await self._tell("error", **body_of(error))
            await self._send(self._socket.close)
        except ClientGoneError:
            await self._break_off()

    async def _speak(self, generation: Generation) -> None:
        if generation.complete and not generation.characters:
            await self._tell("speech.audio.done", usage=usage(0, 0), captions=[])
            return
        update = generation.update
        speech = self._service.streamed(generation.segments(), update.voice, update.speed, update.options)
        delivery = Delivery(self._service, _PATH, speech, FORMATS[update.response_format or "pcm"], generation.taken)
        outcome, self._spoken = "", generation
        try:
            async with aclosing(delivery.chunks()) as chunks:
                async for piece in chunks:
                    if isinstance(piece, Began):
                        await self._tell(**piece.event)
                    elif piece:
                        await self._send(self._socket.send_bytes, piece)
            outcome = "ok"
        except ClientGoneError as gone:
            outcome = gone.outcome
            raise
        except WebSocketDisconnect:
            raise
        except Exception as problem:
            error = as_cosy_error(problem)
            outcome = outcome_of(error)
            raise error from problem
        finally:
            delivery.record(outcome or generation.outcome)
        seconds, captions = delivery.stopwatch.audio_seconds, [each.fields for each in delivery.captions]
        label = {"aigc": delivery.label.fields} if delivery.label else {}
        await self._tell("speech.audio.done", usage=usage(generation.characters, seconds), captions=captions, **label)

    async def _tell(self, type: str, **fields: Any) -> None:  # noqa: A002 - as the message calls it
        # ASCII: what is said of a message may repeat half a surrogate of it.
        await self._send(self._socket.send_text, json.dumps({"type": type, **fields}))

    async def _send(self, sending: Callable[..., Awaitable[None]], *what: object) -> None:
        if self._socket.application_state is WebSocketState.DISCONNECTED:  # a message crossed this side's close
            raise WebSocketDisconnect
        await taken(sending(*what), self._service.settings.stall_seconds)

    async def _break_off(self) -> None:
        """Leave a client that does not read, and so would not read a farewell either."""
        if not abort(self._socket.scope):
            with anyio.move_on_after(_FAREWELL_SECONDS):
                await self._socket.close()


async def _parsed(frame: MutableMapping[str, Any], max_chars: int) -> Message:
    text = frame.get("text")
    if text is None:
        raise CosyError(errors.MESSAGE_INVALID, details="messages are JSON in text frames, and this frame is binary")
    if len(text) > most_bytes(max_chars):  # not worth the time that it would take
        raise CosyError(errors.TEXT_TOO_LONG, param="text", length=len(text), limit=max_chars)
    try:
        message = await parsed_json(text)
        if isinstance(message, dict) and len(message) > _MOST_FIELDS:
            raise CosyError(errors.MESSAGE_INVALID, details=f"it has {len(message)} fields")
        return _MESSAGE.validate_python(message)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        location = [str(part) for part in first["loc"][1:]]
        if location == ["session"]:
            details = "session: there is no such field; voice, speed and the others stand at the top level, beside type"
            raise CosyError(errors.MESSAGE_INVALID, param="session", details=details) from None
        raise unfit(first, location, errors.MESSAGE_INVALID) from None
    except ValueError as error:
        raise CosyError(errors.MESSAGE_INVALID, details=f"it is not JSON: {error}") from None


@router.websocket(_PATH)
async def stream_speech(socket: WebSocket) -> None:
    await socket.accept(chosen_protocol(socket.scope["subprotocols"]))
    await Session(socket).run()
