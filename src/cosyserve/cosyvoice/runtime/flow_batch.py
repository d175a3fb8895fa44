"""The flow for several streams at once, in memory that never moves, so that a GPU replays it as one graph.

What a stream has behind it lies in two places: keys and values in pages of one chunk (`Pages`), the last frames of the
convolutions in a slot, both for each of the ten Euler steps. One call moves a batch of chunks of 50 frames, padded to a
width and a number of pages for which there is a graph. Several chunks of one stream may be in a batch, in their order:
every layer writes the keys, values and frames of all rows before any row reads what is behind it.

Attention does not ask in which order its keys lie, so a stream's own pages are a ring: its recording stays, and what
was spoken longest ago makes room. Until then the result equals `Flow.mel(…, chunked=True)`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from cosyserve.cosyvoice.model.config import MELS
from cosyserve.cosyvoice.model.flow import Chunk, Solver
from cosyserve.cosyvoice.runtime.eager_estimator import EagerEstimator
from cosyserve.cosyvoice.runtime.editions import fused_estimator
from cosyserve.cosyvoice.runtime.flow_memory import CHUNK, BatchRows, FlowMemory
from cosyserve.cosyvoice.runtime.graphs import Make, Pool, captured
from cosyserve.cosyvoice.runtime.memory import pages_behind
from cosyserve.cosyvoice.runtime.pages import Pages

if TYPE_CHECKING:
    from cosyserve.cosyvoice.kernels.kernels import Kernels

_CHAIN = 8  # chunks of one recording that are moved at once, however few streams there are


@dataclass
class FlowState:
    """What a stream has behind it: `table` are its pages by position, a recording's first; `moved` chunks have come."""

    slot: int
    table: list[int]
    recorded: int  # pages of the recording
    moved: int = 0

    @property
    def own(self) -> int:
        """How many pages are the stream's own, and a ring."""
        return len(self.table) - self.recorded

    def position(self, ahead: int = 0) -> int:
        """Where in the table the chunk belongs that comes after `ahead` others."""
        chunk = self.moved + ahead
        return chunk if chunk < self.recorded else self.recorded + (chunk - self.recorded) % self.own

    def room(self) -> int:
        """How many chunks may come in one batch: none of them may take a page that one before it still sees."""
        return max(1, len(self.table) - self.moved)


@dataclass(frozen=True)
class Work:
    """A chunk to be moved, at most 50 frames."""

    state: FlowState
    chunk: Chunk
    speaker: Tensor
    ends_recording: bool = False


@dataclass(frozen=True)
class Moved:
    """The mel (1, 80, T) of a chunk; of one that ends a recording also the last frames of the convolutions, with which
    others go on behind it."""

    mel: Tensor
    tails: Tensor | None = None


@dataclass(frozen=True)
class _Row:
    """What a chunk reads and writes."""

    work: Work
    position: int
    ahead: int  # how many rows before it, in a batch, are of the same stream
    last: bool  # of its stream in the batch

    @property
    def size(self) -> int:
        return self.work.chunk.mean.shape[2]

    @property
    def filled(self) -> int:
        """Positions of the table that hold something once this chunk is there."""
        state = self.work.state
        return min(state.moved + self.ahead + 1, len(state.table))


