"""Causal attention of prompt pieces over their slots, which already hold the pieces' own keys and values."""

import math

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from cosyserve.cosyvoice.kernels.dependent import dependent, wait
from cosyserve.cosyvoice.kernels.rotary_append import Places
from cosyserve.cosyvoice.kernels.tile import Tile, power_of_two

_TILE = Tile(64, 64)  # queries and keys: docs/model.md, "Kernels"


def prompt_attention(query: Tensor, kept: Tensor, places: Places, out: Tensor) -> None:
    """Attention of `query` (P · rows, heads · D) over `kept` (2, S, H, length, D) up to each query's own position, into
    `out`, which has the shape of `query`. heads / H query heads share a key head. No piece ends beyond `length`.

    Reads 2 · D for each position up to a piece's last, for each head and tile of queries; 4 · D operations for each
    query and position.
    """
    _, _, kv_heads, length, dim = kept.shape
    heads, pieces = query.shape[1] // dim, len(places.slots)
    rows = len(query) // pieces
    assert query.is_contiguous() and out.is_contiguous() and kept[0].is_contiguous()  # noqa: S101 - the callers' own layout
    _prompt_attention[triton.cdiv(rows, _TILE.rows), heads, pieces](
        query,
        kept,
        places.slots,
        places.begin,
        out,
        kept.stride(0),
        length,
        rows,
        1 / (math.sqrt(dim) * math.log(2)),
        HEADS=heads,
        GROUP=heads // kv_heads,
        D=dim,
        BM=_TILE.rows,
        BN=_TILE.columns,
        BD=power_of_two(dim),
        num_warps=_TILE.warps,
        num_stages=_TILE.stages,
        **dependent(query.device),
    )


def reference(query: Tensor, kept: Tensor, places: Places, out: Tensor) -> None:
    """The same by PyTorch."""
    length, dim = kept.shape[3:]
    queries = query.unflatten(0, (len(places.slots), -1)).unflatten(2, (-1, dim)).transpose(1, 2)
    positions = places.begin[:, None] + torch.arange(queries.shape[2], device=query.device)
    seen = torch.arange(length, device=query.device) <= positions[..., None]
    unseen = ~seen[:, -1, None, :, None]  # there may be NaN
    keys, values = kept[:, places.slots].masked_fill(unseen, 0)
    found = F.scaled_dot_product_attention(queries, keys, values, seen[:, None], enable_gqa=True)
    out.copy_(found.transpose(1, 2).flatten(2).flatten(0, 1))


@triton.jit
def _prompt_attention(
    query_ptr,
    kept_ptr,
    slots_ptr,
    begin_ptr,
    out_ptr,
    values_stride,
    length,
    rows,
    scale,
    HEADS: tl.constexpr,
    GROUP: tl.constexpr,
    D: tl.constexpr,
    BM: tl.constexpr,
    BN: tl.constexpr,
    BD: tl.constexpr,
    DEPENDENT: tl.constexpr,
):
    tile = tl.num_programs(0) - 1 - tl.program_id(0)  # tiles that see most positions come first
    head, piece = tl.program_id(1), tl.program_id(2)
    row, d = tile * BM + tl.arange(0, BM), tl.arange(0, BD)
    place = ((piece * rows + row)[:, None] * HEADS + head) * D + d[None, :]
    inside = (row < rows)[:, None] & (d < D)[None, :]
    wait(DEPENDENT)
    first = tl.load(begin_ptr + piece).to(tl.int32)
    slot = tl.load(slots_ptr + piece).to(tl.int64)
    position = first + row
    query = tl.load(query_ptr + place, mask=inside, other=0.0)
    keys = kept_ptr + (slot * (HEADS // GROUP) + head // GROUP) * length * D
    values = keys + values_stride
    end = first + tl.minimum((tile + 1) * BM, rows)
    most = tl.full((BM,), -float("inf"), tl.float32)
    total = tl.zeros((BM,), tl.float32)
    found = tl.zeros((BM, BD), tl.float32)
    for begin in range(0, end, BN):
        at = begin + tl.arange(0, BN)
        mask = (at < end)[:, None] & (d < D)[None, :]
        key = tl.load(keys + at[:, None] * D + d[None, :], mask=mask, other=0.0)
        value = tl.load(values + at[:, None] * D + d[None, :], mask=mask, other=0.0)
        scores = tl.dot(query, tl.trans(key), input_precision="ieee") * scale
        seen = (at[None, :] <= position[:, None]) & (at < end)[None, :]
        scores = tl.where(seen, scores, -float("inf"))
        higher = tl.maximum(most, tl.max(scores, 1))  # every query sees the first position, so it is finite
        weights, fading = tl.exp2(scores - higher[:, None]), tl.exp2(most - higher)
        total = total * fading + tl.sum(weights, 1)
        found = tl.dot(weights.to(value.dtype), value, found * fading[:, None], input_precision="ieee")
        most = higher
    tl.store(out_ptr + place, (found / total[:, None]).to(out_ptr.dtype.element_ty), mask=inside)
