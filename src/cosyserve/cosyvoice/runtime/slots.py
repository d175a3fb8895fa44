"""The flow for several utterances at once, in memory that never moves, so that a GPU replays it as one graph.

What an utterance has behind it (keys, values, the last frames of convolutions, for each of the ten Euler steps) lies in
a slot. One call moves a chunk of 50 frames in as many slots as are given, padded to a width for which there is a graph.
Attention does not ask in which order its keys lie, so a slot is a ring: its recording stays, and what was spoken
longest ago makes room. Until then the result equals `Flow.mel(…, chunked=True)`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from cosyserve.cosyvoice.model.config import CHUNK_TOKENS, FRAMES_PER_TOKEN, MELS
from cosyserve.cosyvoice.model.estimator import Attention
from cosyserve.cosyvoice.model.flow import Chunk, Flow
from cosyserve.cosyvoice.model.past import CausalConv1d, Past
from cosyserve.cosyvoice.runtime.graphs import captured
from cosyserve.cosyvoice.runtime.memory import rounded

CHUNK = CHUNK_TOKENS * FRAMES_PER_TOKEN


@dataclass
class Place:
    """An utterance's slot: how many frames have come, and how many of them, the first, stay."""

    slot: int
    frames: int = 0
    recorded: int = 0


@dataclass(frozen=True)
class Work:
    """A chunk to be moved, at most 50 frames."""

    place: Place
    chunk: Chunk
    speaker: Tensor


def _rows(slot: int) -> slice:
    return slice(2 * slot, 2 * slot + 2)


class FlowSlots:
    """`slots` utterances of `frames` frames each. Not to be used from two threads."""

    def __init__(self, flow: Flow, slots: int, frames: int) -> None:
        flow.fuse()
        self._flow, self._device = flow, flow.encoder_proj.weight.device
        self.slots, self.frames = slots, rounded(frames)
        layers = [each for each in flow.modules() if isinstance(each, Attention)]
        self._attentions = {layer: number for number, layer in enumerate(layers)}
        like, heads, dim = flow.encoder_proj.weight, layers[0].heads, layers[0].head_dim
        # One slot more than there are: rows of a graph that nobody needs work there.
        # A slot has two rows, see `Flow.move`; a frame's keys and values lie side by side, as they are projected.
        self._kept = like.new_zeros(len(layers), flow.steps, 2 * (slots + 1), self.frames, 2 * heads * dim)
        convolutions = [each for each in flow.modules() if isinstance(each, CausalConv1d)]
        sizes = [(each.in_channels, each.kernel_size[0] - 1) for each in convolutions]
        self._tails = like.new_zeros(flow.steps, 2 * (slots + 1), sum(channels * width for channels, width in sizes))
        tails = self._tails.split([channels * width for channels, width in sizes], dim=2)
        self._tail_of = {
            layer: tail.unflatten(2, size) for layer, tail, size in zip(convolutions, tails, sizes, strict=True)
        }
        self._batches: dict[int, _Batch] = {}

    def begin(self, slot: int) -> Place:
        """An utterance with nothing behind it."""
        self._tails[:, _rows(slot)] = 0
        return Place(slot)

    def copy(self, source: Place, slot: int) -> Place:
        """An utterance that has behind it what `source` has, which stays in every slot that it is copied to."""
        to, of = _rows(slot), _rows(source.slot)
        self._kept[:, :, to, : source.frames] = self._kept[:, :, of, : source.frames]
        self._tails[:, to] = self._tails[:, of]
        return Place(slot, source.frames, source.frames)

    @torch.inference_mode()
    def move(self, works: Sequence[Work]) -> list[Tensor]:
        """The mel (1, 80, T) of each chunk. All utterances are different ones."""
        width = 1 << (len(works) - 1).bit_length()
        if width not in self._batches:
            self._batches[width] = _Batch(self, width)
        return self._batches[width].move(works)

    def prepare(self, most: int) -> None:
        """Make the graphs for all numbers of utterances up to `most`."""
        for exponent in range((most - 1).bit_length() + 1):
            self._batches[1 << exponent] = _Batch(self, 1 << exponent)


