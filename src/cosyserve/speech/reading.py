"""Speaks the passages of a long text."""

from collections.abc import Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial

import numpy as np

from cosyserve.speech.audio import Pcm
from cosyserve.speech.passages import SpokenSegment
from cosyserve.speech.pipeline import SpeechRequest, only, speak
from cosyserve.speech.synthesizer import Options, Synthesizer, pronounces
from cosyserve.speech.voices import Voice
from cosyserve.text.book import Passage
from cosyserve.text.front_end import Segment, whole
from cosyserve.text.lexicon import Words

Work = Callable[[], Awaitable[Pcm]]


async def at_once(work: Work) -> Pcm | None:
    """For a reader that shares its synthesizer with nobody."""
    return await work()


@dataclass(frozen=True)
class Reader:
    """How passages are spoken. `longest` bounds the seconds of a segment. `turn` speaks a segment once there is room,
    and returns None if a request took the room before it was finished; then the segment is spoken again."""

    synthesizer: Synthesizer
    voice: Voice
    words: Words
    options: Options
    longest: float
    speed: float = 1.0  # of the finished file, for the pauses in SSML
    normalize: bool = True
    ssml: bool = False
    turn: Callable[[Work], Awaitable[Pcm | None]] = at_once

    async def read(self, passage: Passage) -> list[SpokenSegment]:
        """Each segment at the synthesizer's own speed; raises as `speak` does."""
        segments = whole(
            passage.text,
            normalize=self.normalize,
            first_alone=False,
            pronounced=pronounces(self.synthesizer),
            words=self.words,
            ssml=self.ssml,
        )
        request = SpeechRequest(segments, self.voice, self.speed, self.options)
        parts: list[SpokenSegment] = []
        async for segment in segments:
            while (pcm := await self.turn(partial(self._segment, request, segment))) is None:
                pass
            parts.append(SpokenSegment(segment.written, pcm))
        return parts

    async def _segment(self, request: SpeechRequest, segment: Segment) -> Pcm:
        async with aclosing(speak(self.synthesizer, only(segment, request), self.longest)) as chunks:
            found = [chunk async for chunk in chunks]
        return np.concatenate([np.zeros(0, np.float32), *found])
