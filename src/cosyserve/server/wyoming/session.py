"""What one Wyoming client asks for: events in, speech out, in the order in which it was asked for.

Another task speaks while events are read, so text may arrive piece by piece, and a client that leaves stops its speech.
An error ends the connection, because Home Assistant would wait for audio until it does.
"""

import asyncio
import logging
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from dataclasses import dataclass

from anyio.lowlevel import checkpoint

from cosyserve import errors, logs
from cosyserve.errors import CosyError
from cosyserve.keys import MAIN
from cosyserve.server.client import ClientGoneError, taken
from cosyserve.server.delivery import Began, Delivery
from cosyserve.server.failures import as_cosy_error, body_of, outcome_of
from cosyserve.server.middleware import access
from cosyserve.server.quotas import Taken
from cosyserve.server.routes.socket import Generation, Update
from cosyserve.server.service import Service
from cosyserve.server.wyoming.events import Event, Reader, valid
from cosyserve.server.wyoming.messages import Piece, Ping, Start, Synthesize, info, voice_name
from cosyserve.speech.audio import SAMPLE_RATE
from cosyserve.speech.encoders import FORMATS
from cosyserve.speech.pipeline import AnySegment, SpeechRequest
from cosyserve.speech.synthesizer import pronounces

log = logging.getLogger(__name__)

ENDPOINT = "wyoming"  # in the metrics and the log

_WIDTH = 2  # bytes of a sample
_FORMAT = {"rate": SAMPLE_RATE, "width": _WIDTH, "channels": 1}
_PIECE = SAMPLE_RATE // 10 * _WIDTH  # bytes of audio in an event
_MOST_WAITING = 16  # texts of one client that are not being spoken yet
_MOST_IDLE_EVENTS = 1000  # in a row that bring no text


@dataclass(frozen=True)
class Asked:
    """A text to speak; a `streamed` one came piece by piece. What it takes is the main key's, as Wyoming has none."""

    speech: SpeechRequest
    taken: Taken
    streamed: bool


