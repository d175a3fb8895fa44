"""The mean of the mel for several utterances at once, in memory that never moves, so that a GPU replays it as a graph.

What an utterance has behind it lies in a slot. One step does the next chunk of as many utterances as are given, padded
to a width for which there is a graph. What is done equals `Solver.mean(…, chunked=True)`, whoever else is in the step.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from cosyserve.cosyvoice.model.config import CHUNK_TOKENS, FRAMES_PER_TOKEN, LOOK_AHEAD, MELS
from cosyserve.cosyvoice.model.flow import Chunk, Solver
from cosyserve.cosyvoice.model.past import Past
from cosyserve.cosyvoice.runtime.graphs import Make, Pool, captured

CHUNK_FRAMES = CHUNK_TOKENS * FRAMES_PER_TOKEN
STEP_TOKENS = CHUNK_TOKENS + LOOK_AHEAD


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
        return len(self.waiting) >= STEP_TOKENS or (final and bool(self.waiting))

    def finish(self, mean: Tensor) -> None:
        """Takes the tokens that gave `mean` (1, 80, 50) off those that wait."""
        begin, size = self.chunks * CHUNK_FRAMES, FRAMES_PER_TOKEN * min(len(self.waiting), CHUNK_TOKENS)
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
        return self.prompt.shape[2] - CHUNK_FRAMES


@dataclass(frozen=True)
class Encoded:
    """What a stream has behind it, wherever others are to go on from there: only what is filled, and in no slot."""

    stream: EncodedStream
    kept: dict[int, Tensor]  # by the tokens' rate
    tails: dict[nn.Module, Tensor]


Work = tuple[EncodedStream, bool]  # and whether no more tokens will come


class MeanBatch(ABC):
    """`slots` utterances. Not to be used from two threads."""

    def __init__(self, flow: Solver, slots: int, tails: dict[nn.Module, tuple[int, int]], pool: Pool | None) -> None:
        """`tails` are the convolutions whose last frames are kept, by channels and how many."""
        self.solver, self.pool, self.slots, self.like = flow, pool, slots, flow.like
        # One slot more than there are: rows of a graph that nobody needs work there.
        self.tail_of = {layer: flow.like.new_zeros(slots + 1, *shape) for layer, shape in tails.items()}
        self._batches: dict[tuple[int, int], MeanStep] = {}

    def begin(self, slot: int, prompt_tokens: Tensor, prompt_mel: Tensor, embedding: Tensor) -> EncodedStream:
        """An utterance with nothing behind it. Its recording, tokens (1, P) and mel (1, 2P, 80), is done with the first
        `push`."""
        for tail in self.tail_of.values():
            tail[slot] = 0
        tokens: list[int] = prompt_tokens[0].tolist()
        prompt = F.pad(prompt_mel.to(self.like.device).transpose(1, 2), (0, CHUNK_FRAMES))
        with torch.inference_mode():
            return EncodedStream(slot, self.solver.speaker(embedding), prompt, self.stays(tokens), tokens)

    @property
    def nbytes(self) -> int:
        """What the slots take."""
        return sum(each.nbytes for each in self.tail_of.values())

    def stays(self, tokens: Sequence[int]) -> int:
        """How many chunks of such a recording are never forgotten, where anything is."""
        return 0

    def keep(self, stream: EncodedStream) -> Encoded:
        """What others go on from: a voice's recording, say. The stream may go on by itself."""
        tails = {layer: tail[stream.slot].clone() for layer, tail in self.tail_of.items()}
        return Encoded(replace(stream), {}, tails)

    def resume(self, encoded: Encoded, slot: int) -> EncodedStream:
        """An utterance that goes on from there, in a slot of its own."""
        for layer, tail in encoded.tails.items():
            self.tail_of[layer][slot] = tail
        return replace(encoded.stream, slot=slot, finished=[])

    @torch.inference_mode()
    def push(self, works: Sequence[Work]) -> list[list[Chunk]]:
        """The chunks that each stream's tokens finish, as soon as the three tokens after them are known; where no more
        come, all that is left. The streams are different ones. Where it raises, another push goes on from there."""
        while ready := [row for row, (stream, final) in enumerate(works) if stream.ready(final=final)]:
            # Those of one span: a longer one would sum up a stream's numbers in another order than it does alone.
            span = max(self.span(works[row][0]) for row in ready)
            rows = [row for row in ready if self.span(works[row][0]) == span][: self.widest(span)]
            means = self.batch(len(rows), span).means([works[row][0] for row in rows]).split(1)
            for row, mean in zip(rows, means, strict=False):
                works[row][0].finish(mean)
        return [stream.take() for stream, _ in works]

    def graphs(self, most: int) -> list[Make]:
        """What makes each of them, for all numbers of utterances up to `most`."""
        return [
            partial(self.batch, 1 << exponent, span)
            for span in self.spans
            for exponent in range((min(most, self.widest(span)) - 1).bit_length() + 1)
        ]

    def batch(self, streams: int, span: int) -> "MeanStep":
        width = 1 << (streams - 1).bit_length()
        if (width, span) not in self._batches:
            made = self.step_of(width, span)
            made.capture()
            self._batches[width, span] = made
        return self._batches[width, span]

    @property
    @abstractmethod
    def spans(self) -> list[int]:
        """Of how many chunks there are graphs, the fewest first."""

    @abstractmethod
    def span(self, stream: EncodedStream) -> int:
        """The least that a stream's next step needs."""

    @abstractmethod
    def widest(self, span: int) -> int:
        """Rows of a graph, a power of two."""

    @abstractmethod
    def step_of(self, width: int, span: int) -> "MeanStep":
        """So many rows of such a span."""


