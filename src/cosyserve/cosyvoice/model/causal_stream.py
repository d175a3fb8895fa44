"""CosyVoice3's vocoder in hops: what a stream needs of its past, and how the hops of several lie side by side.

All of it looks back only, so each layer keeps the last values before a hop, and nothing is made twice but one frame of
the pitch. The vocoder needs four frames after those it speaks, and gives eight samples fewer: a spectrum reaches into
them.
"""

from collections.abc import Callable, Sequence
from dataclasses import astuple, dataclass, fields
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from cosyserve.cosyvoice.model.config import CHUNK_TOKENS, FRAMES_PER_TOKEN, LOOK_AHEAD, MELS, SAMPLES_PER_FRAME
from cosyserve.cosyvoice.model.past import Past
from cosyserve.cosyvoice.model.vocoder import Spoken, together

if TYPE_CHECKING:
    from cosyserve.cosyvoice.model.causal_hift import CausalHift

HELD = 4  # frames after those that are spoken
_LATE = 8  # samples: half a window of the inverse transform
_LAST = 1  # frame beyond the end, in which the last spectrum lies
_NEVER = 1 << 32  # frames: a stream goes on


@dataclass(frozen=True)
class Span:
    """Of a hop in its row: how many frames of the stream came before, how many it has, and behind which one the stream
    ends."""

    begun: int
    count: int
    end: int


_SPARE = Span(1, 1, 1)  # of a row that nobody reads: what was there may be of more frames than this row has


@dataclass(frozen=True)
class Behind:
    """What a stream has behind it. Nothing writes into it, so a hop may be spoken again."""

    source: Tensor  # (1, n), its last samples
    turns: Tensor  # (1, H), at their end
    kept: Tensor  # (N,), what each convolution looks back to
    pitch: Tensor  # (M,), the same of the pitch, in float64


@dataclass(frozen=True)
class CausalHop:
    """What a stream is about to speak."""

    stream: "CausalStream"
    mel: Tensor  # (80, T), from its first frame on
    noise: Tensor  # (480 (frames + 1), H)
    behind: Behind
    begun: int
    frames: int
    final: bool

    @property
    def span(self) -> Span:
        return Span(self.begun, self.frames, self.mel.shape[1] if self.final else _NEVER)

    @property
    def samples(self) -> slice:
        """Those it completes, of the row's."""
        end = self.mel.shape[1] * SAMPLES_PER_FRAME + _LATE if self.final else self.frames * SAMPLES_PER_FRAME
        return slice(0 if self.begun else _LATE, end)


@dataclass(frozen=True)
class CausalRows:
    """Hops of B streams side by side, each at the beginning of W `frames`. A GPU can replay what is made of them as a
    graph, since they never move. Rows beyond the hops are spoken too, and nobody reads them."""

    hift: "CausalHift"
    frames: int
    mel: Tensor
    noise: Tensor
    behind: Behind
    spans: Tensor

    @classmethod
    def of(cls, hift: "CausalHift", count: int, frames: int) -> "CausalRows":
        like, waves, pitch = hift.window, hift.m_source.waves, hift.f0_predictor.classifier.weight
        sizes = {like.dtype: 0, pitch.dtype: 0}
        for layer, channels, width in hift.tails():
            sizes[_type(layer, like)] += channels * width
        behind = Behind(
            like.new_zeros(count, 1, hift.source_behind),
            pitch.new_zeros(count, 1, waves),
            like.new_zeros(count, sizes[like.dtype]),
            pitch.new_zeros(count, sizes[pitch.dtype]),
        )
        mel = like.new_zeros(count, MELS, frames + HELD)
        noise = like.new_zeros(count, SAMPLES_PER_FRAME * (frames + 1), waves)
        return cls(hift, frames, mel, noise, behind, torch.ones_like(behind.turns[:, 0, :3], dtype=torch.long))

    def part(self, count: int, frames: int) -> "CausalRows":
        """Fewer rows of fewer frames in the same memory."""
        behind = Behind(*(getattr(self.behind, each.name)[:count] for each in fields(Behind)))
        mel, noise = self.mel[:count, :, : frames + HELD], self.noise[:count, : SAMPLES_PER_FRAME * (frames + 1)]
        return CausalRows(self.hift, frames, mel, noise, behind, self.spans[:count])

    def speak(self, *, padded: bool) -> Spoken:
        """All of them."""
        behind = self.behind
        past = _RowsPast(self._tails(), self.spans[:, 1:2], self.frames)
        wave, source, turns = self.hift.speak_on(self.mel, self.noise, behind.source, behind.turns, self.spans, past)
        return wave, source, turns, behind.kept, behind.pitch

    def put(self, hops: Sequence[CausalHop]) -> None:
        """Each into a row."""
        spans = [hop.span for hop in hops] + [_SPARE] * (len(self.spans) - len(hops))
        table = torch.tensor([astuple(span) for span in spans], pin_memory=self.spans.is_cuda)
        self.spans.copy_(table, non_blocking=True)
        for row, hop in enumerate(hops):
            known = hop.mel.shape[1]
            self.mel[row, :, :known] = hop.mel
            self.mel[row, :, known : hop.frames + HELD] = 0
            self.noise[row, : len(hop.noise)] = hop.noise
            for each in fields(Behind):
                getattr(self.behind, each.name)[row] = getattr(hop.behind, each.name)

    def take(self, spoken: Spoken, hops: Sequence[CausalHop]) -> list[Tensor]:
        """The samples (n,) that each hop completes."""
        wave, *behind = spoken
        samples = []
        for row, hop in enumerate(hops):
            # Copies, because a view would keep all rows alive.
            own = Behind(*(each[row].clone() for each in behind))
            samples.append(hop.stream.spoken(hop, wave[row], own))
        return samples

    def _tails(self) -> dict[nn.Module, Tensor]:
        """Where each layer's values lie, (B, C, W)."""
        found, like = {}, self.hift.window
        kept = {like.dtype: self.behind.kept, self.behind.pitch.dtype: self.behind.pitch}
        used = dict.fromkeys(kept, 0)
        for layer, channels, width in self.hift.tails():
            dtype = _type(layer, like)
            begin, used[dtype] = used[dtype], used[dtype] + channels * width
            found[layer] = kept[dtype][:, begin : used[dtype]].unflatten(1, (channels, width))
        return found