class _Batch:
    """What a graph of one width reads and writes."""

    def __init__(self, owner: FlowSlots, width: int) -> None:
        self._owner, self._flow, self._width = owner, owner._flow, width
        device, dtype = owner._device, owner._kept.dtype
        self._noise = torch.zeros(width, MELS, CHUNK, device=device)
        self._mean, self._prompt = (torch.zeros(width, MELS, CHUNK, device=device, dtype=dtype) for _ in range(2))
        self._speaker = torch.zeros(width, MELS, device=device, dtype=dtype)
        self.rows = torch.zeros(2 * width, device=device, dtype=torch.long)  # of the memory, two a slot
        self.frames = torch.zeros(2 * width * CHUNK, device=device, dtype=torch.long)  # in all rows, to be written
        # Added to scores: 0 for what may be attended to. Written out for every query, as the kernel wants it.
        self.bias = torch.zeros(2 * width, 1, CHUNK, owner.frames, device=device, dtype=dtype)
        self._pasts: list[Past] = [_StepPast(owner, self, step) for step in range(self._flow.steps)]
        self._mel = torch.zeros_like(self._noise)
        self._graph = self._captured() if device.type == "cuda" else None

    def move(self, works: Sequence[Work]) -> list[Tensor]:
        self._fill(works)
        if self._graph is None:
            self._step()
        else:
            self._graph.replay()
        moved = self._mel.clone()  # the next replay writes into it
        return [moved[row : row + 1, :, : work.chunk.mean.shape[2]] for row, work in enumerate(works)]

    def _step(self) -> None:
        pasts = self._pasts
        self._mel.copy_(self._flow.move(self._noise, self._mean, self._speaker, self._prompt, pasts))

    def _fill(self, works: Sequence[Work]) -> None:
        given = []
        for row, work in enumerate(works):
            place, chunk, size = work.place, work.chunk, work.chunk.mean.shape[2]
            self._noise[row, :, :size] = self._flow.noise[0, :, chunk.begin : chunk.end]
            self._mean[row, :, :size], self._prompt[row, :, :size] = chunk.mean[0], chunk.prompt[0]
            self._mean[row, :, size:] = 0
            self._speaker[row] = work.speaker[0]
            begin = _where(place, self._owner.frames)
            seen = min(max(place.frames, begin + CHUNK), self._owner.frames)
            given.append((place.slot, begin, seen, begin + size))
            place.frames += size
        given += [(self._owner.slots, 0, CHUNK, CHUNK)] * (self._width - len(works))
        table = torch.tensor(given).to(self._device, non_blocking=True)
        slot, at, filled, end = table[:, 0], table[:, 1], table[:, 2], table[:, 3]
        self.rows.copy_((2 * slot[:, None] + torch.arange(2, device=self._device)).flatten())
        begins = self.rows * self._owner.frames + at.repeat_interleave(2)
        self.frames.copy_((begins[:, None] + torch.arange(CHUNK, device=self._device)).flatten())
        # What is behind an utterance, and its chunk, but not the padding after a chunk that is short.
        positions = torch.arange(self._owner.frames, device=self._device)
        padding = (positions >= end[:, None]) & (positions < at[:, None] + CHUNK)
        hidden = (positions >= filled[:, None]) | padding
        self.bias.zero_().masked_fill_(hidden.repeat_interleave(2, dim=0)[:, None, None], -torch.inf)

    @property
    def _device(self) -> torch.device:
        return self._owner._device

    def _captured(self) -> torch.cuda.CUDAGraph:
        """All ten steps. What the rehearsals leave behind lies in the spare slot."""
        self._fill([])
        return captured(self._step)


def _where(place: Place, frames: int) -> int:
    """The position from which the next chunk is written. A recording is followed by a ring of whole chunks."""
    ring = (frames - place.recorded) // CHUNK * CHUNK
    return place.recorded + (place.frames - place.recorded) % ring


class _StepPast(Past):
    """The past of one Euler step, in the slots of a batch."""

    def __init__(self, owner: FlowSlots, batch: _Batch, step: int) -> None:
        super().__init__()
        self._owner, self._batch, self._step = owner, batch, step

    def before(self, layer: nn.Module, x: Tensor, width: int) -> Tensor:
        tail = self._owner._tail_of[layer][self._step]  # type: ignore[index]
        x = torch.cat((tail.index_select(0, self._batch.rows), x), dim=2)
        tail.index_copy_(0, self._batch.rows, x[..., x.shape[2] - width :])
        return x

    def attend(self, layer: nn.Module, query: Tensor, new: Tensor, mask: Tensor | None, rate: int) -> Tensor:
        kept = self._owner._kept[self._owner._attentions[layer], self._step]  # type: ignore[index]
        kept.flatten(0, 1).index_copy_(0, self._batch.frames, new.flatten(2).flatten(0, 1))
        behind = kept.index_select(0, self._batch.rows).unflatten(2, new.shape[2:])
        keys, values = behind.permute(2, 0, 3, 1, 4)
        return F.scaled_dot_product_attention(query, keys, values, self._batch.bias)

    def mask(self, layers: nn.Module, x: Tensor, chunk: int, rate: int) -> Tensor | None:
        """The same for all heads and layers: `attend` takes it from the batch."""
        return None