class Session:
    """`count` is called for every text that begins (1) and ends (-1) to be spoken."""

    def __init__(
        self,
        service: Service,
        reader: Reader,
        writer: asyncio.StreamWriter,
        client: str,
        count: Callable[[int], None],
    ) -> None:
        self._service, self._reader, self._writer = service, reader, writer
        self._client, self._count = client, count
        self._open: Generation | None = None
        self._asked: asyncio.Queue[Asked | None] = asyncio.Queue()  # None is the end
        self._sending = asyncio.Lock()
        self._begun = False  # whether there is something of a text to speak
        self._idle_events = 0
        self.owes_sound = False
        self.last_text = asyncio.get_running_loop().time()

    @property
    def is_idle(self) -> bool:
        """Whether the client has to go on: it has asked for nothing, or begun a text and not said any of it."""
        return not (self._begun or self._asked.qsize())

    def finish(self) -> None:
        """End once all is spoken that was asked for."""
        self._asked.put_nowait(None)

    async def run(self) -> None:
        """Serve the client until it leaves; raises ClientGoneError if it reads nothing. An error is told to it."""
        tasks = [asyncio.create_task(self._listen()), asyncio.create_task(self._speak_all())]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                await task
        except CosyError as error:
            await self.refuse(error)
        except ClientGoneError:
            raise
        except Exception:
            log.exception("A Wyoming event could not be handled")
            await self.refuse(CosyError(errors.INTERNAL))
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def refuse(self, error: CosyError) -> None:
        """Say why the connection ends."""
        told = body_of(error)["error"]
        extra = {name: told[name] for name in ("param", "remedy", "message_zh", "remedy_zh")}
        await self._say("error", text=told["message"], code=told["code"], retry_after=error.retry_after, **extra)

    async def _listen(self) -> None:
        try:
            while (event := await self._reader.read()) is not None:
                await self._handle(event)
                await checkpoint()  # what has been read already may be many events
        except CosyError as error:
            self.record(error)
            raise

    async def _handle(self, event: Event) -> None:
        self._idle_events += 1
        if self._idle_events > _MOST_IDLE_EVENTS:
            raise CosyError(errors.WYOMING_EVENT, details=f"it is the {self._idle_events}th in a row without any text")
        match event.type:
            case "describe":
                await self._say("info", **info(self._service.synthesizer, self._service.default_voice))
            case "ping":
                await self._say("pong", text=valid(Ping, event.data).text)
            case "synthesize":
                self._ask(valid(Synthesize, event.data))
            case "synthesize-start":
                self._start(valid(Start, event.data))
            case "synthesize-chunk":
                self._push(valid(Piece, event.data).text)
            case "synthesize-stop":
                self._generation().flush()
                self._open = None
            case _:  # of other services, or of a later version
                pass

    def _ask(self, message: Synthesize) -> None:
        if self._open is not None:  # the same text once more, for servers that take no pieces
            return
        voice = self._voice(message)
        speech = self._service.speech(message.text, voice, ssml=message.ssml)
        self._put(Asked(speech, self._service.quotas.take(MAIN, len(message.text)), streamed=False))
        self._heard()

    def _start(self, message: Start) -> None:
        if self._open is not None:
            raise CosyError(errors.WYOMING_EVENT, details="the text before has no synthesize-stop")
        voice, settings = self._voice(message), self._service.settings
        update = Update(type="session.update", voice=voice, input_format=message.text_format)
        pronounced, words = pronounces(self._service.synthesizer), self._service.words(voice)
        self._open = Generation(
            update, settings.max_text_chars, settings.stall_seconds, pronounced=pronounced, words=words
        )
        self._open.taken = self._service.quotas.take(MAIN, 0)
        segments = self._noticed(self._open.segments())
        self._put(Asked(self._service.streamed(segments, voice), self._open.taken, streamed=True))

    async def _noticed(self, segments: AsyncIterator[AnySegment]) -> AsyncIterator[AnySegment]:
        """The same, but the session knows when the first has come."""
        async for segment in segments:
            self._begun = True
            yield segment

    def _push(self, text: str) -> None:
        generation = self._generation()
        generation.push(text)
        generation.taken.more(len(text))
        if text:
            self._heard()

    def _generation(self) -> Generation:
        if self._open is None:
            raise CosyError(errors.WYOMING_EVENT, details="there was no synthesize-start before it")
        return self._open

    def _voice(self, message: Start) -> str:
        service = self._service
        return voice_name(message.voice, service.default_voice, service.synthesizer.voices.values())

    def _put(self, asked: Asked) -> None:
        if self._asked.qsize() >= _MOST_WAITING:
            raise CosyError(errors.WYOMING_EVENT, details=f"{_MOST_WAITING} texts are already waiting to be spoken")
        self._asked.put_nowait(asked)

    def _heard(self) -> None:
        self._idle_events = 0
        self.last_text = asyncio.get_running_loop().time()

    async def _speak_all(self) -> None:
        while (asked := await self._asked.get()) is not None:
            logs.request_id.set(secrets.token_hex(8))
            self._begun = not asked.streamed
            self._count(1)
            self.owes_sound = True
            try:
                await self._speak(asked)
            finally:
                self._count(-1)
                self.owes_sound = False
                self._begun = False
                self.last_text = asyncio.get_running_loop().time()

    async def _speak(self, asked: Asked) -> None:
        delivery = Delivery(self._service, ENDPOINT, asked.speech, FORMATS["pcm"], asked.taken)
        outcome, status = "cancelled", 499
        sent = 0
        try:
            async with aclosing(delivery.chunks()) as chunks:
                async for data in chunks:
                    if isinstance(data, Began):  # captions, for which Wyoming has no event
                        continue
                    if not sent:
                        label = {"aigc": dict(delivery.label.fields)} if delivery.label else {}
                        await self._say("audio-start", **_FORMAT, timestamp=0, **label)
                    await self._send(b"".join(_audio(data, sent)))
                    sent += len(data)
            self.owes_sound = False
            outcome, status = "ok", 200
        except ClientGoneError as gone:
            outcome = gone.outcome
            raise
        except Exception as problem:
            error = as_cosy_error(problem)
            outcome, status = outcome_of(error), error.fault.status
            raise error from problem
        finally:
            delivery.record(outcome)
            access.info('%s "Wyoming synthesize" %d', self._client, status)
        await self._say("audio-stop", timestamp=_milliseconds(sent))
        if asked.streamed:
            await self._say("synthesize-stopped")

    def record(self, error: CosyError) -> None:
        """Count and log a client, or a text that is not spoken, that is refused."""
        self._service.metrics.count(ENDPOINT, outcome_of(error), MAIN.name)
        access.info('%s "Wyoming" %d %s', self._client, error.fault.status, error.fault.id)

    async def _say(self, kind: str, **data: object) -> None:
        given = {name: value for name, value in data.items() if value is not None}
        await self._send(Event(kind, given).written())

    async def _send(self, data: bytes) -> None:
        async with self._sending:
            if self._writer.is_closing():
                raise ClientGoneError("cancelled")
            self._writer.write(data)
            try:
                await taken(self._writer.drain(), self._service.settings.stall_seconds)
            except OSError:
                raise ClientGoneError("cancelled") from None


def _audio(data: bytes, sent: int) -> list[bytes]:
    """The events with `data`, after `sent` bytes of audio."""
    return [
        Event("audio-chunk", {**_FORMAT, "timestamp": _milliseconds(sent + at)}, data[at : at + _PIECE]).written()
        for at in range(0, len(data), _PIECE)
    ]


def _milliseconds(size: int) -> int:
    return size // _WIDTH * 1000 // SAMPLE_RATE
