"""The vocoder in hops: what a stream needs of its past, and how the hops of several lie side by side."""

from collections.abc import Callable, Sequence
from dataclasses import astuple, dataclass, fields, replace
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from cosyserve.cosyvoice.model.config import FRAMES_PER_TOKEN, LOOK_AHEAD, MELS, SAMPLES_PER_FRAME
from cosyserve.cosyvoice.model.source import AHEAD, PITCH_AHEAD
from cosyserve.cosyvoice.model.vocoder import Spoken, together

if TYPE_CHECKING:
    from cosyserve.cosyvoice.model.hift import Hift

FADE = 2 * SAMPLES_PER_FRAME  # samples over which a hop passes into the next

# Frames: how far a sample looks, on both sides. What is one or two further away weighs 1e-6.
_REACH = 13
HELD = _REACH + AHEAD  # held back by a hop, so that nothing which follows changes what was given away
FIRST_HELD = 12  # by the first one, which is to be heard soon


@dataclass(frozen=True)
class Window:
    """The frames that a stream still needs, counted from the first of them: how many there are, of how many the source
    is settled, and how many have been given away. The last, `held`, wait for what follows, unless it is `final`."""

    frames: int = 0
    settled: int = 0
    given: int = 0
    held: int = HELD
    final: bool = False

    @property
    def ready(self) -> int:
        """How many may have been given away."""
        return self.frames if self.final else self.frames - self.held

    @property
    def new(self) -> int:
        """How many have no source yet."""
        return self.frames - self.settled

    @property
    def heard(self) -> int:
        """How many are spoken. The source of the last ones will be another one, and a hop after the first holds back
        what it touches."""
        return self.frames - (AHEAD if self.settled and not self.final else 0)

    @property
    def done(self) -> int:
        """How many frames are no longer needed after all ready ones have been returned."""
        return max(0, self.ready - _REACH)

    def longer(self, frames: int, *, final: bool = False) -> "Window":
        return replace(self, frames=self.frames + frames, final=final)

    def after(self) -> "Window":
        """The frames still needed after all ready ones have been returned."""
        frames = self.frames - self.done
        return Window(frames, frames - AHEAD, self.ready - self.done)


@dataclass(frozen=True)
class Span:
    """Where a hop lies in its row, whose window ends with the last frame that is heard."""

    begin: int  # its first frame; padding is before it
    settled: int  # the first without a source
    given: int  # the first that has not been given away
    end: int  # behind the last
    seen: int  # behind the last that the pitch sees


@dataclass(frozen=True)
class Hop:
    """What a stream is about to speak. It may be spoken again, if that fails."""

    stream: "HiftStream"
    window: Window
    mel: Tensor  # (80, T), of the window's frames
    source: Tensor  # (480 settled,)
    before: Tensor  # (1, H), the turns at its end
    noise: Tensor  # (480 new, H)
    tail: Tensor  # (960,), what the hop before would have gone on with; of a first one (0,)

    @property
    def frames(self) -> int:
        """How many its row has to have room for."""
        return self.window.heard

    def span(self, frames: int) -> Span:
        """In a row whose window has so many."""
        window, begin = self.window, frames - self.window.heard
        end = begin + window.frames
        # What follows is likelier to be like the last frame than like the padding's zeros, which are loud.
        seen = end if window.final else end + PITCH_AHEAD
        return Span(begin, begin + window.settled, begin + window.given, end, seen)


