"""Attention of one new token of each slot over the slot's cache, with the rotary embedding and the append before it.

One program for each slot and key head would leave a card idle: the positions of a slot are split among several, and the
last of them puts the parts of the softmax together.
"""

import math

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from cosyserve.cosyvoice.kernels.dependent import dependent, wait
from cosyserve.cosyvoice.kernels.split import Parts, is_last
from cosyserve.cosyvoice.kernels.tile import power_of_two

_KEYS = 128  # that a program looks at at once: docs/model.md, "Kernels"
_SPLITS = 4  # programs that share a slot: within a tenth of the best from 1 to 32 slots, and the same for all of them


def decode_attention(
    qkv: Tensor,
    rotary: Tensor,
    positions: Tensor,
    kept: Tensor,
    out: Tensor,
    parts: Parts,
    splits: int = _SPLITS,
) -> None:
    """Attention of each slot's new token over the positions 0 to its own, into `out` (S, heads · D). Its key and value
    go into `kept` (2, S, H, length, D) at its position, or at the last where that is beyond it.

    `qkv` (S, (heads + 2 · H) · D) holds queries, keys and values; `rotary` (length, 2, D) the cosines and signed sines
    of all positions, in float32; `positions` is (S,). The queries of heads / H heads share a key head.
    `parts` is `parts_for` them: several programs share the positions of a slot.

    Reads 2 · H · D for each position of each slot; 4 · heads · D operations for each.
    """
    _, slots, kv_heads, length, dim = kept.shape
    heads = out.shape[1] // dim
    assert qkv.is_contiguous() and out.is_contiguous() and rotary.is_contiguous()  # noqa: S101 - the callers' own layout
    assert kept[0].is_contiguous()  # noqa: S101 - of fewer slots than there are
    _attend[slots * kv_heads, splits](
        qkv,
        rotary,
        positions,
        kept,
        out,
        parts.found,
        parts.arrived,
        kept.stride(0),
        length,
        1 / (math.sqrt(dim) * math.log(2)),
        H=kv_heads,
        GROUP=heads // kv_heads,
        D=dim,
        SPLITS=splits,
        BG=power_of_two(heads // kv_heads),
        BN=_KEYS,
        BD=power_of_two(dim),
        **dependent(qkv.device),
    )


def parts_for(kept: Tensor, heads: int) -> Parts:
    """For that cache and that many query heads."""
    _, slots, kv_heads, _, dim = kept.shape
    works = slots * kv_heads
    values = works * _SPLITS * power_of_two(heads // kv_heads) * (power_of_two(dim) + 2)
    return Parts.of(values, works, kept.device)


def reference(
    qkv: Tensor, rotary: Tensor, positions: Tensor, kept: Tensor, out: Tensor, parts: Parts | None = None
) -> None:
    """The same by PyTorch."""
    _, slots, kv_heads, length, dim = kept.shape
    heads = out.shape[1] // dim
    positions = positions.clamp(max=length - 1)
    both, value = qkv.unflatten(1, (-1, dim)).split((heads + kv_heads, kv_heads), 1)
    cosine, sine = rotary[positions, :, None].unbind(1)
    query, key = (both * cosine + both.roll(dim // 2, -1) * sine).to(qkv.dtype).split((heads, kv_heads), 1)
    each = torch.arange(slots, device=qkv.device)
    kept[0, each, :, positions], kept[1, each, :, positions] = key, value
    seen = torch.arange(length, device=qkv.device) <= positions[:, None]
    found = F.scaled_dot_product_attention(query.unflatten(1, (kv_heads, -1)), kept[0], kept[1], seen[:, None, None])
    out.copy_(found.flatten(1))


@triton.jit
def _attend(
    qkv_ptr,
    rotary_ptr,
    positions_ptr,
    kept_ptr,
    out_ptr,
    parts_ptr,
    arrived_ptr,
    values_stride,
    length,
    scale,
    H: tl.constexpr,
    GROUP: tl.constexpr,
    D: tl.constexpr,
    SPLITS: tl.constexpr,
    BG: tl.constexpr,
    BN: tl.constexpr,
    BD: tl.constexpr,
    DEPENDENT: tl.constexpr,
):
    wait(DEPENDENT)
    slot, kv_head, split = tl.program_id(0) // H, tl.program_id(0) % H, tl.program_id(1)
    group, d = tl.arange(0, BG), tl.arange(0, BD)
    position = tl.minimum(tl.load(positions_ptr + slot), length - 1).to(tl.int32)
    inside = (group < GROUP)[:, None] & (d < D)[None, :]
    row = qkv_ptr + slot * ((GROUP + 2) * H * D)
    cosine = tl.load(rotary_ptr + position * (2 * D) + d, mask=d < D, other=0.0)
    sine = tl.load(rotary_ptr + position * (2 * D) + D + d, mask=d < D, other=0.0)
    other = (d + D // 2) % D  # the half that the sine goes with
    heads = row + (kv_head * GROUP + group)[:, None] * D
    turned = tl.load(heads + other[None, :], mask=inside, other=0.0).to(tl.float32) * sine[None, :]
    query = tl.load(heads + d[None, :], mask=inside, other=0.0).to(tl.float32) * cosine[None, :] + turned
    query = query.to(kept_ptr.dtype.element_ty)

    # Only the first split makes, uses and stores the new token's key; the others attend to earlier positions.
    new_at = row + (GROUP * H + kv_head) * D
    turned = tl.load(new_at + other, mask=d < D, other=0.0).to(tl.float32) * sine
    key = tl.load(new_at + d, mask=d < D, other=0.0).to(tl.float32) * cosine + turned
    key = key.to(kept_ptr.dtype.element_ty)
    value = tl.load(new_at + H * D + d, mask=d < D, other=0.0)
    keys = kept_ptr + (slot * H + kv_head).to(tl.int64) * length * D
    values = keys + values_stride
    is_first = group * 0 + split == 0
    tl.store(keys + position * D + d, key, mask=(d < D) & (d * 0 + split == 0))
    tl.store(values + position * D + d, value, mask=(d < D) & (d * 0 + split == 0))
    score = tl.sum(query.to(tl.float32) * key.to(tl.float32)[None, :], 1) * scale
    most = tl.where(is_first, score, -float("inf"))
    total = tl.where(is_first, 1.0, 0.0)
    found = tl.where(is_first[:, None], value.to(tl.float32)[None, :], 0.0)

    # Earlier positions are split by whole blocks, again at every length. A split without a block keeps the weight zero.
    each = tl.cdiv(tl.cdiv(position, BN), SPLITS) * BN
    end = tl.minimum((split + 1) * each, position)
    for begin in range(split * each, end, BN):
        at = begin + tl.arange(0, BN)
        place = at[:, None] * D + d[None, :]
        mask = (at < end)[:, None] & (d < D)[None, :]
        past_keys = tl.load(keys + place, mask=mask, other=0.0)
        past_values = tl.load(values + place, mask=mask, other=0.0)
        scores = tl.dot(query, tl.trans(past_keys), input_precision="ieee") * scale
        scores = tl.where((at < end)[None, :], scores, -float("inf"))
        higher = tl.maximum(most, tl.max(scores, 1))  # a block has a position that counts, so it is finite
        weights, fading = tl.exp2(scores - higher[:, None]), tl.exp2(most - higher)
        total = total * fading + tl.sum(weights, 1)
        found = tl.dot(weights.to(past_values.dtype), past_values, found * fading[:, None], input_precision="ieee")
        most = higher

    work = tl.program_id(0)
    parts, totals = parts_ptr + work * (SPLITS * BG * (BD + 2)), SPLITS * BG * BD
    places = parts + group[:, None] * BD + d[None, :]
    tl.store(places + split * (BG * BD), found)
    tl.store(parts + totals + split * (2 * BG) + group, total)
    tl.store(parts + totals + split * (2 * BG) + BG + group, most)
    if is_last(arrived_ptr + work, SPLITS):
        most = tl.full((BG,), -float("inf"), tl.float32)
        for part in range(SPLITS):
            mosts = parts + totals + part * (2 * BG) + BG + group
            most = tl.maximum(most, tl.load(mosts, cache_modifier=".cg"))
        total = tl.zeros((BG,), tl.float32)
        found = tl.zeros((BG, BD), tl.float32)
        for part in range(SPLITS):
            part_total = parts + totals + part * (2 * BG) + group
            weight = tl.exp2(tl.load(part_total + BG, cache_modifier=".cg") - most)  # the first split's score is finite
            total += weight * tl.load(part_total, cache_modifier=".cg")
            found += weight[:, None] * tl.load(places + part * (BG * BD), cache_modifier=".cg")
        out = out_ptr + (slot * H * GROUP + kv_head * GROUP + group)[:, None] * D + d[None, :]
        tl.store(out, (found / total[:, None]).to(out_ptr.dtype.element_ty), mask=inside)
