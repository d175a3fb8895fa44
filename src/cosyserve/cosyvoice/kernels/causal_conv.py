"""A causal convolution over chunks of several streams, with what stands around it in the flow: norm, Mish, and either
the time of the Euler step or a residual branch. One kernel."""

from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from cosyserve.cosyvoice.kernels.norm_linear import Norm
from cosyserve.cosyvoice.kernels.tile import Tile, power_of_two

_TAPS = 3
_BEHIND = _TAPS - 1  # frames that a convolution looks back
# A norm needs all channels of a frame, so a program makes whole frames: short tiles, or few would work.
_TILE = Tile(16, 256, warps=8)


@dataclass(frozen=True)
class Tails:
    """The last two frames of each stream's chunk before: `kept` (slots, C · 2). Row r of a batch goes on from slot
    `read[r]` (R,), or where that is `left + s`, from row s of the same batch. It leaves its own in slot `left + r`."""

    kept: Tensor
    read: Tensor
    left: int


@dataclass(frozen=True)
class Conv:
    """Weights (3, N, C) and bias (N,)."""

    weight: Tensor
    bias: Tensor


@dataclass(frozen=True)
class Residual:
    """A linear layer (N, C') with its bias, of an `x` (R · frames, C')."""

    x: Tensor
    weight: Tensor
    bias: Tensor


def causal_conv(
    x: Tensor,
    conv: Conv,
    tails: Tails,
    out: Tensor,
    norm: Norm | None = None,
    time: Tensor | None = None,
    residual: Residual | None = None,
    tile: Tile | None = None,
) -> None:
    """`mish(norm(conv(x)))` + `time` or + `residual`, into `out`; without a norm the convolution alone.

    `x` is (R · frames, C), `out` (R · frames, N), whose rows may be further apart, and must not be `x`; `time` is (N,).

    Reads 3 · C · N of weights for each tile of frames; 6 · R · frames · C · N operations.
    """
    rows = len(tails.read)
    frames, channels, columns = len(x) // rows, x.shape[1], conv.weight.shape[1]
    tile = tile or _TILE
    branch = residual or Residual(x, conv.weight, conv.bias)
    assert out.stride(1) == x.stride(1) == branch.x.stride(1) == 1  # noqa: S101 - the callers' own layout
    assert conv.weight.is_contiguous() and branch.weight.is_contiguous()  # noqa: S101
    _causal_conv[rows, triton.cdiv(frames, tile.rows)](
        x,
        conv.weight,
        conv.bias,
        conv.bias if norm is None else norm.weight,
        conv.bias if norm is None or norm.bias is None else norm.bias,
        conv.bias if time is None else time,
        branch.x,
        branch.weight,
        branch.bias,
        tails.kept,
        tails.read,
        out,
        tails.left,
        tails.kept.stride(0),
        x.stride(0),
        branch.x.stride(0),
        out.stride(0),
        1e-5 if norm is None else norm.epsilon,
        FRAMES=frames,
        C=channels,
        C2=branch.x.shape[1],
        N=columns,
        NORM=norm is not None,
        TIME=time is not None,
        RESIDUAL=residual is not None,
        BM=tile.rows,
        BN=power_of_two(columns),
        BK=min(tile.depth, power_of_two(channels)),
        num_warps=tile.warps,
        num_stages=tile.stages,
    )


def reference(
    x: Tensor,
    conv: Conv,
    tails: Tails,
    norm: Norm | None = None,
    time: Tensor | None = None,
    residual: Residual | None = None,
) -> tuple[Tensor, Tensor]:
    """The same by PyTorch, and the tails (R, C · 2) that it leaves."""
    rows = x.unflatten(0, (len(tails.read), -1)).transpose(1, 2)
    left = rows[..., -_BEHIND:]
    behind = torch.cat((tails.kept[: tails.left].unflatten(1, (-1, _BEHIND)), left)).index_select(0, tails.read)
    y = F.conv1d(torch.cat((behind, rows), dim=2), conv.weight.permute(1, 2, 0), conv.bias)
    y = y.transpose(1, 2).flatten(0, 1)
    if norm is not None:
        y = F.mish(norm(y))
    if time is not None:
        y = y + time
    if residual is not None:
        y = y + F.linear(residual.x, residual.weight, residual.bias)
    return y, left.flatten(1)