@dataclass(frozen=True)
class Rows:
    """Hops of B streams side by side, each at the end of a window of W `frames`. The tensors are those that
    `Hift.speak` takes; a GPU can replay it over them as a graph, since they never move.

    Rows beyond the hops keep their old content. It is computed again and not read.
    """

    hift: "Hift"
    frames: int
    mel: Tensor
    begun: Tensor
    before: Tensor
    noise: Tensor
    tail: Tensor
    spans: Tensor

    @classmethod
    def of(cls, hift: "Hift", count: int, frames: int) -> "Rows":
        like, waves = hift.window, hift.m_source.waves
        sourced = frames + AHEAD
        return cls(
            hift,
            frames,
            like.new_zeros(count, MELS, sourced + PITCH_AHEAD),
            like.new_zeros(count, 1, _samples(sourced)),
            like.new_zeros(count, 1, waves, dtype=torch.float64),
            like.new_zeros(count, _samples(sourced), waves),
            like.new_zeros(count, FADE),
            like.new_zeros(count, len(fields(Span)), dtype=torch.long),
        )

    def part(self, count: int, frames: int) -> "Rows":
        """Fewer rows with a shorter window in the same memory."""
        sourced = frames + AHEAD
        return Rows(
            self.hift,
            frames,
            self.mel[:count, :, : sourced + PITCH_AHEAD],
            self.begun[:count, :, : _samples(sourced)],
            self.before[:count],
            self.noise[:count, : _samples(sourced)],
            self.tail[:count],
            self.spans[:count],
        )

    def speak(self, *, padded: bool) -> Spoken:
        """All of them. Where not `padded`, the hops are as long as the window."""
        return self.hift.speak(self.mel, self.begun, self.before, self.noise, self.tail, self.spans, padded=padded)

    def put(self, hops: Sequence[Hop]) -> None:
        """Each into a row."""
        spans = [hop.span(self.frames) for hop in hops]
        table = torch.tensor([astuple(span) for span in spans], pin_memory=self.spans.is_cuda)
        self.spans[: len(hops)].copy_(table, non_blocking=True)
        for row, (hop, span) in enumerate(zip(hops, spans, strict=True)):
            self.mel[row, :, span.begin : span.end] = hop.mel
            self.mel[row, :, span.end : span.seen] = hop.mel[:, -1:]
            self.noise[row, _samples(span.settled) : _samples(span.end)] = hop.noise
            self.before[row] = hop.before
            if hop.window.settled:
                self.begun[row, 0, _samples(span.begin) : _samples(span.settled)] = hop.source
                self.tail[row] = hop.tail

    def take(self, spoken: Spoken, hops: Sequence[Hop]) -> list[Tensor]:
        """The samples (n,) that each hop completes."""
        waves, sources, turns = spoken
        samples = []
        for row, hop in enumerate(hops):
            begin, end = hop.span(self.frames).begin, hop.span(self.frames).end
            wave, source = waves[row, _samples(begin) :], sources[row, 0, _samples(begin) :]
            samples.append(hop.stream.spoken(hop, wave, source, turns[row, begin:end]))
        return samples


def _samples(frames: int) -> int:
    return frames * SAMPLES_PER_FRAME


def windows(first: int, later: int) -> tuple[int, ...]:
    """The frames heard in a usual first hop, in one of those that follow, and in the longest last one, which also has
    what the flow's encoder looks ahead; the smallest first."""
    after = Window(first).longer(later).after()
    last = after.longer(later + FRAMES_PER_TOKEN * LOOK_AHEAD, final=True)
    return tuple(sorted({first, after.longer(later).heard, last.heard}))


Speak = Callable[[Sequence[Hop]], list[Tensor]]


class HiftStream:
    """One utterance whose mel comes a few frames at a time.

    A sample depends on frames before and after it. So some of those that were spoken stay, with their source, and the
    last of each hop wait for the next. What is given away is what the vocoder makes of the whole mel at once; fewer
    held back by the first hop, `first_held`, is sooner and not as exact at the seam: docs/model.md has the figures.
    """

    def __init__(self, hift: "Hift", seed: int = 0, first_held: int = HELD, speak: Speak | None = None) -> None:
        """`speak` is for hops that are not to be spoken in memory of their own."""
        self._speak = speak or partial(together, hift)
        like, waves = hift.window, hift.m_source.waves
        self._window, self._mel = Window(held=first_held), like.new_empty(MELS, 0)
        self._noise, self._noises = like.new_empty(0, waves), hift.noise(seed)  # drawn for frames not settled yet
        self._source, self._before = like.new_empty(0), like.new_zeros(1, waves, dtype=torch.float64)
        self._tail = like.new_empty(0)  # the first samples that were held back

    @torch.inference_mode()
    def push(self, mel: Tensor, *, final: bool = False) -> Tensor:
        """The samples (n,) that `mel` (1, 80, T) completes; with `final`, all that are left."""
        hop = self.hop(mel, final=final)
        return mel.new_empty(0) if hop is None else self._speak([hop])[0]

    def hop(self, mel: Tensor, *, final: bool = False) -> Hop | None:
        """The hop that can be spoken now that `mel` (1, 80, T) is there. None if it completes no sample."""
        self._mel = torch.cat((self._mel, mel[0]), dim=1)
        window = self._window = self._window.longer(mel.shape[2], final=final)
        if window.ready <= window.given:
            return None
        drawn = len(self._noise) // SAMPLES_PER_FRAME
        noise = torch.cat((self._noise, self._noises.take(window.new - drawn)[0]))
        return Hop(self, window, self._mel, self._source, self._before, noise, self._tail)

    def spoken(self, hop: Hop, wave: Tensor, source: Tensor, turns: Tensor) -> Tensor:
        """The samples that a hop completes, of what was made of its window: the `wave` (480 heard,), the `source`
        (480 T,) and the `turns` (T, H). Keeps what the next hop needs."""
        window, until = hop.window, _samples(hop.window.ready)
        if not window.final:
            after = self._window = window.after()
            self._mel, self._noise = hop.mel[:, window.done :], hop.noise[-_samples(AHEAD) :]
            self._source = source[_samples(window.done) :][: _samples(after.settled)]
            self._before = turns[-AHEAD - 1 : -AHEAD]
            self._tail = wave[until : until + FADE]
        return wave[_samples(window.given) : until]
