"""RMSNorm and the linear layer behind it, for the hundreds of rows of a prompt.

A program of `norm_linear` holds whole rows, so it has room for few. A program of this kernel reads its rows twice, a
part at a time. That costs less than writing the normalised rows to memory and reading them back.
"""

import triton
import triton.language as tl
from torch import Tensor

from cosyserve.cosyvoice.kernels import norm_linear
from cosyserve.cosyvoice.kernels.dependent import dependent, wait
from cosyserve.cosyvoice.kernels.norm_linear import Norm
from cosyserve.cosyvoice.kernels.tile import Tile, power_of_two

_TILE = Tile(64, 128)  # docs/model.md, "Kernels"


def rms_linear(
    x: Tensor, norm: Norm, weight: Tensor, out: Tensor, bias: Tensor | None = None, *, swiglu: bool = False
) -> None:
    """`norm(x) @ weight.T + bias` into `out`, or with `swiglu` silu of the first half of its columns times the second.

    `x` is (M, K), `weight` (N, K), `out` (M, N), or (M, N / 2) with `swiglu`. A row's numbers do not depend on the
    number of rows.

    Reads 2·M·K for each tile of columns and N·K for each tile of rows, writes M·N; 2·M·N·K operations.
    """
    (rows, depth), columns = x.shape, out.shape[1]
    columns_at_once = min(_TILE.columns, power_of_two(columns))
    assert norm.bias is None and x.is_contiguous() and weight.is_contiguous() and out.is_contiguous()  # noqa: S101 - the callers'
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
        **dependent(x.device),
    )


reference = norm_linear.reference


@triton.jit(do_not_specialize=["rows"])
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
    DEPENDENT: tl.constexpr,
):
    row = tl.program_id(1) * BM + tl.arange(0, BM)
    column = tl.program_id(0) * BN + tl.arange(0, BN)
    if BIAS:
        bias = tl.load(bias_ptr + column, mask=column < columns, other=0.0).to(tl.float32)[None, :]
    x_rows = x_ptr + row.to(tl.int64)[:, None] * K
    wait(DEPENDENT)
    squares = tl.zeros((BM,), tl.float32)
    for begin in range(0, K, BK):
        k = begin + tl.arange(0, BK)
        mask = (row < rows)[:, None] & (k < K)[None, :]
        x = tl.load(x_rows + k[None, :], mask=mask, other=0.0).to(tl.float32)
        squares += tl.sum(x * x, 1)
    scale = tl.rsqrt(squares / K + epsilon)[:, None]
    y = tl.zeros((BM, BN), tl.float32)
    up = tl.zeros((BM, BN), tl.float32)
    for begin in range(0, K, BK):
        k = begin + tl.arange(0, BK)
        mask = (row < rows)[:, None] & (k < K)[None, :]
        x = tl.load(x_rows + k[None, :], mask=mask, other=0.0).to(tl.float32)
        gamma = tl.load(gamma_ptr + k, mask=k < K, other=0.0).to(tl.float32)[None, :]
        inside = (column < columns)[None, :] & (k < K)[:, None]
        weights = weight_ptr + column[None, :] * K + k[:, None]
        weight = tl.load(weights, mask=inside, other=0.0)
        normed = (x * scale * gamma).to(weight.dtype)
        y = tl.dot(normed, weight, y, input_precision="ieee")
        if SWIGLU:
            up_weight = tl.load(weights + columns * K, mask=inside, other=0.0)
            up = tl.dot(normed, up_weight, up, input_precision="ieee")
    if BIAS:
        y += bias
    if SWIGLU:
        y = y / (1 + tl.exp(-y)) * up
    mask = (row < rows)[:, None] & (column < columns)[None, :]
    tl.store(out_ptr + row[:, None] * columns + column[None, :], y.to(out_ptr.dtype.element_ty), mask=mask)
