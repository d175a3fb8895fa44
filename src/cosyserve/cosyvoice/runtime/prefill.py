"""Prompts are read in pieces of one length, so a piece is one graph, and other requests' tokens wait only for a piece.

They are read into a cache of their own. The last piece may be padded; no position of the prompt sees the padding.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor

from cosyserve.cosyvoice.model.qwen2 import Cache, Llm
from cosyserve.cosyvoice.runtime.graphs import Graphed, Make, Pool
from cosyserve.cosyvoice.runtime.steps import spans

if TYPE_CHECKING:
    from cosyserve.cosyvoice.kernels.kernels import Kernels

PROMPTS = 4  # that Triton's kernels read at once


@dataclass(frozen=True)
class Piece:
    """`rows` (T, W) of a prompt from its position `begin` on, of which row `last` is the last before padding."""

    rows: Tensor
    slot: int
    begin: int
    last: int


class Prefill(Protocol):
    """Not to be used from two threads."""

    cache: Cache
    """A slot for each prompt that is being read."""

    def graphs(self) -> list[Make]:
        """What makes each graph of a GPU."""
        ...

    def read(self, pieces: Sequence[Piece]) -> list[Tensor]:
        """Read at most as many pieces as there are slots; the scores (V,) behind the last row of each. They do not
        depend on the number of pieces."""
        ...


class TorchPrefill:
    """Reads pieces one after the other, with PyTorch."""

    def __init__(self, llm: Llm, length: int, size: int, pool: Pool | None) -> None:
        self._llm, self._size, self._pool = llm, size, pool
        self.cache = llm.cache(1, spans(length + size)[-1])
        self._graphs: dict[int, Graphed] = {}

    def graphs(self) -> list[Make]:
        return [partial(self._rehearse, span) for span in spans(self.cache.length)]

    def read(self, pieces: Sequence[Piece]) -> list[Tensor]:
        return [self._read(each) for each in pieces]

    def _read(self, piece: Piece) -> Tensor:
        device = piece.rows.device
        span = next(span for span in spans(self.cache.length) if span >= piece.begin + len(piece.rows))
        at, last = (torch.full((1,), each, device=device) for each in (piece.begin, piece.last))
        if device.type != "cuda":
            return self._llm.extend(piece.rows, at, last, self.cache, span)
        (scores,) = self._graph(span)(piece.rows, at, last)
        return scores

    def _graph(self, span: int) -> Graphed:
        def work(rows: Tensor, begin: Tensor, last: Tensor) -> list[Tensor]:
            return [self._llm.extend(rows, begin, last, self.cache, span)]

        return self._graphs.setdefault(span, Graphed(work, self._pool))

    @torch.inference_mode()
    def _rehearse(self, span: int) -> None:
        rows = self.cache.layers.new_zeros(self._size, self._llm.config.hidden)
        self._read(Piece(rows, 0, span - self._size, 0))


class KernelPrefill:
    """Reads several pieces at once, with Triton's kernels."""

    def __init__(self, llm: Llm, length: int, size: int, pool: Pool | None, kernels: "Kernels") -> None:
        # Triton is imported only if there is a card.
        from cosyserve.cosyvoice.kernels.rotary_append import Places
        from cosyserve.cosyvoice.runtime.fused_prefill import FusedPrefill

        self.cache = llm.cache(PROMPTS, spans(length + size)[-1])
        fused = FusedPrefill(llm, self.cache, size, kernels)

        def work(rows: Tensor, numbers: Tensor) -> list[Tensor]:
            slots, begin, last = numbers
            return [fused.extend(rows, Places(slots, begin), last)]

        self._work = work
        counts = [1 << exponent for exponent in range(PROMPTS.bit_length())]
        self._graphs = {count: Graphed(work, pool) for count in counts}
        self._empty = self.cache.layers.new_zeros(size, llm.config.hidden)

    def graphs(self) -> list[Make]:
        return [partial(self._rehearse, count) for count in self._graphs]

    def read(self, pieces: Sequence[Piece]) -> list[Tensor]:
        scores: list[Tensor] = []
        while rest := pieces[len(scores) :]:
            count = max(each for each in self._graphs if each <= len(rest))
            scores += self._together(rest[:count])
        return scores

    def _together(self, pieces: Sequence[Piece]) -> Sequence[Tensor]:
        rows = torch.stack([each.rows for each in pieces])
        numbers = torch.tensor([[each.slot, each.begin, each.last] for each in pieces]).T.contiguous()
        if rows.device.type != "cuda":
            return list(self._work(rows, numbers)[0])
        # From pinned memory, because any other copy would wait for the device.
        (scores,) = self._graphs[len(pieces)](rows, numbers.pin_memory().to(rows.device, non_blocking=True))
        return list(scores)

    @torch.inference_mode()
    def _rehearse(self, count: int) -> None:
        self._together([Piece(self._empty, slot, 0, 0) for slot in range(count)])
