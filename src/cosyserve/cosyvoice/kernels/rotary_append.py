"""Rotary embedding of prompt pieces' queries and keys, and the append of keys and values to their slots."""

from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor

from cosyserve.cosyvoice.kernels.dependent import dependent, wait
from cosyserve.cosyvoice.kernels.tile import power_of_two

_ROWS = 16  # of a program: docs/model.md, "Kernels"


@dataclass(frozen=True)
class Places:
    """Where the pieces of a batch go: their `slots` (P,), and the position `begin` (P,) of the first row of each."""

    slots: Tensor
    begin: Tensor


def rotary_append(qkv: Tensor, rotary: Tensor, places: Places, kept: Tensor, query: Tensor) -> None:
    """Split `qkv` (P · rows, (heads + 2 · H) · D): rotated queries go into `query` (P · rows, heads · D), rotated keys
    and the values into `kept` (2, S, H, length, D). No piece ends beyond `length`.

    `rotary` (length, 2, D) holds the cosines and signed sines of all positions, in float32.

    Reads and writes P · rows · (heads + 2 · H) · D.
    """
    _, _, kv_heads, length, dim = kept.shape
    heads, pieces = query.shape[1] // dim, len(places.slots)
    rows = len(qkv) // pieces
    assert qkv.is_contiguous() and query.is_contiguous() and rotary.is_contiguous()  # noqa: S101 - the callers' own layout
    assert kept[0].is_contiguous()  # noqa: S101
    _rotary_append[triton.cdiv(rows, _ROWS), heads + 2 * kv_heads, pieces](
        qkv,
        rotary,
        places.slots,
        places.begin,
        kept,
        query,
        kept.stride(0),
        length,
        rows,
        HEADS=heads,
        H=kv_heads,
        D=dim,
        BM=_ROWS,
        BD=power_of_two(dim),
        **dependent(qkv.device),
    )


def reference(qkv: Tensor, rotary: Tensor, places: Places, kept: Tensor, query: Tensor) -> None:
    """The same by PyTorch."""
    _, _, kv_heads, _, dim = kept.shape
    heads, pieces = query.shape[1] // dim, len(places.slots)
    each = qkv.unflatten(0, (pieces, -1)).unflatten(2, (-1, dim))  # P, rows, heads + 2 · H, D
    positions = places.begin[:, None] + torch.arange(each.shape[1], device=qkv.device)
    both, value = each.split((heads + kv_heads, kv_heads), 2)
    cosine, sine = rotary[positions, :, None].unbind(2)
    turned, key = (both * cosine + both.roll(dim // 2, -1) * sine).to(qkv.dtype).split((heads, kv_heads), 2)
    query.copy_(turned.flatten(2).flatten(0, 1))
    slots = places.slots[:, None]
    kept[0, slots, :, positions], kept[1, slots, :, positions] = key, value


@triton.jit
def _rotary_append(
    qkv_ptr,
    rotary_ptr,
    slots_ptr,
    begin_ptr,
    kept_ptr,
    query_ptr,
    values_stride,
    length,
    rows,
    HEADS: tl.constexpr,
    H: tl.constexpr,
    D: tl.constexpr,
    BM: tl.constexpr,
    BD: tl.constexpr,
    DEPENDENT: tl.constexpr,
):
    head, piece = tl.program_id(1), tl.program_id(2)
    row, d = tl.program_id(0) * BM + tl.arange(0, BM), tl.arange(0, BD)
    wait(DEPENDENT)
    position = tl.load(begin_ptr + piece).to(tl.int32) + row
    inside = (row < rows)[:, None] & (d < D)[None, :]
    from_ptr = qkv_ptr + ((piece * rows + row)[:, None] * (HEADS + 2 * H) + head) * D
    x = tl.load(from_ptr + d[None, :], mask=inside, other=0.0)
    if head < HEADS + H:
        other = (d + D // 2) % D  # the half that the sine goes with
        turning = rotary_ptr + position[:, None] * (2 * D) + d[None, :]
        cosine, sine = tl.load(turning, mask=inside, other=0.0), tl.load(turning + D, mask=inside, other=0.0)
        turned = tl.load(from_ptr + other[None, :], mask=inside, other=0.0).to(tl.float32) * sine
        x = (x.to(tl.float32) * cosine + turned).to(x.dtype)
    if head < HEADS:
        tl.store(query_ptr + ((piece * rows + row)[:, None] * HEADS + head) * D + d[None, :], x, mask=inside)
    else:
        slot = tl.load(slots_ptr + piece).to(tl.int64)
        kv_head = (head - HEADS) % H
        kept = kept_ptr + (slot * H + kv_head) * length * D
        if head >= HEADS + H:
            kept += values_stride
        tl.store(kept + position[:, None] * D + d[None, :], x, mask=inside)