def _type(layer: nn.Module, like: Tensor) -> torch.dtype:
    """That of what goes through it."""
    return next((each.dtype for each in layer.parameters()), like.dtype)


class _RowsPast(Past):
    """What the layers keep of each row, of which `count` (B, 1) frames have come; the row's others come again."""

    def __init__(self, tails: dict[nn.Module, Tensor], count: Tensor, frames: int) -> None:
        super().__init__()
        self._tails, self._count, self._row = tails, count, frames

    def before(self, layer: nn.Module, x: Tensor, width: int) -> Tensor:
        tail, rate = self._tails[layer], x.shape[2] // self._row
        x = torch.cat((tail, x), dim=2)
        last = torch.arange(width, device=x.device) + self._count * rate
        tail.copy_(x.gather(2, last[:, None].expand(-1, x.shape[1], -1)))
        return x


def windows(first: int, later: int) -> tuple[int, ...]:
    """The frames spoken in a usual first hop, in one of those that follow, and in the longest one: a first behind a
    short recording, or a last, which also has what the flow looks ahead. The smallest first."""
    longest_first = first + FRAMES_PER_TOKEN * (CHUNK_TOKENS - 1) - HELD
    longest_last = HELD + later + FRAMES_PER_TOKEN * LOOK_AHEAD + _LAST
    return tuple(sorted({first - HELD, later, max(longest_first, longest_last)}))


class CausalStream:
    """One utterance whose mel comes a few frames at a time. What is given away is what the vocoder makes of the whole
    mel at once, a sample for each but the last ones of what has come."""

    def __init__(self, hift: "CausalHift", speak: Callable[..., list[Tensor]] | None = None) -> None:
        """`speak` is for hops that are not to be spoken in memory of their own."""
        self._hift, self._speak = hift, speak or partial(together, hift)
        self._mel, self._begun = hift.window.new_empty(MELS, 0), 0
        nothing = CausalRows.of(hift, 1, 1).behind
        self._behind = Behind(*(getattr(nothing, each.name)[0] for each in fields(Behind)))

    @torch.inference_mode()
    def push(self, mel: Tensor, *, final: bool = False) -> Tensor:
        """The samples (n,) that `mel` (1, 80, T) completes; with `final`, all that are left."""
        hop = self.hop(mel, final=final)
        return mel.new_empty(0) if hop is None else self._speak([hop])[0]

    def hop(self, mel: Tensor, *, final: bool = False) -> CausalHop | None:
        """The hop that can be spoken now that `mel` (1, 80, T) is there. None if it completes no sample."""
        self._mel = torch.cat((self._mel, mel[0]), dim=1)
        known = self._mel.shape[1]
        frames = known + _LAST if final else known - HELD
        if frames <= 0 or not known:
            return None
        noise = self._hift.noise.frames(self._begun, frames + 1, self._mel.device)
        return CausalHop(self, self._mel, noise, self._behind, self._begun, frames, final)

    def spoken(self, hop: CausalHop, wave: Tensor, behind: Behind) -> Tensor:
        """The samples that a hop completes, of the `wave` (480 W,) of its row. Keeps what the next hop needs."""
        if not hop.final:
            self._mel, self._begun, self._behind = hop.mel[:, hop.frames :], hop.begun + hop.frames, behind
        return wave[hop.samples]
