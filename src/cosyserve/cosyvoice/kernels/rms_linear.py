"""An RMS norm and the linear layer behind it, in one kernel, for few and long rows.

`norm_linear` holds whole rows in registers, for which those of the language model are too long. An RMS norm scales a
row as a whole, so that its scale can follow the product: both sums run along the row together, a piece at a time.
"""

import triton
import triton.language as tl
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from cosyserve.cosyvoice.kernels.norm_linear import Norm
from cosyserve.cosyvoice.kernels.tile import Tile, power_of_two

# Weights are what takes long, and narrow tiles have more of a card read them.
_TILE = Tile(16, 16, depth=128, stages=4)


def rms_linear(
    x: Tensor, norm: Norm, weight: Tensor, out: Tensor, bias: Tensor | None = None, *, swiglu: bool = False
) -> None:
    """`norm(x) @ weight.T + bias` into `out`; with `swiglu`, silu of the first half of its columns times the second.

    `x` is (M, K), `weight` (N, K), `out` (M, N), or (M, N / 2) with `swiglu`.

    Reads M·K for each tile of columns and N·K for each tile of rows, writes M·N; 2·M·N·K operations.
    """
    rows, depth = x.shape
    columns = out.shape[1]
    columns_at_once = min(_TILE.columns, power_of_two(columns))
    assert x.is_contiguous() and weight.is_contiguous() and out.is_contiguous()  # noqa: S101 - the callers' own layout
    _rms_linear[triton.cdiv(columns, columns_at_once), triton.cdiv(rows, _TILE.rows)](
        x,
        norm.weight,
        weight,
        weight if bias is None else bias,
        out,
        rows,
        columns,
        norm.epsilon,
        K=depth,
        BIAS=bias is not None,
        SWIGLU=swiglu,
        BM=_TILE.rows,
        BN=columns_at_once,
        BK=min(_TILE.depth, power_of_two(depth)),
        num_warps=_TILE.warps,
        num_stages=_TILE.stages,
    )


def reference(x: Tensor, norm: Norm, weight: Tensor, bias: Tensor | None = None, *, swiglu: bool = False) -> Tensor:
    """The same by PyTorch."""
    y = F.linear(norm(x), weight, bias)
    if swiglu:
        gate, up = y.chunk(2, dim=1)
        return F.silu(gate) * up
    return y


@triton.jit
def _rms_linear(
    x_ptr,
    gamma_ptr,
    weight_ptr,
    bias_ptr,
    out_ptr,
    rows,
    columns,
    epsilon,
    K: tl.constexpr,
    BIAS: tl.constexpr,
    SWIGLU: tl.constexpr,
    BM: tl.constexpr,
    BN: tl.constexpr,
    BK: tl.constexpr,
):
    row = tl.program_id(1) * BM + tl.arange(0, BM)
    column = tl.program_id(0) * BN + tl.arange(0, BN)
    y = tl.zeros((BM, BN), tl.float32)
    up = tl.zeros((BM, BN), tl.float32)
    squares = tl.zeros((BM,), tl.float32)
    for begin in range(0, K, BK):
        k = begin + tl.arange(0, BK)
        weights = weight_ptr + column[None, :] * K + k[:, None]
        inside = (column < columns)[None, :] & (k < K)[:, None]
        weight = tl.load(weights, mask=inside, other=0.0)
        x = tl.load(x_ptr + row[:, None] * K + k[None, :], mask=(row < rows)[:, None] & (k < K)[None, :], other=0.0)
        gamma = tl.load(gamma_ptr + k, mask=k < K, other=0.0).to(tl.float32)
        x = x.to(tl.float32)
        squares += tl.sum(x * x, 1)
        scaled = (x * gamma[None, :]).to(weight.dtype)
        y = tl.dot(scaled, weight, y, input_precision="ieee")
        if SWIGLU:
            up = tl.dot(scaled, tl.load(weights + columns * K, mask=inside, other=0.0), up, input_precision="ieee")
    scale = tl.rsqrt(squares / K + epsilon)[:, None]
    y *= scale
    if BIAS:
        y += tl.load(bias_ptr + column, mask=column < columns, other=0.0).to(tl.float32)[None, :]
    if SWIGLU:
        y = y / (1 + tl.exp(-y)) * (up * scale)
    out = out_ptr + row[:, None] * columns + column[None, :]
    tl.store(out, y.to(out_ptr.dtype.element_ty), mask=(row < rows)[:, None] & (column < columns)[None, :])
