"""What listeners hear of a server under load, who asks when, and which rates are tried. Pure: times, in seconds, are
told by the caller, and nothing here waits or measures."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

import numpy as np

from cosyserve.speech.audio import SAMPLE_RATE, Pcm
from cosyserve.speech.silence import LeadingSilence

LATE = 2.0  # seconds to the first chunk (p95) at which a rate is too high, though nobody may hear silence
AUDIBLE = 10 ** (-50 / 20)  # of full scale, as `LeadingSilence` has it
DOWN = 4  # steps that are tried below the first
_STEP = 1.3  # from a rate to the next


@dataclass(frozen=True)
class Chunk:
    at: float  # when it came
    seconds: float  # how long it sounds


class Listener:
    """Somebody who asked for a text and hears it in real time: what comes is played at once, or as soon as what came
    before it has been played."""

    def __init__(self, asked: float) -> None:
        self.asked = asked
        self.chunks: list[Chunk] = []
        self.silence = 0.0  # seconds without sound, after the first and before the last
        self.plays_until = asked
        self.audible: float | None = None  # seconds from the question to the first sound that is no silence
        self.complete = False
        self.failed = False
        self._leading = LeadingSilence()

    def hear(self, at: float, pcm: Pcm) -> None:
        if not pcm.size:
            return
        if self.chunks:
            self.silence += max(0.0, at - self.plays_until)
        self.chunks.append(Chunk(at, pcm.size / SAMPLE_RATE))
        self.plays_until = max(self.plays_until, at) + self.chunks[-1].seconds
        if self.audible is None:
            self._listen_for_the_first_sound(at, pcm)

    def give_up(self, at: float) -> None:
        """The text was never finished: after its last chunk there is silence until `at`, and who had none waited."""
        if self.chunks:
            self.silence += max(0.0, at - self.plays_until)
        self.plays_until = max(self.plays_until, at)
        if self.audible is None:
            self.audible = at - self.asked

    @property
    def first_chunk(self) -> float:
        """Seconds from the question; of somebody who gave up before, how long that took."""
        return (self.chunks[0].at if self.chunks else self.plays_until) - self.asked

    @property
    def sound(self) -> float:
        """Seconds that were given."""
        return sum(chunk.seconds for chunk in self.chunks)

    def _listen_for_the_first_sound(self, at: float, pcm: Pcm) -> None:
        """As from a server that leaves the silence before it out (COSYSERVE_TRIM_SILENCE)."""
        loud = np.flatnonzero(np.abs(self._leading.push(pcm)) > AUDIBLE)
        if loud.size:
            self.audible = at + float(loud[0]) / SAMPLE_RATE - self.asked


@dataclass(frozen=True)
class Figures:
    """Of the listeners of one part of the protocol. Milliseconds are None where nobody listened."""

    listeners: int
    first_chunk_p50_ms: float | None
    first_chunk_p95_ms: float | None
    audible_p50_ms: float | None
    audible_p95_ms: float | None
    silence_s: float  # of all listeners together
    interrupted: int  # listeners who heard any
    unfinished: int  # listeners who were given up
    failed: int
    text_s: float | None  # mean duration of what was finished
    sound_per_s: float  # that came within the part's time
    gpu_busy: float | None = None  # share of that time

    @property
    def carried(self) -> bool:
        """Whether everybody was served in time."""
        soon = self.first_chunk_p95_ms is None or self.first_chunk_p95_ms <= 1000 * LATE
        return soon and not (self.silence_s or self.unfinished or self.failed)


def figures(listeners: Sequence[Listener], begin: float, end: float, gpu_busy: float | None = None) -> Figures:
    """Of those who asked between `begin` and `end`; what they got after the end counts for all but `sound_per_s`."""
    firsts = [each.first_chunk for each in listeners]
    audible = [each.audible for each in listeners if each.audible is not None]
    finished = [each.sound for each in listeners if each.complete]
    came = sum(chunk.seconds for each in listeners for chunk in each.chunks if begin <= chunk.at < end)
    return Figures(
        listeners=len(listeners),
        first_chunk_p50_ms=milliseconds(percentile(firsts, 0.5)),
        first_chunk_p95_ms=milliseconds(percentile(firsts, 0.95)),
        audible_p50_ms=milliseconds(percentile(audible, 0.5)),
        audible_p95_ms=milliseconds(percentile(audible, 0.95)),
        silence_s=round(sum(each.silence for each in listeners), 3),
        interrupted=sum(each.silence > 0 for each in listeners),
        unfinished=sum(not (each.complete or each.failed) for each in listeners),
        failed=sum(each.failed for each in listeners),
        text_s=round(fmean(finished), 3) if finished else None,
        sound_per_s=round(came / (end - begin), 3),
        gpu_busy=gpu_busy,
    )


def percentile(values: Sequence[float], share: float) -> float | None:
    """The least of the values that so large a share of them does not exceed."""
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)] if values else None


def milliseconds(seconds: float | None) -> float | None:
    return None if seconds is None else round(1000 * seconds, 1)


@dataclass(frozen=True)
class Arrival:
    at: float
    seconds: float  # of the text
    voice: int


def arrivals(rate: float, until: float, texts: Sequence[float], voices: int, seed: int = 0) -> Iterator[Arrival]:
    """A Poisson process of so many a second, the first at once, each with a text and a voice at random.

    Every rate has the same questions in the same order, only closer together or further apart.
    """
    drawing = np.random.default_rng(seed)
    at = 0.0
    while at < until:
        text, voice = drawing.random(2)
        yield Arrival(at, texts[int(text * len(texts))], int(voice * voices))
        at += float(drawing.exponential()) / rate


def rate_of(step: int) -> float:
    """Rates are the powers of one number, so that all machines and all versions are asked at the same ones."""
    return float(_STEP**step)


def step_below(rate: float) -> int:
    return math.floor(math.log(rate, _STEP))


def next_step(carried: Mapping[int, bool]) -> int | None:
    """The step to try after those that were or were not carried; None where the answer is known.

    Up until two above the last good one are not carried; then down to the first good one, some steps at most.
    """
    good = [step for step, well in carried.items() if well]
    if not good and len(carried) >= 2:
        return min(carried) - 1 if len(carried) < 2 + DOWN else None
    last_good = max(good, default=min(carried) - 1)
    return max(carried) + 1 if max(carried) < last_good + 2 else None


def highest(carried: Mapping[int, bool]) -> float | None:
    """The highest rate at which all was well."""
    return max((round(rate_of(step), 2) for step, well in carried.items() if well), default=None)
