"""Attention of the flow over pages, where they lie: nothing is gathered, and no mask is written out."""

import math
from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from cosyserve.cosyvoice.kernels.tile import Tile, power_of_two

# Few rows keep more of a card busy in small tiles, though each reads all keys; queries, then keys at a time.
_SMALL, _LARGE = Tile(16, 64), Tile(64, 64)


@dataclass(frozen=True)
class PageTable:
    """What the rows of a batch attend to: `pages` (R, span), of which the first `filled` (R,) frames count, but for
    those from `hidden[:, 0]` to `hidden[:, 1]` (R, 2), which pad a chunk."""

    pages: Tensor
    filled: Tensor
    hidden: Tensor

    def seen(self, frames: int) -> Tensor:
        """Which frames (R, span · frames) count, as `reference` asks."""
        at = torch.arange(self.pages.shape[1] * frames, device=self.pages.device)
        begin, end = self.hidden[:, :1], self.hidden[:, 1:]
        return (at < self.filled[:, None]) & ((at < begin) | (at >= end))


def paged_attention(
    query: Tensor, past: Tensor, table: PageTable, out: Tensor, heads: int, tile: Tile | None = None
) -> None:
    """What `query` (R · frames, heads · D) finds in `past` (P, frames, 2 · heads · D), keys beside values, into `out`,
    which is like `query`. Frames may be any number, and every row has its own number of pages.

    Reads each row's pages once for each tile of queries; 4 · R · frames · filled · heads · D operations.
    """
    rows, (_, frames, width) = len(table.filled), past.shape
    dim = width // (2 * heads)
    tile = tile or (_SMALL if rows < 16 else _LARGE)
    _paged_attention[rows * heads, triton.cdiv(frames, tile.rows)](
        query,
        past,
        table.pages,
        table.filled,
        table.hidden,
        out,
        table.pages.shape[1],
        1 / (math.sqrt(dim) * math.log(2)),
        HEADS=heads,
        FRAMES=frames,
        D=dim,
        BM=tile.rows,
        BN=tile.columns,
        BD=power_of_two(dim),
        num_warps=tile.warps,
        num_stages=tile.stages,
    )


def reference(query: Tensor, past: Tensor, table: PageTable, heads: int) -> Tensor:
    """The same by PyTorch, (R · frames, heads · D)."""
    rows, (_, frames, _) = len(table.filled), past.shape
    behind = past[table.pages].flatten(1, 2).unflatten(2, (2, heads, -1))
    keys, values = behind.permute(2, 0, 3, 1, 4)
    seen = table.seen(frames)[:, None, None].expand(-1, -1, frames, -1)
    queries = query.unflatten(0, (rows, frames)).unflatten(2, (heads, -1)).transpose(1, 2)
    return F.scaled_dot_product_attention(queries, keys, values, seen).transpose(1, 2).flatten(2).flatten(0, 1)


@triton.jit
def _paged_attention(
    query_ptr,
    past_ptr,
    pages_ptr,
    filled_ptr,
    hidden_ptr,
    out_ptr,
    span,
    scale,
    HEADS: tl.constexpr,
    FRAMES: tl.constexpr,
    D: tl.constexpr,
    BM: tl.constexpr,
    BN: tl.constexpr,
    BD: tl.constexpr,
):
    row, head = tl.program_id(0) // HEADS, tl.program_id(0) % HEADS
    frame = tl.program_id(1) * BM + tl.arange(0, BM)
    d = tl.arange(0, BD)
    place = (row * FRAMES + frame)[:, None] * (HEADS * D) + head * D + d[None, :]
    inside = (frame < FRAMES)[:, None] & (d < D)[None, :]
    query = tl.load(query_ptr + place, mask=inside, other=0.0)
    filled = tl.load(filled_ptr + row).to(tl.int32)
    hidden_from, hidden_to = tl.load(hidden_ptr + 2 * row), tl.load(hidden_ptr + 2 * row + 1)
    most = tl.full((BM,), -float("inf"), tl.float32)
    total = tl.zeros((BM,), tl.float32)
    found = tl.zeros((BM, BD), tl.float32)
    for begin in range(0, filled, BN):
        at = begin + tl.arange(0, BN)
        page = tl.load(pages_ptr + row * span + at // FRAMES, mask=at < filled, other=0).to(tl.int64)
        key_at = past_ptr + (page * FRAMES + at % FRAMES) * (2 * HEADS * D) + head * D
        mask = (at < filled)[:, None] & (d < D)[None, :]
        key = tl.load(key_at[:, None] + d[None, :], mask=mask, other=0.0)
        value = tl.load(key_at[:, None] + HEADS * D + d[None, :], mask=mask, other=0.0)
        scores = tl.dot(query, tl.trans(key), input_precision="ieee") * scale
        seen = (at < filled) & ((at < hidden_from) | (at >= hidden_to))
        scores = tl.where(seen[None, :], scores, -float("inf"))
        # The first frame of a row always counts, so that no maximum is infinite.
        higher = tl.maximum(most, tl.max(scores, 1))
        weights, fading = tl.exp2(scores - higher[:, None]), tl.exp2(most - higher)
        total = total * fading + tl.sum(weights, 1)
        found = tl.dot(weights.to(value.dtype), value, found * fading[:, None], input_precision="ieee")
        most = higher
    tl.store(out_ptr + place, (found / total[:, None]).to(out_ptr.dtype.element_ty), mask=inside)