class FlowBatch:
    """`streams` at once, each with about `frames` frames behind it, in `pages` pages. Not to be used from two
    threads."""

    def __init__(
        self,
        flow: Solver,
        streams: int,
        pages: int,
        frames: int,
        pool: Pool | None = None,
        kernels: "Kernels | None" = None,
    ) -> None:
        """Without `kernels` PyTorch moves it."""
        flow.fuse()
        self._flow, self._device, self._pool = flow, flow.like.device, pool
        self.streams, self.pages_behind, self.pages = streams, pages_behind(frames), Pages(pages)
        self.width = max(_CHAIN, 1 << (streams - 1).bit_length())
        self.memory = FlowMemory(flow, streams, pages, self.width)
        fused = None if kernels is None else fused_estimator(flow, self.memory, self.width, self.pages_behind, kernels)
        self.make_estimator = fused or (lambda rows: EagerEstimator(flow, self.memory, rows))
        self._ragged = fused is not None  # kernels see each row's own past
        self._free = list(range(streams))
        self._batches: dict[tuple[int, int], _Batch] = {}

    def begin(self, recording: Sequence[int] = (), tails: Tensor | None = None) -> FlowState:
        """A stream in a voice: the pages of its recording are shared. Without `tails` they are still to be filled, and
        its first chunks are the recording's. Raises `NoPagesError`."""
        own = self.pages.take(self.pages_behind - len(recording))
        state = FlowState(self._free.pop(), [*recording, *own], len(recording))
        self.pages.share(recording)
        self.memory.slot(state.slot).zero_()
        if tails is not None:
            self.go_on(state, tails)
        return state

    def go_on(self, state: FlowState, tails: Tensor) -> None:
        """The recording of a stream has been moved, by it or by another."""
        self.memory.slot(state.slot).copy_(tails)
        state.moved = state.recorded

    def end(self, state: FlowState) -> None:
        self.pages.give_back(state.table)
        self._free.append(state.slot)

    @torch.inference_mode()
    def move(self, works: Sequence[Work]) -> list[Moved]:
        """All chunks, at most `width` of them. Those of one stream stand in their order, at most `FlowState.room`."""
        rows = _rows(works)
        batch = self._batch(1 << (len(rows) - 1).bit_length(), max(row.filled for row in rows))
        mels = batch.move(rows)
        tails = [
            self.memory.row(number).clone() if row.work.ends_recording else None for number, row in enumerate(rows)
        ]
        for row in rows:
            row.work.state.moved += 1
        return list(map(Moved, mels, tails))

    @property
    def free(self) -> int:
        """Slots that no stream has."""
        return len(self._free)

    def graphs(self) -> list[Make]:
        """What makes each of them, to be called before anybody waits for one."""
        widths = [1 << exponent for exponent in range(self.width.bit_length())]
        return [partial(self._batch, width, span) for width in widths for span in self._spans()]

    def _spans(self) -> tuple[int, ...]:
        """Numbers of pages that a batch reads: all, or on a GPU half where no stream has more behind it."""
        if self._ragged or self._device.type != "cuda":
            return (self.pages_behind,)
        return tuple(sorted({pages_behind(self.pages_behind * CHUNK // 2), self.pages_behind}))

    def _batch(self, width: int, filled: int) -> "_Batch":
        span = next(span for span in self._spans() if span >= filled)
        if (width, span) not in self._batches:
            self._batches[width, span] = _Batch(self, width, span)
        return self._batches[width, span]

    @property
    def flow(self) -> Solver:
        return self._flow

    @property
    def pool(self) -> Pool | None:
        return self._pool


def _rows(works: Sequence[Work]) -> list[_Row]:
    of_stream: dict[int, int] = {}
    rows = []
    for work in works:
        ahead = of_stream.get(work.state.slot, 0)
        of_stream[work.state.slot] = ahead + 1
        rows.append((work, work.state.position(ahead), ahead))
    return [_Row(work, position, ahead, last=ahead + 1 == of_stream[work.state.slot]) for work, position, ahead in rows]


@dataclass
class _Tables:
    """Where the rows of a batch read and write, as numbers that one copy takes to the device."""

    begin: list[int] = field(default_factory=list)  # the frame of the noise
    filled: list[int] = field(default_factory=list)  # frames behind each row, its own chunk included
    padding: list[tuple[int, int]] = field(default_factory=list)  # frames among them that are none
    page: list[int] = field(default_factory=list)  # to be written
    pages: list[list[int]] = field(default_factory=list)  # to be read
    read: list[int] = field(default_factory=list)  # whose tails a row goes on from
    write: list[int] = field(default_factory=list)  # where its own are kept


class _Batch:
    """The memory that a graph of one width and that many pages reads and writes."""

    def __init__(self, owner: FlowBatch, width: int, span: int) -> None:
        self._owner, self._flow, self._width, self._span = owner, owner.flow, width, span
        like = owner.memory.like
        device, dtype = like.device, like.dtype
        self._noise = torch.zeros(width, MELS, CHUNK, device=device)
        self._mean, self._prompt = (torch.zeros(width, MELS, CHUNK, device=device, dtype=dtype) for _ in range(2))
        self._speaker = torch.zeros(width, MELS, device=device, dtype=dtype)
        self._rows = BatchRows(width, span, device)
        self._estimator = owner.make_estimator(self._rows)
        self._mel = torch.zeros_like(self._noise)
        made = self._estimator.moves(self._noise, self._mean, self._speaker, self._prompt, self._mel)
        self._works: list[Make] = [*made, lambda: owner.memory.keep(self._rows.write)]
        if device.type == "cuda":
            self._works = self._captured()

    def move(self, rows: Sequence[_Row]) -> list[Tensor]:
        self._fill(rows)
        for work in self._works:
            work()
        moved = self._mel.clone()  # the next replay writes into it
        return [moved[number : number + 1, :, : row.size] for number, row in enumerate(rows)]

    def _fill(self, rows: Sequence[_Row]) -> None:
        if rows:
            count = len(rows)
            self._mean[:count] = torch.cat([_padded(row.work.chunk.mean) for row in rows])
            self._prompt[:count] = torch.cat([_padded(row.work.chunk.prompt) for row in rows])
            self._speaker[:count] = torch.cat([row.work.speaker for row in rows])
        tables = self._tables(rows)
        flat = [*tables.begin, *tables.filled, *(edge for pair in tables.padding for edge in pair)]
        numbers = [*flat, *tables.page, *tables.read, *tables.write, *(page for each in tables.pages for page in each)]
        sent = torch.tensor(numbers)
        if self._mel.device.type == "cuda":
            sent = sent.pin_memory().to(self._mel.device, non_blocking=True)
        begin, filled, padding, page, read, write, pages = sent.split(
            [self._width, self._width, 2 * self._width, *3 * [self._width], self._width * self._span]
        )
        frames = torch.arange(CHUNK, device=self._mel.device)
        self._noise.copy_(
            self._flow.noise[0]
            .index_select(1, (begin[:, None] + frames).flatten())
            .unflatten(1, (-1, CHUNK))
            .transpose(0, 1)
        )
        by_chunk = (self._width, -1)
        self._rows.fill(page, pages.unflatten(0, by_chunk), filled, padding.unflatten(0, by_chunk), read, write, begin)
        self._estimator.prepare()

    def _tables(self, rows: Sequence[_Row]) -> _Tables:
        tables, left, spare_page = _Tables(), self._owner.streams + 1, self._owner.pages.count
        for number, row in enumerate(rows):
            state, at = row.work.state, CHUNK * row.position
            tables.begin.append(row.work.chunk.begin)
            tables.filled.append(CHUNK * row.filled)
            tables.padding.append((at + row.size, at + CHUNK))
            tables.page.append(state.table[row.position])
            tables.pages.append([*state.table[: row.filled], *[spare_page] * (self._span - row.filled)])
            tables.read.append(left + number - 1 if row.ahead else state.slot)
            tables.write.append(state.slot if row.last else self._owner.streams)
        for _ in range(self._width - len(rows)):
            tables.begin.append(0)
            tables.filled.append(CHUNK)
            tables.padding.append((0, 0))
            tables.page.append(spare_page)
            tables.pages.append([spare_page] * self._span)
            tables.read.append(self._owner.streams)
            tables.write.append(self._owner.streams)
        return tables

    def _captured(self) -> list[Make]:
        """What the rehearsals leave behind lies in the spare page and slot."""
        self._fill([])
        return [captured(work, self._owner.pool).replay for work in self._works]


def _padded(frames: Tensor) -> Tensor:
    """(1, 80, T) with zeros up to a chunk."""
    return frames if frames.shape[2] == CHUNK else F.pad(frames, (0, CHUNK - frames.shape[2]))