@triton.jit
def _causal_conv(
    x_ptr,
    weight_ptr,
    bias_ptr,
    gamma_ptr,
    beta_ptr,
    time_ptr,
    x2_ptr,
    weight2_ptr,
    bias2_ptr,
    tails_ptr,
    read_ptr,
    out_ptr,
    left,
    tails_stride,
    x_stride,
    x2_stride,
    out_stride,
    epsilon,
    FRAMES: tl.constexpr,
    C: tl.constexpr,
    C2: tl.constexpr,
    N: tl.constexpr,
    NORM: tl.constexpr,
    TIME: tl.constexpr,
    RESIDUAL: tl.constexpr,
    BM: tl.constexpr,
    BN: tl.constexpr,
    BK: tl.constexpr,
):
    row = tl.program_id(0)
    frame = tl.program_id(1) * BM + tl.arange(0, BM)
    column = tl.arange(0, BN)
    source = tl.load(read_ptr + row)
    goes_on = frame * 0 + source >= left  # from another row of the batch
    y = tl.zeros((BM, BN), tl.float32)
    for part in range(0, 3 * tl.cdiv(C, BK)):  # one loop, or all taps would lie in shared memory
        tap, k = part % 3, part // 3 * BK + tl.arange(0, BK)
        at = frame + tap - 2
        x = tl.load(
            x_ptr + (row * FRAMES + at)[:, None] * x_stride + k[None, :],
            mask=((at >= 0) & (at < FRAMES))[:, None] & (k < C)[None, :],
            other=0.0,
        )
        # Before the chunk: the end of an earlier row's, which still lies in x, or what was kept of one.
        in_batch = x_ptr + ((source - left) * FRAMES + FRAMES + at)[:, None] * x_stride + k[None, :]
        x += tl.load(in_batch, mask=((at < 0) & goes_on)[:, None] & (k < C)[None, :], other=0.0)
        kept = tails_ptr + source * tails_stride + k[None, :] * 2 + (at + 2)[:, None]
        x += tl.load(kept, mask=((at < 0) & ~goes_on)[:, None] & (k < C)[None, :], other=0.0)
        weight = tl.load(
            weight_ptr + (tap * N + column)[None, :] * C + k[:, None],
            mask=(column < N)[None, :] & (k < C)[:, None],
            other=0.0,
        )
        y = tl.dot(x, weight, y, input_precision="ieee")
    _leave(x_ptr, tails_ptr, row, frame, left, tails_stride, x_stride, FRAMES, C, BK)
    y += tl.load(bias_ptr + column, mask=column < N, other=0.0).to(tl.float32)[None, :]
    if NORM:
        centred = tl.where((column < N)[None, :], y - (tl.sum(y, 1) / N)[:, None], 0.0)
        gamma = tl.load(gamma_ptr + column, mask=column < N, other=0.0).to(tl.float32)
        beta = tl.load(beta_ptr + column, mask=column < N, other=0.0).to(tl.float32)
        scale = tl.rsqrt(tl.sum(centred * centred, 1) / N + epsilon)
        y = centred * scale[:, None] * gamma[None, :] + beta[None, :]
        # Mish: y · tanh(softplus(y)), of which the tanh is n / (n + 2) with n = e^y · (e^y + 2).
        power = tl.exp(tl.minimum(y, 20.0))
        n = power * (power + 2)
        y = y * n / (n + 2)
    if TIME:
        y += tl.load(time_ptr + column, mask=column < N, other=0.0).to(tl.float32)[None, :]
    if RESIDUAL:
        for begin in range(0, C2, BK):
            k = begin + tl.arange(0, BK)
            x = tl.load(
                x2_ptr + (row * FRAMES + frame)[:, None] * x2_stride + k[None, :],
                mask=(frame < FRAMES)[:, None] & (k < C2)[None, :],
                other=0.0,
            )
            mask = (column < N)[None, :] & (k < C2)[:, None]
            weight = tl.load(weight2_ptr + column[None, :] * C2 + k[:, None], mask=mask, other=0.0)
            y = tl.dot(x, weight, y, input_precision="ieee")
        y += tl.load(bias2_ptr + column, mask=column < N, other=0.0).to(tl.float32)[None, :]
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
        tl.store(tails_ptr + (left + row) * tails_stride + k[None, :] * 2 + (frame - FRAMES + 2)[:, None], x, mask=mask)
