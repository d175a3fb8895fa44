"""A causal convolution over chunks of several streams, in one kernel.

The norm behind it is another kernel's (`norm_mish`): it needs all channels of a frame, and if each program made whole
frames, few of them would work.
"""

from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from cosyserve.cosyvoice.kernels.dependent import dependent, prefetch, wait
from cosyserve.cosyvoice.kernels.tile import Tile, power_of_two

_TAPS = 3
_BEHIND = _TAPS - 1  # frames that a convolution looks back
# For 100 and for 1,600 frames: docs/model.md, "Kernels". Of one depth, so that both sum up in the same order.
_SMALL, _LARGE = Tile(16, 32, 128), Tile(64, 64, 128)


@dataclass(frozen=True)
class Tails:
    """The last two frames of each stream's chunk before: `kept` (slots, 2 · C). Row r of a batch goes on from slot
    `read[r]` (R,), or where that is `left + s`, from row s of the same batch. It leaves its own in slot `left + r`."""

    kept: Tensor
    read: Tensor
    left: int


@dataclass(frozen=True)
class Conv:
    """Weights (3, N, C) and bias (N,)."""

    weight: Tensor
    bias: Tensor


def causal_conv(x: Tensor, conv: Conv, tails: Tails, out: Tensor, tile: Tile | None = None) -> None:
    """The convolution of `x` (R · frames, C) into `out` (R · frames, N), which must not be `x`. Rows of both may be
    further apart.

    Reads 3 · C · N of weights for each tile of frames and `x` for each of columns; 6 · R · frames · C · N operations.
    """
    rows = len(tails.read)
    frames, channels, columns = len(x) // rows, x.shape[1], conv.weight.shape[1]
    tile = tile or (_SMALL if rows <= 4 else _LARGE)
    columns_at_once = min(tile.columns, power_of_two(columns))
    assert out.stride(1) == x.stride(1) == 1 and conv.weight.is_contiguous()  # noqa: S101 - the callers' own layout
    _causal_conv[rows, triton.cdiv(frames, tile.rows), triton.cdiv(columns, columns_at_once)](
        x,
        conv.weight,
        conv.bias,
        tails.kept,
        tails.read,
        out,
        tails.left,
        tails.kept.stride(0),
        x.stride(0),
        out.stride(0),
        FRAMES=frames,
        C=channels,
        N=columns,
        BM=tile.rows,
        BN=columns_at_once,
        BK=min(tile.depth, power_of_two(channels)),
        num_warps=tile.warps,
        num_stages=tile.stages,
        **dependent(x.device),
    )


def reference(x: Tensor, conv: Conv, tails: Tails, out: Tensor) -> None:
    """The same by PyTorch."""
    rows = x.unflatten(0, (len(tails.read), -1))
    left = rows[:, -_BEHIND:]
    behind = torch.cat((tails.kept[: tails.left].unflatten(1, (_BEHIND, -1)), left)).index_select(0, tails.read)
    y = F.conv1d(torch.cat((behind, rows), dim=1).transpose(1, 2), conv.weight.permute(1, 2, 0), conv.bias)
    out.copy_(y.transpose(1, 2).flatten(0, 1))
    tails.kept[tails.left : tails.left + len(left)] = left.flatten(1)


@triton.jit
def _causal_conv(
    x_ptr,
    weight_ptr,
    bias_ptr,
    tails_ptr,
    read_ptr,
    out_ptr,
    left,
    tails_stride,
    x_stride,
    out_stride,
    FRAMES: tl.constexpr,
    C: tl.constexpr,
    N: tl.constexpr,
    BM: tl.constexpr,
    BN: tl.constexpr,
    BK: tl.constexpr,
    DEPENDENT: tl.constexpr,
):
    row = tl.program_id(0)
    frame = tl.program_id(1) * BM + tl.arange(0, BM)
    column = tl.program_id(2) * BN + tl.arange(0, BN)
    for number in tl.static_range(3):
        strip = weight_ptr + (number * N + tl.program_id(2) * BN) * C
        prefetch(strip, BN, C, C, weight_ptr + 3 * N * C, DEPENDENT)
    wait(DEPENDENT)
    source = tl.load(read_ptr + row)
    goes_on = frame * 0 + source >= left  # from another row of the batch
    y = tl.zeros((BM, BN), tl.float32)
    for part in range(0, 3 * tl.cdiv(C, BK)):  # one loop, or all taps would lie in shared memory
        tap, k = part % 3, part // 3 * BK + tl.arange(0, BK)
        at = frame + tap - 2
        # Frames before the chunk are the end of an earlier row's chunk in x, or were kept from one. A single load with
        # either address is issued ahead of the product; the program would wait for two loads.
        source_row = tl.where(at >= 0, row, source - left)
        in_x = x_ptr + (source_row * FRAMES + tl.where(at >= 0, at, FRAMES + at)) * x_stride
        behind = tails_ptr + (source * tails_stride + (at + 2) * C)
        rows = tl.where((at >= 0) | goes_on, in_x, behind)
        x = tl.load(rows[:, None] + k[None, :], mask=(at < FRAMES)[:, None] & (k < C)[None, :], other=0.0)
        weight = tl.load(
            weight_ptr + (tap * N + column)[None, :] * C + k[:, None],
            mask=(column < N)[None, :] & (k < C)[:, None],
            other=0.0,
        )
        y = tl.dot(x, weight, y, input_precision="ieee")
    if tl.program_id(2) == 0:
        _leave(x_ptr, tails_ptr, row, frame, left, tails_stride, x_stride, FRAMES, C, BK)
    y += tl.load(bias_ptr + column, mask=column < N, other=0.0).to(tl.float32)[None, :]
    out = out_ptr + (row * FRAMES + frame)[:, None] * out_stride + column[None, :]
    tl.store(out, y.to(out_ptr.dtype.element_ty), mask=(frame < FRAMES)[:, None] & (column < N)[None, :])


@triton.jit
def _leave(
    x_ptr, tails_ptr, row, frame, left, tails_stride, x_stride, FRAMES: tl.constexpr, C: tl.constexpr, BK: tl.constexpr
):
    """Keep the last two frames, with which the next chunk of the stream begins."""
    last = (frame >= FRAMES - 2) & (frame < FRAMES)
    for begin in range(0, C, BK):
        k = begin + tl.arange(0, BK)
        mask = last[:, None] & (k < C)[None, :]
        x = tl.load(x_ptr + (row * FRAMES + frame)[:, None] * x_stride + k[None, :], mask=mask, other=0.0)
        tl.store(tails_ptr + (left + row) * tails_stride + (frame - FRAMES + 2)[:, None] * C + k[None, :], x, mask=mask)
