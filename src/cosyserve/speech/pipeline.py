"""From text to audio: segment → synthesizer → PCM chunks, one pull at a time. `output.py` does the rest.

Nothing runs ahead of its reader and nothing is kept, so memory does not grow with the text and closing
the iterator stops the work within one chunk.
"""

from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import aclosing
from dataclasses import dataclass, replace

import numpy as np

from cosyserve import errors
from cosyserve.errors import CosyError
from cosyserve.speech.audio import SAMPLE_RATE, Pcm
from cosyserve.speech.synthesizer import Interleaver, Options, Synthesizer
from cosyserve.speech.voices import Voice
from cosyserve.text.checks import is_speakable
from cosyserve.text.front_end import Segment
from cosyserve.text.open_segments import OpenSegment
from cosyserve.traces.span import UNTRACED

AnySegment = Segment | OpenSegment
_TRACED_SEGMENTS = 64  # of a request, the first; what comes after them is like them


@dataclass(frozen=True)
class SpeechRequest:
    """What is to be said. `segments` may still be arriving; `characters` is 0 then."""

    segments: AsyncIterator[AnySegment]
    voice: Voice
    speed: float = 1.0
    options: Options = Options()
    characters: int = 0


def only(segment: AnySegment, request: SpeechRequest) -> SpeechRequest:
    """One segment of `request`, as a request of its own."""

    async def alone() -> AsyncIterator[AnySegment]:
        yield segment

    return replace(request, segments=alone())


async def begun(segments: AsyncIterator[AnySegment]) -> AsyncIterator[AnySegment]:
    """The same segments, once the first of them is there or it is known that there is none."""
    first = await anext(segments, None)
    return _behind(first, segments)


async def _behind(first: AnySegment | None, rest: AsyncIterator[AnySegment]) -> AsyncIterator[AnySegment]:
    if first is not None:
        yield first
        async for segment in rest:
            yield segment


@dataclass(frozen=True)
class Sound:
    """Some of the audio of one segment."""

    segment: AnySegment
    pcm: Pcm


async def speak(synthesizer: Synthesizer, request: SpeechRequest, max_seconds: float) -> AsyncGenerator[Pcm, None]:
    """The audio of `request`, its speed not yet changed; none where its text has no sound.

    Raises `CS-TEXT-004` once it will be longer than `max_seconds` at its speed.
    """
    async with aclosing(sounds_of(synthesizer, request, max_seconds)) as sounds:
        async for sound in sounds:
            yield sound.pcm


async def sounds_of(
    synthesizer: Synthesizer, request: SpeechRequest, max_seconds: float
) -> AsyncGenerator[Sound, None]:
    """The same, each chunk with its segment; no chunk is empty."""
    left = max_seconds * SAMPLE_RATE * request.speed
    async with aclosing(_spoken(synthesizer, request)) as sounds:
        async for sound in sounds:
            left -= sound.pcm.size
            if left < 0:
                raise CosyError(errors.AUDIO_TOO_LONG, seconds=max_seconds)
            if sound.pcm.size:
                yield sound


def silence(seconds: float) -> Iterator[Pcm]:
    """In pieces of a second at most."""
    left = round(seconds * SAMPLE_RATE)
    while left > 0:
        yield np.zeros(min(left, SAMPLE_RATE), np.float32)
        left -= SAMPLE_RATE


async def _spoken(synthesizer: Synthesizer, request: SpeechRequest) -> AsyncGenerator[Sound, None]:
    left = _TRACED_SEGMENTS
    async for segment in request.segments:
        for pcm in silence(segment.pause * request.speed):  # which it is played at
            yield Sound(segment, pcm)
        if not is_speakable(segment.text):
            continue
        left -= 1
        parent = request.options.span if left >= 0 else UNTRACED
        with parent.begin("segment", {"cosyserve.characters": len(segment.text.strip())}) as span:
            options = replace(request.options, span=span)
            async with aclosing(_chunks(synthesizer, segment, request.voice, options)) as chunks:
                async for chunk in chunks:
                    yield Sound(segment, chunk)


def _chunks(synthesizer: Synthesizer, segment: AnySegment, voice: Voice, options: Options) -> AsyncGenerator[Pcm, None]:
    if isinstance(segment, OpenSegment):
        assert isinstance(synthesizer, Interleaver)  # noqa: S101 - by its capabilities
        return synthesizer.interleave(segment.pieces, voice, options)
    return synthesizer.synthesize(segment.text.strip(), voice, options)
