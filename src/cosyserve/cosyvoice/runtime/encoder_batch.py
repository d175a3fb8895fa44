"""The flow's encoder for several utterances at once, in memory that never moves, so that a GPU replays it as one graph.

What an utterance has behind it lies in a slot: its keys and values, by chunks of 25 tokens, and the last frames of the
two convolutions. One step does the next chunk of as many utterances as are given, padded to a width and a span of
chunks for which there is a graph. What is done equals `Flow.mean(…, chunked=True)`, whatever else is in the step.

A slot that is full goes on: its recording stays, and the newest chunk takes the place of the one spoken longest ago.
The others close the gap, so that no distance grows beyond the memory.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from cosyserve.cosyvoice.model.config import CHUNK_TOKENS, FRAMES_PER_TOKEN, LOOK_AHEAD, MELS
from cosyserve.cosyvoice.model.encoder import Attention, Layer, added, relative_positions
from cosyserve.cosyvoice.model.flow import Chunk, Flow
from cosyserve.cosyvoice.model.past import Past
from cosyserve.cosyvoice.runtime.graphs import Make, Pool, captured
from cosyserve.cosyvoice.runtime.memory import chunks_of

_CHUNK_FRAMES = CHUNK_TOKENS * FRAMES_PER_TOKEN
_STEP_TOKENS = CHUNK_TOKENS + LOOK_AHEAD
# Chunks that attention spans: 8 s, 24 s, then all there are. Multiples of 8, without which the attention kernels copy
# their bias.
_SPANS, _SPAN_UNIT = (8, 24), 8
_MOST_SCORED = 768  # chunks of all rows of a graph together: what bounds its scores, 100 MB in bfloat16


@dataclass
class EncodedStream:
    """The encoder's side of one utterance whose tokens come a few at a time: the recording's, then those spoken.

    `prompt` is the recording's mel and a chunk of zeros after it (1, 80, T + 50). The first `stays` chunks are the
    recording's, which are never forgotten.
    """

    slot: int
    speaker: Tensor  # (1, 80)
    prompt: Tensor
    stays: int
    waiting: list[int]  # tokens that are not finished yet
    chunks: int = 0  # finished, the recording's included
    finished: list[Chunk] = field(default_factory=list)  # that nobody has taken yet

    def add(self, tokens: Tensor) -> None:
        """More of them (1, T), which on a device are waited for."""
        self.waiting = [*self.waiting, *tokens[0].tolist()]

    def ready(self, *, final: bool) -> bool:
        """Whether a chunk can be done: with the three tokens after it, or with none where no more come."""
        return len(self.waiting) >= _STEP_TOKENS or (final and bool(self.waiting))

    def finish(self, mean: Tensor) -> None:
        """Takes the tokens that gave `mean` (1, 80, 50) off those that wait."""
        begin, size = self.chunks * _CHUNK_FRAMES, FRAMES_PER_TOKEN * min(len(self.waiting), CHUNK_TOKENS)
        self.waiting = self.waiting[CHUNK_TOKENS:]
        self.chunks += 1
        recorded = min(max(0, self.recorded - begin), size)
        at = min(begin, self.recorded)
        self.finished.append(Chunk(begin, mean[:, :, :size], self.prompt[:, :, at : at + size], recorded))

    def take(self) -> list[Chunk]:
        taken, self.finished = self.finished, []
        return taken

    @property
    def recorded(self) -> int:
        """Frames of the recording."""
        return self.prompt.shape[2] - _CHUNK_FRAMES


@dataclass(frozen=True)
class Encoded:
    """What a stream has behind it, wherever others are to go on from there: only what is filled, and in no slot."""

    stream: EncodedStream
    kept: dict[int, Tensor]
    tails: dict[nn.Module, Tensor]


Work = tuple[EncodedStream, bool]  # and whether no more tokens will come


class EncoderBatch:
    """`slots` utterances, of which `tokens` tokens each, the recording's included, are remembered. Not to be used from
    two threads."""

    def __init__(self, flow: Flow, slots: int, tokens: int, pool: Pool | None = None) -> None:
        self._flow, self._pool, self.slots, self.room = flow, pool, slots, chunks_of(tokens)
        self._like = like = flow.encoder_proj.weight
        encoder = flow.encoder
        heads, dim = cast("Layer", encoder.encoders[0]).self_attn.pos_bias_u.shape
        # One slot more than there are: rows of a graph that nobody needs work there.
        self._kept: dict[int, Tensor] = {}  # by rate: layer, slot, chunk, position, keys and values side by side
        self._kept_of: dict[nn.Module, Tensor] = {}
        self.distances: dict[nn.Module, Tensor] = {}
        for rate, layers in ((1, encoder.encoders), (FRAMES_PER_TOKEN, encoder.up_encoders)):
            size = (len(layers), slots + 1, self.room, CHUNK_TOKENS * rate, 2, heads, dim)
            self._kept[rate] = like.new_zeros(size)
            attentions = [layer.self_attn for layer in cast("list[Layer]", layers)]
            self._kept_of |= dict(zip(attentions, self._kept[rate].flatten(1, 2), strict=True))
            self.distances |= self._distances(attentions, CHUNK_TOKENS * rate)
        widths = {encoder.pre_lookahead_layer: 2, encoder.up_layer: 2 * FRAMES_PER_TOKEN}
        self._tail_of = {layer: like.new_zeros(slots + 1, like.shape[1], width) for layer, width in widths.items()}
        self._batches: dict[tuple[int, int], _Batch] = {}

    def begin(self, slot: int, prompt_tokens: Tensor, prompt_mel: Tensor, embedding: Tensor) -> EncodedStream:
        """An utterance with nothing behind it. Its recording, tokens (1, P) and mel (1, 2P, 80), is done with the first
        `push`. Of one that is as long as the memory the beginning stays, and two chunks are left for what follows."""
        for tail in self._tail_of.values():
            tail[slot] = 0
        tokens: list[int] = prompt_tokens[0].tolist()
        prompt = F.pad(prompt_mel.to(self._like.device).transpose(1, 2), (0, _CHUNK_FRAMES))
        stays = min(len(tokens) // CHUNK_TOKENS, max(0, self.room - 2))
        with torch.inference_mode():
            return EncodedStream(slot, self._flow.speaker(embedding), prompt, stays, tokens)

    def keep(self, stream: EncodedStream) -> Encoded:
        """What others go on from: a voice's recording, say. The stream may go on by itself."""
        filled = min(stream.chunks, self.room)
        kept = {rate: kept[:, stream.slot, :filled].clone() for rate, kept in self._kept.items()}
        tails = {layer: tail[stream.slot].clone() for layer, tail in self._tail_of.items()}
        return Encoded(replace(stream), kept, tails)

    def resume(self, encoded: Encoded, slot: int) -> EncodedStream:
        """An utterance that goes on from there, in a slot of its own."""
        for rate, kept in encoded.kept.items():
            self._kept[rate][:, slot, : kept.shape[1]] = kept
        for layer, tail in encoded.tails.items():
            self._tail_of[layer][slot] = tail
        return replace(encoded.stream, slot=slot, finished=[])

    @torch.inference_mode()
    def push(self, works: Sequence[Work]) -> list[list[Chunk]]:
        """The chunks that each stream's tokens finish, as soon as the three tokens after them are known; where no more
        come, all that is left. The streams are different ones. Where it raises, another push goes on from there."""
        while ready := [row for row, (stream, final) in enumerate(works) if stream.ready(final=final)]:
            # Those of one span: a longer one would sum up a stream's numbers in another order than it does alone.
            span = max(self._span(works[row][0]) for row in ready)
            rows = [row for row in ready if self._span(works[row][0]) == span][: self._widest(span)]
            means = self._batch(len(rows), span).means([works[row][0] for row in rows]).split(1)
            for row, mean in zip(rows, means, strict=False):
                works[row][0].finish(mean)
        return [stream.take() for stream, _ in works]

    def graphs(self, most: int) -> list[Make]:
        """What makes each of them, for all numbers of utterances up to `most`."""
        return [
            partial(self._batch, 1 << exponent, span)
            for span in self._spans
            for exponent in range((min(most, self._widest(span)) - 1).bit_length() + 1)
        ]

    def _span(self, stream: EncodedStream) -> int:
        """The least that a stream's next step needs."""
        return next(span for span in self._spans if span >= min(stream.chunks + 1, self.room))

    @property
    def _spans(self) -> list[int]:
        longest = -(-self.room // _SPAN_UNIT) * _SPAN_UNIT
        return [*(span for span in _SPANS if span < longest), longest]

    @staticmethod
    def _widest(span: int) -> int:
        """Rows of a graph, a power of two."""
        return 1 << (max(1, _MOST_SCORED // span).bit_length() - 1)

    def _batch(self, streams: int, span: int) -> "_Batch":
        width = 1 << (streams - 1).bit_length()
        if (width, span) not in self._batches:
            self._batches[width, span] = _Batch(self, width, span)
        return self._batches[width, span]

    @torch.inference_mode()
    def _distances(self, attentions: Sequence[Attention], new: int) -> dict[nn.Module, Tensor]:
        """Each layer's projections of all distances there can be, the furthest first."""
        seen = self._spans[-1] * new
        positions = relative_positions(new, seen, self._like.shape[1], self._like.device).to(self._like.dtype)
        return {each: each.distances(positions).contiguous() for each in attentions}


class _Batch:
    """What a graph of one width and span reads and writes.

    How far a chunk is from the newest one differs from row to row. So each row gathers its chunks in their order with
    the newest one last: then a column of the scores has the same distance in all rows, and what a row lacks is missing
    on the left. One table of distances and one shift of the scores serve all rows, as they do in `encoder.Attention`.
    The gather costs nothing more, since the rows' slots have to be gathered anyway.
    """

    def __init__(self, owner: EncoderBatch, width: int, span: int) -> None:
        self._owner, self._flow, self._width, self._span = owner, owner._flow, width, span
        device = owner._like.device
        # Of each row: its slot, chunks finished, chunks that stay, tokens that are known, and those tokens.
        self._table = torch.zeros(width, 4 + _STEP_TOKENS, device=device, dtype=torch.long)
        self._mean = owner._like.new_zeros(width, MELS, _CHUNK_FRAMES)
        self._graph = self._captured() if device.type == "cuda" else None

    def means(self, streams: Sequence[EncodedStream]) -> Tensor:
        """(width, 80, 50) of the streams' next chunks; what is beyond their tokens means nothing."""
        self._fill(streams)
        if self._graph is None:
            self._step()
        else:
            self._graph.replay()
        return self._mean.clone()  # the next replay writes into it

    def _fill(self, streams: Sequence[EncodedStream]) -> None:
        """One copy, which the host does not wait for."""
        rows = [_row(each.slot, each.chunks, each.stays, each.waiting[:_STEP_TOKENS]) for each in streams]
        rows += [_row(self._owner.slots, 0, 0, [0])] * (self._width - len(rows))
        self._table.copy_(torch.tensor(rows, pin_memory=self._table.is_cuda), non_blocking=True)

    def _step(self) -> None:
        slot, chunks, stays, known, tokens = self._table.split((1, 1, 1, 1, _STEP_TOKENS), dim=1)
        number = chunks_behind(chunks, stays, self._span, self._owner.room)
        place = (slot * self._owner.room + place_of(number, stays, self._owner.room)).flatten()
        past = _SlotsPast(self._owner, slot.flatten(), place, self._width)
        embedded = self._flow.encoder.embed(self._flow.input_embedding(tokens))
        embedded = embedded.masked_fill((_up_to(_STEP_TOKENS, known) >= known)[..., None], 0)
        seen = added(self._seen(number, known), embedded.dtype)
        masks = {rate: seen.repeat_interleave(rate, dim=1)[:, None, None] for rate in (1, FRAMES_PER_TOKEN)}

        def attend(layers: nn.ModuleList, x: Tensor, rate: int) -> Tensor:
            for layer in cast("list[Layer]", layers):
                distances = self._owner.distances[layer.self_attn]
                count = (self._span + 1) * CHUNK_TOKENS * rate - 1
                x = layer(x, distances[:, distances.shape[1] - count :], masks[rate], past)
            return x

        encoded = self._flow.encoder.encode(embedded, past, attend)
        self._mean.copy_(self._flow.encoder_proj(encoded).transpose(1, 2))

    def _seen(self, number: Tensor, known: Tensor) -> Tensor:
        """Which tokens of a row's chunks are to be attended to (width, 25 × span): those that are there, and of the
        newest chunk those that are no padding."""
        there = (number >= 0)[..., None].repeat(1, 1, CHUNK_TOKENS)
        there[:, -1] = _up_to(CHUNK_TOKENS, known) < known
        return there.flatten(1)

    def _captured(self) -> torch.cuda.CUDAGraph:
        """What the rehearsals leave behind lies in the spare slot."""
        self._fill([])
        return captured(self._step, self._owner._pool)


def _row(slot: int, chunks: int, stays: int, known: list[int]) -> list[int]:
    return [slot, chunks, stays, len(known), *known, *[0] * (_STEP_TOKENS - len(known))]


def _up_to(count: int, like: Tensor) -> Tensor:
    return torch.arange(count, device=like.device)


def chunks_behind(chunks: Tensor, stays: Tensor, span: int, room: int) -> Tensor:
    """The numbers (B, span) of the chunks that are remembered once chunk number `chunks` (B, 1) is the newest, in
    their order and the newest last; −1 on the left where there are fewer. The first `stays` are always among them."""
    kept = (chunks + 1).clamp(max=room)
    order = _up_to(span, chunks) - (span - kept)
    number = torch.where(order < stays, order, order + (chunks + 1 - kept))
    return number.masked_fill(order < 0, -1)


def place_of(number: Tensor, stays: Tensor, room: int) -> Tensor:
    """Where in a slot a chunk lies: those that stay, then a ring. Of what is missing, a place that holds something."""
    ring = stays + (number - stays) % (room - stays)
    return torch.where(number < stays, number.clamp(min=0), ring)


class _SlotsPast(Past):
    """The pasts of a batch's rows, in their slots. The last of each row's positions is that of its newest chunk."""

    def __init__(self, owner: EncoderBatch, slots: Tensor, positions: Tensor, width: int) -> None:
        super().__init__()
        self._owner, self._slots, self._positions = owner, slots, positions
        self._newest = positions.view(width, -1)[:, -1].contiguous()

    def before(self, layer: nn.Module, x: Tensor, width: int) -> Tensor:
        tail = self._owner._tail_of[layer]
        x = torch.cat((tail.index_select(0, self._slots), x), dim=2)
        tail.index_copy_(0, self._slots, x[..., x.shape[2] - width :])
        return x

    def attended(self, layer: nn.Module, key: Tensor, value: Tensor, rate: int) -> tuple[Tensor, Tensor]:
        kept = self._owner._kept_of[layer]
        kept.index_copy_(0, self._newest, torch.stack((key.transpose(1, 2), value.transpose(1, 2)), dim=2))
        behind = kept.index_select(0, self._positions).unflatten(0, (len(self._slots), -1)).flatten(1, 2)
        keys, values = behind.permute(2, 0, 3, 1, 4)
        return keys, values
