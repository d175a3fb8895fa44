"""The flow's encoder for several utterances at once, in memory that never moves, so that a GPU replays it as one graph.

What an utterance has behind it lies in a slot: its keys and values, by chunks of 25 tokens, and the last frames of the
two convolutions. One step does the next chunk of as many utterances as are given, padded to a width and a span of
chunks for which there is a graph. What is done equals `Flow.mean(…, chunked=True)`, whatever else is in the step.

A slot that is full goes on: its recording stays, and the newest chunk takes the place of the one spoken longest ago.
The others close the gap, so that no distance grows beyond the memory.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import cast

import torch
from torch import Tensor, nn

from cosyserve.cosyvoice.model.config import CHUNK_TOKENS, FRAMES_PER_TOKEN
from cosyserve.cosyvoice.model.encoder import Attention, Layer, added, relative_positions
from cosyserve.cosyvoice.model.flow import Flow
from cosyserve.cosyvoice.runtime.graphs import Pool
from cosyserve.cosyvoice.runtime.mean_batch import (
    STEP_TOKENS,
    Encoded,
    EncodedStream,
    MeanBatch,
    MeanStep,
    SlotTails,
    up_to,
)
from cosyserve.cosyvoice.runtime.memory import chunks_of

# Chunks that attention spans: 8 s, 24 s, then all there are. Multiples of 8, without which the attention kernels copy
# their bias.
_SPANS, _SPAN_UNIT = (8, 24), 8
_MOST_SCORED = 768  # chunks of all rows of a graph together: what bounds its scores, 100 MB in bfloat16


class EncoderBatch(MeanBatch):
    """`slots` utterances, of which `tokens` tokens each, the recording's included, are remembered. Not to be used from
    two threads."""

    def __init__(self, flow: Flow, slots: int, tokens: int, pool: Pool | None = None) -> None:
        encoder = flow.encoder
        width = flow.input_embedding.weight.shape[1]
        tails: dict[nn.Module, tuple[int, int]] = {
            encoder.pre_lookahead_layer: (width, 2),
            encoder.up_layer: (width, 2 * FRAMES_PER_TOKEN),
        }
        super().__init__(flow, slots, tails, pool)
        self.flow, self.room = flow, chunks_of(tokens)
        heads, dim = cast("Layer", encoder.encoders[0]).self_attn.pos_bias_u.shape
        self._kept: dict[int, Tensor] = {}  # by rate: layer, slot, chunk, position, keys and values side by side
        self.kept_of: dict[nn.Module, Tensor] = {}
        self.distances: dict[nn.Module, Tensor] = {}
        for rate, layers in ((1, encoder.encoders), (FRAMES_PER_TOKEN, encoder.up_encoders)):
            size = (len(layers), slots + 1, self.room, CHUNK_TOKENS * rate, 2, heads, dim)
            self._kept[rate] = self.like.new_zeros(size)
            attentions = [layer.self_attn for layer in cast("list[Layer]", layers)]
            self.kept_of |= dict(zip(attentions, self._kept[rate].flatten(1, 2), strict=True))
            self.distances |= self._distances(attentions, CHUNK_TOKENS * rate)

    @property
    def nbytes(self) -> int:
        return super().nbytes + sum(each.nbytes for each in self._kept.values())

    def stays(self, tokens: Sequence[int]) -> int:
        """Of a recording as long as the memory the beginning stays, and two chunks are left for what follows."""
        return min(len(tokens) // CHUNK_TOKENS, max(0, self.room - 2))

    def keep(self, stream: EncodedStream) -> Encoded:
        filled = min(stream.chunks, self.room)
        kept = {rate: kept[:, stream.slot, :filled].clone() for rate, kept in self._kept.items()}
        return replace(super().keep(stream), kept=kept)

    def resume(self, encoded: Encoded, slot: int) -> EncodedStream:
        for rate, kept in encoded.kept.items():
            self._kept[rate][:, slot, : kept.shape[1]] = kept
        return super().resume(encoded, slot)

    @property
    def spans(self) -> list[int]:
        longest = -(-self.room // _SPAN_UNIT) * _SPAN_UNIT
        return [*(span for span in _SPANS if span < longest), longest]

    def span(self, stream: EncodedStream) -> int:
        return next(span for span in self.spans if span >= min(stream.chunks + 1, self.room))

    def widest(self, span: int) -> int:
        return 1 << (max(1, _MOST_SCORED // span).bit_length() - 1)

    def step_of(self, width: int, span: int) -> MeanStep:
        return _Step(self, width, span)

    @torch.inference_mode()
    def _distances(self, attentions: Sequence[Attention], new: int) -> dict[nn.Module, Tensor]:
        """Each layer's projections of all distances there can be, the furthest first."""
        seen = self.spans[-1] * new
        positions = relative_positions(new, seen, self.flow.input_embedding.weight.shape[1], self.like.device)
        positions = positions.to(self.like.dtype)
        return {each: each.distances(positions).contiguous() for each in attentions}


