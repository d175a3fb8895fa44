"""Attention of the flow over pages, where they lie: nothing is gathered, and no mask is written out.

Each block of keys has a softmax of its own; these are put together in their order. Few rows would keep little of a card
busy: there several programs share a row's blocks, and the last of them puts together what all have left. Either way a
row finds the same to the last bit, whoever else is in the batch. Sums are products with ones for the same reason: a
tensor core adds in one order, however large a tile is.
"""

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

_KEYS = 128  # of a block
# Rows (two for each stream) up to which a tile is used, and how many programs share a row's blocks:
# docs/model.md, "Kernels".
_CHOICES = (
    (2, Tile(32, _KEYS, warps=8), 8),
    (4, Tile(32, _KEYS, stages=2), 8),
    (8, Tile(64, _KEYS, stages=2), 4),
)
_LARGE = Tile(64, _KEYS, stages=2)  # for more rows; one program has all blocks of a row
_NOTHING = tl.constexpr(-1e30)  # the highest score where there are no frames; finite, so that differences are finite


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

    With `parts`, which are `parts_for` it, several programs share a row's past where that is faster.

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
    return next(((tile, splits) for most, tile, splits in _CHOICES if rows <= most), (_LARGE, 1))


def parts_for(rows: int, span: int, frames: int, heads: int, dim: int, device: torch.device) -> Parts:
    """Enough for batches of up to so many rows of up to `span` pages. The largest batches share nothing."""
    values = shared = 0
    for most, tile, _ in _CHOICES:
        tiles = min(rows, most) * heads * triton.cdiv(frames, tile.rows)
        blocks = triton.cdiv(span * frames, tile.columns)
        values = max(values, tiles * blocks * tile.rows * (power_of_two(dim) + 2))
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
    d, each_row = tl.arange(0, BD), tl.arange(0, BM)
    place = (row * FRAMES + frame)[:, None] * (HEADS * D) + head * D + d[None, :]
    inside = (frame < FRAMES)[:, None] & (d < D)[None, :]
    wait(DEPENDENT)
    query = tl.load(query_ptr + place, mask=inside, other=0.0)
    filled = tl.load(filled_ptr + row).to(tl.int32)
    hidden_from, hidden_to = tl.load(hidden_ptr + 2 * row), tl.load(hidden_ptr + 2 * row + 1)
    blocks = tl.cdiv(filled, BN)
    tile = tl.program_id(0) * tl.num_programs(1) + tl.program_id(1)
    parts = parts_ptr + tile * (tl.cdiv(span * FRAMES, BN) * (BM * (BD + 2)))
    most = tl.full((BM,), _NOTHING, tl.float32)
    total = tl.zeros((BM,), tl.float32)
    found = tl.zeros((BM, BD), tl.float32)
    each = tl.cdiv(blocks, SPLITS)
    for block in range(tl.program_id(2) * each, tl.minimum((tl.program_id(2) + 1) * each, blocks)):
        at = block * BN + tl.arange(0, BN)
        page = tl.load(pages_ptr + row * span + at // FRAMES, mask=at < filled, other=0).to(tl.int64)
        key_at = past_ptr + (page * FRAMES + at % FRAMES) * (2 * HEADS * D) + head * D
        mask = (at < filled)[:, None] & (d < D)[None, :]
        key = tl.load(key_at[:, None] + d[None, :], mask=mask, other=0.0)
        value = tl.load(key_at[:, None] + HEADS * D + d[None, :], mask=mask, other=0.0)
        scores = tl.dot(query, tl.trans(key), input_precision="ieee") * scale
        seen = (at < filled) & ((at < hidden_from) | (at >= hidden_to))
        scores = tl.where(seen[None, :], scores, -float("inf"))
        block_most = tl.maximum(tl.max(scores, 1), _NOTHING)
        weights = tl.exp2(scores - block_most[:, None]).to(value.dtype)
        ones = tl.full((BN, 16), 1.0, value.dtype)
        block_total = tl.max(tl.dot(weights, ones, input_precision="ieee"), 1)  # the same in all columns
        block_found = tl.dot(weights, value, input_precision="ieee")
        if SPLITS == 1:
            most, total, found = _together(most, total, found, block_most, block_total, block_found)
        else:
            part = parts + block * (BM * (BD + 2))
            tl.store(part + each_row[:, None] * BD + d[None, :], block_found)
            tl.store(part + BM * BD + each_row, block_total)
            tl.store(part + BM * (BD + 1) + each_row, block_most)
    if SPLITS == 1:
        tl.store(out_ptr + place, (found / total[:, None]).to(out_ptr.dtype.element_ty), mask=inside)
    elif is_last(arrived_ptr + tile, SPLITS):
        for block in range(blocks):
            part = parts + block * (BM * (BD + 2))
            block_found = tl.load(part + each_row[:, None] * BD + d[None, :], cache_modifier=".cg")
            block_total = tl.load(part + BM * BD + each_row, cache_modifier=".cg")
            block_most = tl.load(part + BM * (BD + 1) + each_row, cache_modifier=".cg")
            most, total, found = _together(most, total, found, block_most, block_total, block_found)
        tl.store(out_ptr + place, (found / total[:, None]).to(out_ptr.dtype.element_ty), mask=inside)


@triton.jit
def _together(most, total, found, block_most, block_total, block_found):
    """What was found so far, and a block more. One without any frame that counts changes nothing."""
    higher = tl.maximum(most, block_most)
    fading, weight = tl.exp2(most - higher), tl.exp2(block_most - higher)
    return higher, total * fading + block_total * weight, found * fading[:, None] + block_found * weight[:, None]
