"""What follows a convolution of the flow, in one kernel: norm and Mish, and the time or the residual branch."""

from dataclasses import dataclass

import triton
import triton.language as tl
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from cosyserve.cosyvoice.kernels.dependent import dependent, prefetch, wait
from cosyserve.cosyvoice.kernels.norm_linear import Norm
from cosyserve.cosyvoice.kernels.tile import Tile, power_of_two

_SMALL, _LARGE = Tile(16, 32, 128), Tile(32, 128)  # for 100 and 1,600 rows: docs/model.md, "Kernels"


@dataclass(frozen=True)
class Branch:
    """A linear layer (N, K) with its bias, of an `x` (M, K), whose rows may be further apart."""

    x: Tensor
    weight: Tensor
    bias: Tensor


def norm_mish(
    y: Tensor,
    norm: Norm,
    out: Tensor,
    time: Tensor | None = None,
    branch: Branch | None = None,
    tile: Tile | None = None,
) -> None:
    """`mish(norm(y))` into `out`, or that and `time` (N,), or the branch. `y` and `out` are (M, N); rows of `out`
    may be further apart.

    Reads M·N for each tile of columns, N·K for each tile of rows; 2·M·N·K operations.
    """
    rows, columns = y.shape
    tile = tile or (_SMALL if rows <= 512 else _LARGE)
    columns_at_once = min(tile.columns, power_of_two(columns))
    x, weight, bias = (y, y, norm.weight) if branch is None else (branch.x, branch.weight, branch.bias)
    assert norm.bias is not None  # noqa: S101 - it is a LayerNorm
    assert y.is_contiguous() and weight.is_contiguous()  # noqa: S101 - the callers' own layout
    assert out.stride(1) == x.stride(1) == 1  # noqa: S101
    _norm_mish[triton.cdiv(columns, columns_at_once), triton.cdiv(rows, tile.rows)](
        y,
        norm.weight,
        norm.bias,
        norm.bias if time is None else time,
        x,
        weight,
        bias,
        out,
        rows,
        x.stride(0),
        out.stride(0),
        norm.epsilon,
        N=columns,
        K=0 if branch is None else x.shape[1],
        TIME=time is not None,
        BM=tile.rows,
        BC=power_of_two(columns),
        BN=columns_at_once,
        BK=min(tile.depth, power_of_two(x.shape[1])),
        num_warps=tile.warps,
        num_stages=tile.stages,
        **dependent(y.device),
    )


def reference(y: Tensor, norm: Norm, out: Tensor, time: Tensor | None = None, branch: Branch | None = None) -> None:
    """The same by PyTorch."""
    activated = F.mish(norm(y))
    if time is not None:
        activated = activated + time
    if branch is not None:
        activated = activated + F.linear(branch.x, branch.weight, branch.bias)
    out.copy_(activated)


@triton.jit(do_not_specialize=["rows"])
def _norm_mish(
    y_ptr,
    gamma_ptr,
    beta_ptr,
    time_ptr,
    x_ptr,
    weight_ptr,
    bias_ptr,
    out_ptr,
    rows,
    x_stride,
    out_stride,
    epsilon,
    N: tl.constexpr,
    K: tl.constexpr,
    TIME: tl.constexpr,
    BM: tl.constexpr,
    BC: tl.constexpr,
    BN: tl.constexpr,
    BK: tl.constexpr,
    DEPENDENT: tl.constexpr,
):
    row = tl.program_id(1) * BM + tl.arange(0, BM)
    column = tl.program_id(0) * BN + tl.arange(0, BN)
    if K > 0:
        prefetch(weight_ptr + tl.program_id(0) * BN * K, BN, K, K, weight_ptr + N * K, DEPENDENT)
    wait(DEPENDENT)
    # The norm needs the whole frame. The program's own columns are then read again, from the cache.
    channel = tl.arange(0, BC)
    inside = (row < rows)[:, None] & (channel < N)[None, :]
    frame = tl.load(y_ptr + row[:, None] * N + channel[None, :], mask=inside, other=0.0).to(tl.float32)
    mean = tl.sum(frame, 1) / N
    centred = tl.where((channel < N)[None, :], frame - mean[:, None], 0.0)
    scale = tl.rsqrt(tl.sum(centred * centred, 1) / N + epsilon)
    inside = (row < rows)[:, None] & (column < N)[None, :]
    y = tl.load(y_ptr + row[:, None] * N + column[None, :], mask=inside, other=0.0).to(tl.float32)
    gamma = tl.load(gamma_ptr + column, mask=column < N, other=0.0).to(tl.float32)
    beta = tl.load(beta_ptr + column, mask=column < N, other=0.0).to(tl.float32)
    y = (y - mean[:, None]) * scale[:, None] * gamma[None, :] + beta[None, :]
    # Mish: y · tanh(softplus(y)), of which the tanh is n / (n + 2) with n = e^y · (e^y + 2).
    power = tl.exp(tl.minimum(y, 20.0))
    n = power * (power + 2)
    y = y * n / (n + 2)
    if TIME:
        y += tl.load(time_ptr + column, mask=column < N, other=0.0).to(tl.float32)[None, :]
    if K > 0:
        for begin in range(0, K, BK):
            k = begin + tl.arange(0, BK)
            x_at = x_ptr + row[:, None] * x_stride + k[None, :]
            x = tl.load(x_at, mask=(row < rows)[:, None] & (k < K)[None, :], other=0.0)
            mask = (column < N)[None, :] & (k < K)[:, None]
            weight = tl.load(weight_ptr + column[None, :] * K + k[:, None], mask=mask, other=0.0)
            y = tl.dot(x, weight, y, input_precision="ieee")
        y += tl.load(bias_ptr + column, mask=column < N, other=0.0).to(tl.float32)[None, :]
    tl.store(out_ptr + row[:, None] * out_stride + column[None, :], y.to(out_ptr.dtype.element_ty), mask=inside)
