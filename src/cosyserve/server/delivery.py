"""Makes one request's audio, piece by piece: admission, synthesis, encoding.

One task holds everything that a request uses. When its client disconnects, the task is cancelled, and with it the
synthesis, the encoder and the place in the queue.
"""

import logging
import math
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import IO, Any

from cosyserve.server.captions import PendingCaptions
from cosyserve.server.metrics import Stopwatch
from cosyserve.server.quotas import Taken
from cosyserve.server.service import Service
from cosyserve.speech.captions import Caption, seconds_of
from cosyserve.speech.encoders import Format
from cosyserve.speech.label import label_of
from cosyserve.speech.output import Output
from cosyserve.speech.pipeline import SpeechRequest, begun, sounds_of
from cosyserve.traces.pieces import Pieces
from cosyserve.traces.span import Span, current

log = logging.getLogger(__name__)

_SPEECH_TOKENS_PER_SECOND = 25  # CosyVoice's rate; what `usage` counts as output


@dataclass(frozen=True)
class Began:
    """A segment begins with the audio that follows: which one, what was written, and its second in the output."""

    index: int
    text: str
    begin: float

    @property
    def event(self) -> dict[str, Any]:
        return {"type": "speech.audio.segment", **vars(self)}


class Delivery:
    """The speech of one request for one client, over any kind of connection."""

    def __init__(
        self,
        service: Service,
        endpoint: str,
        speech: SpeechRequest,
        fmt: Format,
        taken: Taken,
        pending: PendingCaptions | None = None,
    ) -> None:
        """Captions also go to `pending`, before the last of the audio leaves."""
        self._pending = pending
        self._service, self._endpoint = service, endpoint
        self._speech, self._format, self._taken = speech, fmt, taken
        self.label = label_of(service.settings)
        self.stopwatch = Stopwatch()
        self.captions: list[Caption] = []  # all of them, once the last piece is there
        self._encoding, self._sending = Pieces("encode"), Pieces("send")

    async def chunks(self) -> AsyncGenerator[bytes | Began, None]:
        """The encoded audio, and before the first of each segment that it begins. The first piece comes with the first
        audio and may be empty, because some codecs need more input before they produce anything. The place is held
        until the last piece is taken."""
        output = Output(self._format, self._speech.speed, label=self.label)
        async with self._place() as listening, aclosing(self._encoded(output, listening)) as pieces:
            async for data in pieces:
                self._taken.heard = True
                with self.stopwatch.delivering(), self._sending.piece():
                    yield data

    @asynccontextmanager
    async def whole(self, file: IO[bytes]) -> AsyncIterator[None]:
        """Puts all of it into `file`, which is seekable. The place is held until the client has taken it, as for a
        stream."""
        output = Output(self._format, self._speech.speed, file, self.label)
        async with self._place() as listening:
            async with aclosing(self._encoded(output, listening)) as pieces:
                async for _ in pieces:
                    pass
            self._taken.heard = True
            with self.stopwatch.delivering(), self._sending.piece():
                yield

    @asynccontextmanager
    async def _place(self) -> AsyncIterator[AsyncExitStack]:
        """A place among the streams, and one for a recording if there is any, until the iterator is closed. It is taken
        once there is something to say, not while a text is still being written. What fails before it is heard does not
        count against the limits of its key."""
        try:
            async with self._admitted() as listening:
                yield listening
        except Exception:
            self._taken.fail()
            raise

    @asynccontextmanager
    async def _admitted(self) -> AsyncIterator[AsyncExitStack]:
        segments, rank = await begun(self._speech.segments), self._taken.key.rank
        async with AsyncExitStack() as held, AsyncExitStack() as listening:
            span = held.enter_context(current.get().begin("speech", {"cosyserve.format": self._format.name}))
            held.callback(self._tell, span)
            self._speech = replace(self._speech, segments=segments, options=replace(self._speech.options, span=span))
            with span.begin("queue"):
                if self._speech.options.reference:
                    await listening.enter_async_context(self._service.uploads.place(rank))
                await held.enter_async_context(self._service.admission.place(rank))
            self.stopwatch.admit()
            yield listening

    def _tell(self, span: Span) -> None:
        """What the request's span says at its end."""
        self._encoding.tell(span)
        self._sending.tell(span)
        span.note({"cosyserve.audio_seconds": self.stopwatch.audio_seconds})
        if self.stopwatch.first_chunk_seconds is not None:
            span.note({"cosyserve.first_chunk_seconds": self.stopwatch.first_chunk_seconds})

    async def _encoded(self, output: Output, listening: AsyncExitStack) -> AsyncGenerator[bytes | Began, None]:
        service, segment, index = self._service, None, 0
        async with aclosing(sounds_of(service.synthesizer, self._speech, service.settings.max_audio_seconds)) as sounds:
            async for sound in sounds:
                await listening.aclose()  # it speaks, so the recording has been listened to
                if sound.segment is not segment:
                    if segment is not None:
                        output.rewrite(segment.written)
                    segment = sound.segment
                    with self._encoding.piece():
                        data = await service.encode(partial(output.begin_segment, segment.written))
                    if data:
                        yield data
                    if segment.written:
                        yield Began(index, segment.written, seconds_of(output.begin))
                        index += 1
                with self._encoding.piece():
                    data = await service.encode(output.push, sound.pcm)
                if output.seconds:
                    self.stopwatch.made(output.seconds)
                    yield data
        if segment is not None:
            output.rewrite(segment.written)
        with self._encoding.piece():
            data = await service.encode(output.finish)
        self.captions = output.captions
        if self._pending:
            self._pending.fill(self.captions)
        self.stopwatch.made(output.seconds)
        yield data

    def record(self, outcome: str) -> None:
        """Count a request that produced audio, and log how it went (never what it said)."""
        metrics, watch = self._service.metrics, self.stopwatch
        metrics.count(self._endpoint, outcome, self._taken.key.name, self._taken.characters if self._taken.heard else 0)
        metrics.audio_seconds.inc(watch.audio_seconds)
        if watch.first_chunk_seconds is None:
            log.info("%s %s before its first audio", self._endpoint, outcome)
            return
        metrics.first_chunk.observe(watch.first_chunk_seconds)
        metrics.real_time_factor.observe(watch.real_time_factor)
        log.info(
            "%s %s: %.2f s of %s, first chunk after %.0f ms, real-time factor %.3f, content %s",
            *(self._endpoint, outcome, watch.audio_seconds, self._format.name),
            *(1000 * watch.first_chunk_seconds, watch.real_time_factor),
            self.label.content_id if self.label else "without a label",
        )


def usage(characters: int, seconds: float) -> dict[str, int]:
    """Characters in and speech tokens out, under the names OpenAI's clients read."""
    tokens = math.ceil(seconds * _SPEECH_TOKENS_PER_SECOND)
    return {"input_tokens": characters, "output_tokens": tokens, "total_tokens": characters + tokens}