class MeanStep(ABC):
    """What a graph of one width reads and writes."""

    def __init__(self, owner: MeanBatch, width: int) -> None:
        device = owner.like.device
        self._spare, self._width = owner.slots, width
        # Of each row: its slot, chunks finished, chunks that stay, tokens that are known, and those tokens.
        self._table = torch.zeros(width, 4 + STEP_TOKENS, device=device, dtype=torch.long)
        self._mean = owner.like.new_zeros(width, MELS, CHUNK_FRAMES)
        self._graph: torch.cuda.CUDAGraph | None = None
        self._pool = owner.pool

    def means(self, streams: Sequence[EncodedStream]) -> Tensor:
        """(width, 80, 50) of the streams' next chunks; what is beyond their tokens means nothing."""
        self._fill(streams)
        if self._graph is None:
            self.step()
        else:
            self._graph.replay()
        return self._mean.clone()  # the next replay writes into it

    @abstractmethod
    def step(self) -> None:
        """The mean of the table's rows, into its place."""

    @property
    def rows(self) -> tuple[Tensor, ...]:
        """The table's columns: slot, chunks, chunks that stay, tokens known (width, 1), and the tokens (width, 28)."""
        return self._table.split((1, 1, 1, 1, STEP_TOKENS), dim=1)

    def _fill(self, streams: Sequence[EncodedStream]) -> None:
        """One copy, which the host does not wait for."""
        rows = [_row(each.slot, each.chunks, each.stays, each.waiting[:STEP_TOKENS]) for each in streams]
        rows += [_row(self._spare, 0, 0, [0])] * (self._width - len(rows))
        self._table.copy_(torch.tensor(rows, pin_memory=self._table.is_cuda), non_blocking=True)

    def capture(self) -> None:
        """On a GPU. What the rehearsals leave behind lies in the spare slot."""
        if self._mean.is_cuda:
            self._fill([])
            self._graph = captured(self.step, self._pool)


def _row(slot: int, chunks: int, stays: int, known: list[int]) -> list[int]:
    return [slot, chunks, stays, len(known), *known, *[0] * (STEP_TOKENS - len(known))]


def up_to(count: int, like: Tensor) -> Tensor:
    return torch.arange(count, device=like.device)


class SlotTails(Past):
    """The last frames of a batch's rows, in their slots."""

    def __init__(self, tail_of: dict[nn.Module, Tensor], slots: Tensor) -> None:
        super().__init__()
        self._tail_of, self._slots = tail_of, slots

    def before(self, layer: nn.Module, x: Tensor, width: int) -> Tensor:
        tail = self._tail_of[layer]
        x = torch.cat((tail.index_select(0, self._slots), x), dim=2)
        tail.index_copy_(0, self._slots, x[..., x.shape[2] - width :])
        return x
