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

from cosyserve.cosyvoice2.config import CHUNK_TOKENS, FRAMES_PER_TOKEN, MELS
from cosyserve.cosyvoice2.estimator import Attention
from cosyserve.cosyvoice2.flow import Chunk, Flow
from cosyserve.cosyvoice2.past import CausalConv1d, Past

CHUNK = CHUNK_TOKENS * FRAMES_PER_TOKEN
_WARM_UPS = 2  # before a capture


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


def slot_bytes(flow: Flow, frames: int) -> int:
    """What the keys and values of one slot take."""
    layers = [each for each in flow.modules() if isinstance(each, Attention)]
    each = 2 * 2 * layers[0].heads * layers[0].head_dim * flow.encoder_proj.weight.element_size()
    return len(layers) * flow.steps * _whole_chunks(frames) * each


def _whole_chunks(frames: int) -> int:
    return -(-frames // CHUNK) * CHUNK


class FlowSlots:
    """`slots` utterances of `frames` frames each. Not to be used from two threads."""

    def __init__(self, flow: Flow, slots: int, frames: int) -> None:
        self._flow, self._device = flow, flow.encoder_proj.weight.device
        self.slots, self.frames = slots, _whole_chunks(frames)
        layers = [each for each in flow.modules() if isinstance(each, Attention)]
        self._attentions = {layer: number for number, layer in enumerate(layers)}
        like, heads, dim = flow.encoder_proj.weight, layers[0].heads, layers[0].head_dim
        # One slot more than there are: rows of a graph that nobody needs work there.
        self._kept = like.new_zeros(len(layers), flow.steps, 2, slots + 1, self.frames, 2 * heads, dim)
        convolutions = [each for each in flow.modules() if isinstance(each, CausalConv1d)]
        self._tails = {
            layer: like.new_zeros(flow.steps, slots + 1, 2, layer.in_channels, layer.kernel_size[0] - 1)
            for layer in convolutions
        }
        self._batches: dict[int, _Batch] = {}

    def begin(self, slot: int) -> Place:
        """An utterance with nothing behind it."""
        for tail in self._tails.values():
            tail[:, slot] = 0
        return Place(slot)

    def copy(self, source: Place, slot: int) -> Place:
        """An utterance that has behind it what `source` has, which stays in every slot that it is copied to."""
        self._kept[:, :, :, slot, : source.frames] = self._kept[:, :, :, source.slot, : source.frames]
        for tail in self._tails.values():
            tail[:, slot] = tail[:, source.slot]
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
        self.slot = torch.full((width,), owner.slots, device=device)
        self.rows = torch.zeros(width * CHUNK, device=device, dtype=torch.long)
        self.mask = torch.ones(width, 1, 1, owner.frames, device=device, dtype=torch.bool)
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
        slots, rows, masks = [], [], []
        for row, work in enumerate(works):
            place, chunk, size = work.place, work.chunk, work.chunk.mean.shape[2]
            self._noise[row, :, :size] = self._flow.noise[0, :, chunk.begin : chunk.end]
            self._mean[row, :, :size], self._prompt[row, :, :size] = chunk.mean[0], chunk.prompt[0]
            self._mean[row, :, size:] = 0
            self._speaker[row] = work.speaker[0]
            at = _where(place, self._owner.frames)
            slots.append(place.slot)
            rows.append(place.slot * self._owner.frames + at)
            masks.append((min(max(place.frames, at + CHUNK), self._owner.frames), at + size, at + CHUNK))
            place.frames += size
        spare = self._width - len(works)
        slots += [self._owner.slots] * spare
        rows += [self._owner.slots * self._owner.frames] * spare
        masks += [(CHUNK, CHUNK, CHUNK)] * spare
        given = torch.tensor([slots, rows, *zip(*masks, strict=True)]).to(self._device, non_blocking=True)
        self.slot.copy_(given[0])
        self.rows.copy_((given[1][:, None] + torch.arange(CHUNK, device=self._device)).flatten())
        # What is behind an utterance, and its chunk, but not the padding after a chunk that is short.
        positions = torch.arange(self._owner.frames, device=self._device)
        filled, after, until = given[2:, :, None]
        self.mask.copy_(((positions < filled) & ~((positions >= after) & (positions < until)))[:, None, None])

    @property
    def _device(self) -> torch.device:
        return self._owner._device

    def _captured(self) -> torch.cuda.CUDAGraph:
        """All ten steps. What the rehearsals leave behind lies in the spare slot."""
        spare = self._owner.slots * self._owner.frames
        self.rows.copy_(torch.arange(CHUNK, device=self._device).repeat(self._width) + spare)
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side), torch.inference_mode():
            for _ in range(_WARM_UPS):
                self._step()
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph), torch.inference_mode():
            self._step()
        return graph


def _where(place: Place, frames: int) -> int:
    """The position from which the next chunk is written. A recording is followed by a ring of whole chunks."""
    ring = (frames - place.recorded) // CHUNK * CHUNK
    return place.recorded + (place.frames - place.recorded) % ring


class _StepPast(Past):
    """The past of one Euler step in the slots of a batch. A batch has two rows for a slot, see `Flow.move`."""

    def __init__(self, owner: FlowSlots, batch: _Batch, step: int) -> None:
        super().__init__()
        self._owner, self._batch, self._step = owner, batch, step

    def before(self, layer: nn.Module, x: Tensor, width: int) -> Tensor:
        tail = self._owner._tails[layer][self._step]  # type: ignore[index]
        x = torch.cat((tail.index_select(0, self._batch.slot).flatten(0, 1), x), dim=2)
        tail.index_copy_(0, self._batch.slot, x[..., x.shape[2] - width :].unflatten(0, (-1, 2)))
        return x

    def attend(
        self, layer: nn.Module, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, rate: int
    ) -> Tensor:
        """Both rows of a slot have keys of their own, so they stand as twice the heads of one row."""
        kept = self._owner._kept[self._owner._attentions[layer], self._step]  # type: ignore[index]
        found = []
        for buffer, new in zip(kept, (key, value), strict=True):
            # (2B, H, T, D) to (B, T, 2H, D), a row of memory for each frame.
            new = new.unflatten(0, (-1, 2)).permute(0, 3, 1, 2, 4).flatten(2, 3)
            buffer.flatten(0, 1).index_copy_(0, self._batch.rows, new.flatten(0, 1))
            found.append(buffer.index_select(0, self._batch.slot).transpose(1, 2))
        query = query.unflatten(0, (-1, 2)).flatten(1, 2)
        mask = self._batch.mask.expand(-1, -1, query.shape[2], -1)
        out = F.scaled_dot_product_attention(query, found[0], found[1], mask)
        return out.unflatten(1, (2, -1)).flatten(0, 1)

    def mask(self, layers: nn.Module, x: Tensor, chunk: int, rate: int) -> Tensor | None:
        """The same for all heads and layers: `attend` takes it from the batch."""
        return None
