"""A causal convolution in groups of channels over chunks of several streams, and Mish behind it, in one kernel."""

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from cosyserve.cosyvoice.kernels.causal_conv import Conv, Tails
from cosyserve.cosyvoice.kernels.dependent import dependent, wait
from cosyserve.cosyvoice.kernels.tile import Tile, power_of_two

_SMALL, _LARGE = Tile(16, 64), Tile(64, 64)  # by rows; columns are a group's


def group_conv(
    x: Tensor, conv: Conv, tails: Tails, out: Tensor, residual: Tensor | None = None, tile: Tile | None = None
) -> None:
    """Mish of the convolution of `x` (R · frames, C) into `out`, which is like it and must not be it, with `residual`
    added, which is like both.

    The weights are (taps, C, C / groups), and of each stream `tails` keep the last taps − 1 frames, (slots,
    (taps − 1) · C). A chunk has at least as many.

    Reads taps · C² / groups of weights for each tile of frames; 2 · taps · R · frames · C² / groups operations.
    """
    rows, (taps, channels, width) = len(tails.read), conv.weight.shape
    frames = len(x) // rows
    tile = tile or (_SMALL if rows <= 4 else _LARGE)
    assert frames >= taps - 1  # noqa: S101 - what is before a chunk lies in one other
    assert all(each is None or each.is_contiguous() for each in (x, out, residual, conv.weight))  # noqa: S101
    _group_conv[rows, triton.cdiv(frames, tile.rows), channels // width](
        x,
        conv.weight,
        conv.bias,
        tails.kept,
        tails.read,
        out,
        x if residual is None else residual,
        tails.left,
        tails.kept.stride(0),
        FRAMES=frames,
        C=channels,
        W=width,
        TAPS=taps,
        BEHIND=taps - 1,
        RESIDUAL=residual is not None,
        BM=tile.rows,
        BW=power_of_two(width),
        BB=triton.next_power_of_2(taps),
        num_warps=tile.warps,
        num_stages=tile.stages,
        **dependent(x.device),
    )


def reference(x: Tensor, conv: Conv, tails: Tails, out: Tensor, residual: Tensor | None = None) -> None:
    """The same by PyTorch."""
    taps, channels, width = conv.weight.shape
    rows = x.unflatten(0, (len(tails.read), -1))
    last = rows[:, rows.shape[1] - (taps - 1) :]
    before = torch.cat((tails.kept[: tails.left].unflatten(1, (taps - 1, -1)), last)).index_select(0, tails.read)
    y = F.conv1d(
        torch.cat((before, rows), 1).transpose(1, 2), conv.weight.permute(1, 2, 0), conv.bias, groups=channels // width
    )
    y = F.mish(y).transpose(1, 2).flatten(0, 1)
    out.copy_(y if residual is None else y + residual)
    tails.kept[tails.left : tails.left + len(last)] = last.flatten(1)


@triton.jit
def _group_conv(
    x_ptr,
    weight_ptr,
    bias_ptr,
    tails_ptr,
    read_ptr,
    out_ptr,
    residual_ptr,
    left,
    tails_stride,
    FRAMES: tl.constexpr,
    C: tl.constexpr,
    W: tl.constexpr,
    TAPS: tl.constexpr,
    BEHIND: tl.constexpr,
    RESIDUAL: tl.constexpr,
    BM: tl.constexpr,
    BW: tl.constexpr,
    BB: tl.constexpr,
    DEPENDENT: tl.constexpr,
):
    row, group = tl.program_id(0), tl.program_id(2)
    frame = tl.program_id(1) * BM + tl.arange(0, BM)
    k = tl.arange(0, BW)
    channel = group * W + k
    wait(DEPENDENT)
    source = tl.load(read_ptr + row)
    goes_on = frame * 0 + source >= left  # from another row of the batch
    y = tl.zeros((BM, BW), tl.float32)
    for tap in range(TAPS):
        at = frame + tap - BEHIND
        # Frames before the chunk are the end of an earlier row's chunk in x, or were kept from one.
        source_row = tl.where(at >= 0, row, source - left)
        in_x = x_ptr + (source_row * FRAMES + tl.where(at >= 0, at, FRAMES + at)) * C
        behind = tails_ptr + (source * tails_stride + (at + BEHIND) * C)
        rows = tl.where((at >= 0) | goes_on, in_x, behind)
        x = tl.load(rows[:, None] + channel[None, :], mask=(at < FRAMES)[:, None] & (k < W)[None, :], other=0.0)
        weight_at = weight_ptr + (tap * C + channel)[None, :] * W + k[:, None]
        weight = tl.load(weight_at, mask=(k < W)[None, :] & (k < W)[:, None], other=0.0)
        y = tl.dot(x, weight, y, input_precision="ieee")
    y += tl.load(bias_ptr + channel, mask=k < W, other=0.0).to(tl.float32)[None, :]
    # Mish, y · tanh(log(1 + eʸ)), by e⁻|ʸ|, which is never large.
    e = tl.exp(-tl.abs(y))
    y *= tl.where(y >= 0, (1 + 2 * e) / (1 + 2 * e + 2 * e * e), (e * e + 2 * e) / (e * e + 2 * e + 2))
    place = (row * FRAMES + frame)[:, None] * C + channel[None, :]
    mask = (frame < FRAMES)[:, None] & (k < W)[None, :]
    if RESIDUAL:
        y += tl.load(residual_ptr + place, mask=mask, other=0.0).to(tl.float32)
    tl.store(out_ptr + place, y.to(out_ptr.dtype.element_ty), mask=mask)
    if tl.program_id(1) == 0:  # keep the last frames, with which the next chunk of the stream begins
        last = tl.arange(0, BB)
        inside = (last < BEHIND)[:, None] & (k < W)[None, :]
        x = tl.load(x_ptr + (row * FRAMES + FRAMES - BEHIND + last)[:, None] * C + channel[None, :], mask=inside)
        tl.store(tails_ptr + (left + row) * tails_stride + last[:, None] * C + channel[None, :], x, mask=inside)