class _Step(MeanStep):
    """What a graph of one width and span reads and writes.

    How far a chunk is from the newest one differs from row to row. So each row gathers its chunks in their order with
    the newest one last: then a column of the scores has the same distance in all rows, and what a row lacks is missing
    on the left. One table of distances and one shift of the scores serve all rows, as they do in `encoder.Attention`.
    The gather costs nothing more, since the rows' slots have to be gathered anyway.
    """

    def __init__(self, owner: EncoderBatch, width: int, span: int) -> None:
        super().__init__(owner, width)
        self._owner, self._span = owner, span

    def step(self) -> None:
        slot, chunks, stays, known, tokens = self.rows
        number = chunks_behind(chunks, stays, self._span, self._owner.room)
        place = (slot * self._owner.room + place_of(number, stays, self._owner.room)).flatten()
        past = _SlotsPast(self._owner, slot.flatten(), place, self._width)
        embedded = self._owner.flow.encoder.embed(self._owner.flow.input_embedding(tokens))
        embedded = embedded.masked_fill((up_to(STEP_TOKENS, known) >= known)[..., None], 0)
        seen = added(self._seen(number, known), embedded.dtype)
        masks = {rate: seen.repeat_interleave(rate, dim=1)[:, None, None] for rate in (1, FRAMES_PER_TOKEN)}

        def attend(layers: nn.ModuleList, x: Tensor, rate: int) -> Tensor:
            for layer in cast("list[Layer]", layers):
                distances = self._owner.distances[layer.self_attn]
                count = (self._span + 1) * CHUNK_TOKENS * rate - 1
                x = layer(x, distances[:, distances.shape[1] - count :], masks[rate], past)
            return x

        encoded = self._owner.flow.encoder.encode(embedded, past, attend)
        self._mean.copy_(self._owner.flow.encoder_proj(encoded).transpose(1, 2))

    def _seen(self, number: Tensor, known: Tensor) -> Tensor:
        """Which tokens of a row's chunks are to be attended to (width, 25 × span): those that are there, and of the
        newest chunk those that are no padding."""
        there = (number >= 0)[..., None].repeat(1, 1, CHUNK_TOKENS)
        there[:, -1] = up_to(CHUNK_TOKENS, known) < known
        return there.flatten(1)


def chunks_behind(chunks: Tensor, stays: Tensor, span: int, room: int) -> Tensor:
    """The numbers (B, span) of the chunks that are remembered once chunk number `chunks` (B, 1) is the newest, in
    their order and the newest last; −1 on the left where there are fewer. The first `stays` are always among them."""
    kept = (chunks + 1).clamp(max=room)
    order = up_to(span, chunks) - (span - kept)
    number = torch.where(order < stays, order, order + (chunks + 1 - kept))
    return number.masked_fill(order < 0, -1)


def place_of(number: Tensor, stays: Tensor, room: int) -> Tensor:
    """Where a chunk lies in a slot: first the chunks that stay, then a ring. A missing chunk gets a place in use."""
    ring = stays + (number - stays) % (room - stays)
    return torch.where(number < stays, number.clamp(min=0), ring)


class _SlotsPast(SlotTails):
    """The pasts of a batch's rows, in their slots. The last of each row's positions is that of its newest chunk."""

    def __init__(self, owner: EncoderBatch, slots: Tensor, positions: Tensor, width: int) -> None:
        super().__init__(owner.tail_of, slots)
        self._kept_of, self._count, self._positions = owner.kept_of, width, positions
        self._newest = positions.view(width, -1)[:, -1].contiguous()

    def attended(self, layer: nn.Module, key: Tensor, value: Tensor, rate: int) -> tuple[Tensor, Tensor]:
        kept = self._kept_of[layer]
        kept.index_copy_(0, self._newest, torch.stack((key.transpose(1, 2), value.transpose(1, 2)), dim=2))
        behind = kept.index_select(0, self._positions).unflatten(0, (self._count, -1)).flatten(1, 2)
        keys, values = behind.permute(2, 0, 3, 1, 4)
        return keys, values
