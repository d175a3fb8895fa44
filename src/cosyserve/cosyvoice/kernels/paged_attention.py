"""Attention of the flow over pages, where they lie: nothing is gathered, and no mask is written out."""

import math
from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from cosyserve.cosyvoice.kernels.dependent import dependent, wait
from cosyserve.cosyvoice.kernels.split import Parts, is_last
from cosyserve.cosyvoice.kernels.tile import Tile, power_of_two

# Queries, then keys at a time, of 1, 4 and 16 streams, two rows each; and how many programs share a row's past, as few
# rows would keep little of a card busy: docs/model.md, "Kernels".
_SMALL, _MIDDLE, _LARGE = (Tile(32, 128), 8), (Tile(64, 128), 4), (Tile(64, 128, stages=2), 1)
_FEW, _SOME = 4, 16  # rows up to which the first two are taken


@dataclass(frozen=True)
class PageTable:
    """What the rows of a batch attend to: `pages` (R, span), of which the first `filled` (R,) frames count, except
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
    query: Tensor,
    past: Tensor,
    table: PageTable,
    out: Tensor,
    heads: int,
    parts: Parts | None = None,
    each: tuple[Tile, int] | None = None,
) -> None:
    """What `query` (R · frames, heads · D) finds in `past` (P, frames, 2 · heads · D), keys beside values, into `out`,
    which is like `query`. Frames may be any number, and every row has its own number of pages.

    With `parts`, which are `parts_for` it, several programs share the past of a tile where that is faster.

    Reads each row's pages once for each tile of queries; 4 · R · frames · filled · heads · D operations.
    """
    rows, (_, frames, width) = len(table.filled), past.shape
    dim = width // (2 * heads)
    tile, splits = each or _choice(rows)
    splits = splits if parts is not None else 1
    _paged_attention[rows * heads, triton.cdiv(frames, tile.rows), splits](
        query,
        past,
        table.pages,
        table.filled,
        table.hidden,
        out,
        out if parts is None else parts.found,
        out if parts is None else parts.arrived,
        table.pages.shape[1],
        1 / (math.sqrt(dim) * math.log(2)),
        HEADS=heads,
        FRAMES=frames,
        D=dim,
        SPLITS=splits,
        BM=tile.rows,
        BN=tile.columns,
        BD=power_of_two(dim),
        num_warps=tile.warps,
        num_stages=tile.stages,
        **dependent(query.device),
    )


def _choice(rows: int) -> tuple[Tile, int]:
    return _SMALL if rows <= _FEW else _MIDDLE if rows <= _SOME else _LARGE


def parts_for(rows: int, frames: int, heads: int, dim: int, device: torch.device) -> Parts:
    """Enough for batches of up to so many rows, of which the largest share nothing."""
    values = shared = 0
    for most, (tile, splits) in ((_FEW, _SMALL), (_SOME, _MIDDLE)):
        tiles = min(rows, most) * heads * triton.cdiv(frames, tile.rows)
        values = max(values, tiles * splits * tile.rows * (power_of_two(dim) + 2))
        shared = max(shared, tiles)
    return Parts.of(values, shared, device)


def reference(
    query: Tensor, past: Tensor, table: PageTable, out: Tensor, heads: int, parts: Parts | None = None
) -> None:
    """The same by PyTorch."""
    rows, (_, frames, _) = len(table.filled), past.shape
    behind = past[table.pages].flatten(1, 2).unflatten(2, (2, heads, -1))
    keys, values = behind.permute(2, 0, 3, 1, 4)
    seen = table.seen(frames)[:, None, None].expand(-1, -1, frames, -1)
    queries = query.unflatten(0, (rows, frames)).unflatten(2, (heads, -1)).transpose(1, 2)
    out.copy_(F.scaled_dot_product_attention(queries, keys, values, seen).transpose(1, 2).flatten(2).flatten(0, 1))


@triton.jit
def _paged_attention(
    query_ptr,
    past_ptr,
    pages_ptr,
    filled_ptr,
    hidden_ptr,
    out_ptr,
    parts_ptr,
    arrived_ptr,
    span,
    scale,
    HEADS: tl.constexpr,
    FRAMES: tl.constexpr,
    D: tl.constexpr,
    SPLITS: tl.constexpr,
    BM: tl.constexpr,
    BN: tl.constexpr,
    BD: tl.constexpr,
    DEPENDENT: tl.constexpr,
):
    row, head = tl.program_id(0) // HEADS, tl.program_id(0) % HEADS
    frame = tl.program_id(1) * BM + tl.arange(0, BM)
    d = tl.arange(0, BD)
    place = (row * FRAMES + frame)[:, None] * (HEADS * D) + head * D + d[None, :]
    inside = (frame < FRAMES)[:, None] & (d < D)[None, :]
    wait(DEPENDENT)
    query = tl.load(query_ptr + place, mask=inside, other=0.0)
    filled = tl.load(filled_ptr + row).to(tl.int32)
    hidden_from, hidden_to = tl.load(hidden_ptr + 2 * row), tl.load(hidden_ptr + 2 * row + 1)
    most = tl.full((BM,), -1e30, tl.float32)  # finite, for blocks of which no frame counts
    total = tl.zeros((BM,), tl.float32)
    found = tl.zeros((BM, BD), tl.float32)
    each = tl.cdiv(tl.cdiv(filled, BN), SPLITS) * BN
    end = tl.minimum((tl.program_id(2) + 1) * each, filled)
    for begin in range(tl.program_id(2) * each, end, BN):
        at = begin + tl.arange(0, BN)
        page = tl.load(pages_ptr + row * span + at // FRAMES, mask=at < filled, other=0).to(tl.int64)
        key_at = past_ptr + (page * FRAMES + at % FRAMES) * (2 * HEADS * D) + head * D
        mask = (at < filled)[:, None] & (d < D)[None, :]
        key = tl.load(key_at[:, None] + d[None, :], mask=mask, other=0.0)
        value = tl.load(key_at[:, None] + HEADS * D + d[None, :], mask=mask, other=0.0)
        scores = tl.dot(query, tl.trans(key), input_precision="ieee") * scale
        seen = (at < filled) & ((at < hidden_from) | (at >= hidden_to))
        scores = tl.where(seen[None, :], scores, -float("inf"))
        higher = tl.maximum(most, tl.max(scores, 1))
        weights, fading = tl.exp2(scores - higher[:, None]), tl.exp2(most - higher)
        total = total * fading + tl.sum(weights, 1)
        found = tl.dot(weights.to(value.dtype), value, found * fading[:, None], input_precision="ieee")
        most = higher
    if SPLITS == 1:
        tl.store(out_ptr + place, (found / total[:, None]).to(out_ptr.dtype.element_ty), mask=inside)
    else:
        tile = tl.program_id(0) * tl.num_programs(1) + tl.program_id(1)
        parts = parts_ptr + tile * (SPLITS * BM * (BD + 2))
        each_row, totals = tl.arange(0, BM), SPLITS * BM * BD
        values = parts + each_row[:, None] * BD + d[None, :]
        tl.store(values + tl.program_id(2) * (BM * BD), found)
        tl.store(parts + totals + tl.program_id(2) * (2 * BM) + each_row, total)
        tl.store(parts + totals + tl.program_id(2) * (2 * BM) + BM + each_row, most)
        if is_last(arrived_ptr + tile, SPLITS):
            most = tl.full((BM,), -1e30, tl.float32)
            for part in range(SPLITS):
                row_most = parts + totals + part * (2 * BM) + BM + each_row
                most = tl.maximum(most, tl.load(row_most, cache_modifier=".cg"))
            total = tl.zeros((BM,), tl.float32)
            found = tl.zeros((BM, BD), tl.float32)
            for part in range(SPLITS):
                row_total = parts + totals + part * (2 * BM) + each_row
                weight = tl.exp2(tl.load(row_total + BM, cache_modifier=".cg") - most)
                total += weight * tl.load(row_total, cache_modifier=".cg")
                found += weight[:, None] * tl.load(values + part * (BM * BD), cache_modifier=".cg")
            tl.store(out_ptr + place, (found / total[:, None]).to(out_ptr.dtype.element_ty), mask=inside)
