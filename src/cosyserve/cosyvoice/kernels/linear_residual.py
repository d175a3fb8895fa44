"""A linear layer whose result is added to what was there, in one kernel."""

import triton
import triton.language as tl
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from cosyserve.cosyvoice.kernels.tile import Tile, power_of_two

_SMALL, _LARGE = Tile(16, 32), Tile(64, 64)


def linear_residual(a: Tensor, weight: Tensor, bias: Tensor | None, x: Tensor, tile: Tile | None = None) -> None:
    """`x += a @ weight.T + bias`: `a` is (M, K), `weight` (N, K), `x` (M, N); rows of `x` may be further apart.

    Reads M·K for each tile of columns and N·K for each tile of rows, reads and writes M·N; 2·M·N·K operations.
    """
    rows, depth = a.shape
    columns = len(weight)
    tile = tile or (_SMALL if rows <= 512 else _LARGE)
    columns_at_once = min(tile.columns, power_of_two(columns))
    assert x.stride(1) == weight.stride(1) == 1 and a.is_contiguous()  # noqa: S101 - the callers' own layout
    _linear_residual[triton.cdiv(columns, columns_at_once), triton.cdiv(rows, tile.rows)](
        a,
        weight,
        weight if bias is None else bias,
        x,
        rows,
        columns,
        x.stride(0),
        K=depth,
        BIAS=bias is not None,
        BM=tile.rows,
        BN=columns_at_once,
        BK=min(tile.depth, power_of_two(depth)),
        num_warps=tile.warps,
        num_stages=tile.stages,
    )


def reference(a: Tensor, weight: Tensor, bias: Tensor | None, x: Tensor) -> Tensor:
    """The same by PyTorch, as a tensor of its own."""
    return x + F.linear(a, weight, bias)


@triton.jit
def _linear_residual(
    a_ptr,
    weight_ptr,
    bias_ptr,
    x_ptr,
    rows,
    columns,
    x_stride,
    K: tl.constexpr,
    BIAS: tl.constexpr,
    BM: tl.constexpr,
    BN: tl.constexpr,
    BK: tl.constexpr,
):
    row = tl.program_id(1) * BM + tl.arange(0, BM)
    column = tl.program_id(0) * BN + tl.arange(0, BN)
    y = tl.zeros((BM, BN), tl.float32)
    for begin in range(0, K, BK):
        k = begin + tl.arange(0, BK)
        a = tl.load(a_ptr + row[:, None] * K + k[None, :], mask=(row < rows)[:, None] & (k < K)[None, :], other=0.0)
        mask = (column < columns)[None, :] & (k < K)[:, None]
        weight = tl.load(weight_ptr + column[None, :] * K + k[:, None], mask=mask, other=0.0)
        y = tl.dot(a, weight, y, input_precision="ieee")
    if BIAS:
        y += tl.load(bias_ptr + column, mask=column < columns, other=0.0).to(tl.float32)[None, :]
    place = x_ptr + row[:, None] * x_stride + column[None, :]
    mask = (row < rows)[:, None] & (column < columns)[None, :]
    y += tl.load(place, mask=mask, other=0.0).to(tl.float32)
    tl.store(place, y.to(x_ptr.dtype.element_ty), mask=mask)
