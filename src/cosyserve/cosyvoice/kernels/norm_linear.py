"""A norm and the linear layer behind it, in one kernel.

Each program normalises its rows again, in registers: that costs less than to write them to memory and read them back.

Here as in `linear_residual` no number of rows is compiled in: Triton would sum up a single one in another order, and a
seed would draw other tokens alone than in company.
"""

from dataclasses import dataclass

import triton
import triton.language as tl
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from cosyserve.cosyvoice.kernels.dependent import dependent, wait
from cosyserve.cosyvoice.kernels.tile import Tile, power_of_two, shared_bytes

# Tiles of the flow at 100, 400 and 1,600 rows (two for the last), and of the language model's few long rows:
# docs/model.md, "Kernels".
_SMALL, _MIDDLE, _LARGE, _LARGE_PAGED = Tile(16, 64), Tile(32, 128), Tile(64, 128), Tile(64, 128, warps=8)
_LONG = Tile(16, 32)
_LONGEST = 512  # values of the flow's rows
_NARROW = Tile(16, 16)  # where a program has not enough shared memory for long tiles: cards of capability 8.6 and 8.9


@dataclass(frozen=True)
class Norm:
    """LayerNorm with a `bias`, RMSNorm without."""

    weight: Tensor
    bias: Tensor | None
    epsilon: float

    def __call__(self, x: Tensor) -> Tensor:
        if self.bias is None:
            return F.rms_norm(x, self.weight.shape, self.weight, self.epsilon)
        return F.layer_norm(x, self.weight.shape, self.weight, self.bias, self.epsilon)


@dataclass(frozen=True)
class Append:
    """Columns behind the queries go into the past (P, frames, kept), `frames` rows into each of `pages`."""

    past: Tensor
    pages: Tensor


def norm_linear(
    x: Tensor,
    norm: Norm,
    weight: Tensor,
    out: Tensor,
    bias: Tensor | None = None,
    *,
    gelu: bool = False,
    swiglu: bool = False,
    append: Append | None = None,
    tile: Tile | None = None,
) -> None:
    """`norm(x) @ weight.T + bias` into `out`, or its GELU, or with `swiglu` silu of the first half of its columns times
    the second.

    `x` is (M, K), `weight` (N, K), `out` (M, N), or (M, N / 2) with `swiglu`; rows may be further apart than they are
    long. With `append`, `out` has the first columns and the past all others.

    Reads M·K for each tile of columns and N·K for each tile of rows, writes M·N; 2·M·N·K operations.
    """
    (rows, depth), columns = x.shape, len(weight) // 2 if swiglu else len(weight)
    tile = tile or (_tile(rows, append) if depth <= _LONGEST else _long_tile(x, 2 if swiglu else 1))
    columns_at_once = min(tile.columns, power_of_two(columns))
    if append is not None:  # a tile goes to one place
        columns_at_once = min(columns_at_once, out.shape[1] & -out.shape[1])
    assert out.stride(1) == x.stride(1) == weight.stride(1) == 1  # noqa: S101 - the callers' own layout
    past, pages = (out, out) if append is None else (append.past, append.pages)
    _norm_linear[triton.cdiv(columns, columns_at_once), triton.cdiv(rows, tile.rows)](
        x,
        norm.weight,
        norm.weight if norm.bias is None else norm.bias,
        weight,
        weight if bias is None else bias,
        out,
        past,
        pages,
        rows,
        columns,
        x.stride(0),
        out.stride(0),
        out.shape[1],
        norm.epsilon,
        K=depth,
        FRAMES=1 if append is None else past.shape[1],
        KEPT=0 if append is None else past.shape[2],
        RMS=norm.bias is None,
        BIAS=bias is not None,
        GELU=gelu,
        SWIGLU=swiglu,
        APPEND=append is not None,
        BM=tile.rows,
        BN=columns_at_once,
        BK=power_of_two(depth),
        num_warps=tile.warps,
        **dependent(x.device),
    )


def _tile(rows: int, append: Append | None) -> Tile:
    large = _LARGE if append is None else _LARGE_PAGED
    return _SMALL if rows <= 200 else _MIDDLE if rows <= 800 else large


def _long_tile(x: Tensor, weights: int) -> Tile:
    values = (_LONG.rows + weights * _LONG.columns) * power_of_two(x.shape[1])
    return _LONG if values * x.element_size() <= shared_bytes(x.device) else _NARROW


def reference(
    x: Tensor,
    norm: Norm,
    weight: Tensor,
    out: Tensor,
    bias: Tensor | None = None,
    *,
    gelu: bool = False,
    swiglu: bool = False,
    append: Append | None = None,
) -> None:
    """The same by PyTorch."""
    y = F.linear(norm(x), weight, bias)
    if swiglu:
        gate, up = y.chunk(2, dim=1)
        y = F.silu(gate) * up
    if gelu:
        y = F.gelu(y)
    if append is not None:
        y, kept = y.split((out.shape[1], y.shape[1] - out.shape[1]), dim=1)
        append.past[append.pages] = kept.unflatten(0, (len(append.pages), -1))
    out.copy_(y)


@triton.jit(do_not_specialize=["rows"])
def _norm_linear(
    x_ptr,
    gamma_ptr,
    beta_ptr,
    weight_ptr,
    bias_ptr,
    out_ptr,
    past_ptr,
    pages_ptr,
    rows,
    columns,
    x_stride,
    out_stride,
    split,
    epsilon,
    K: tl.constexpr,
    FRAMES: tl.constexpr,
    KEPT: tl.constexpr,
    RMS: tl.constexpr,
    BIAS: tl.constexpr,
    GELU: tl.constexpr,
    SWIGLU: tl.constexpr,
    APPEND: tl.constexpr,
    BM: tl.constexpr,
    BN: tl.constexpr,
    BK: tl.constexpr,
    DEPENDENT: tl.constexpr,
):
    row = tl.program_id(1) * BM + tl.arange(0, BM)
    column = tl.program_id(0) * BN + tl.arange(0, BN)
    k = tl.arange(0, BK)
    inside = (column < columns)[None, :] & (k < K)[:, None]
    # Weights first, because loading them takes longest.
    weights = weight_ptr + column[None, :] * K + k[:, None]
    weight = tl.load(weights, mask=inside, other=0.0)
    if SWIGLU:
        up_weight = tl.load(weights + columns * K, mask=inside, other=0.0)
    if BIAS:
        bias = tl.load(bias_ptr + column, mask=column < columns, other=0.0).to(tl.float32)[None, :]
    wait(DEPENDENT)
    x = tl.load(x_ptr + row[:, None] * x_stride + k[None, :], mask=(row < rows)[:, None] & (k < K)[None, :], other=0.0)
    rows_normed = normed(x.to(tl.float32), gamma_ptr, beta_ptr, epsilon, k, K, RMS).to(weight.dtype)
    y = tl.dot(rows_normed, weight, input_precision="ieee")
    if BIAS:
        y += bias
    if SWIGLU:
        y = y / (1 + tl.exp(-y)) * tl.dot(rows_normed, up_weight, input_precision="ieee")
    if GELU:
        y = 0.5 * y * (1 + tl.erf(y * 0.7071067811865476))
    written = (row < rows)[:, None] & (column < columns)[None, :]
    y = y.to(out_ptr.dtype.element_ty)
    if APPEND and tl.program_id(0) * BN >= split:
        page = tl.load(pages_ptr + row // FRAMES, mask=row < rows, other=0).to(tl.int64)
        kept = past_ptr + ((page * FRAMES + row % FRAMES) * KEPT)[:, None]
        tl.store(kept + (column - split)[None, :], y, mask=written)
    else:
        tl.store(out_ptr + row[:, None] * out_stride + column[None, :], y, mask=written)


@triton.jit
def normed(x, gamma_ptr, beta_ptr, epsilon, k, K: tl.constexpr, RMS: tl.constexpr):
    """Rows (BM, BK) of K values each, the others zero, in float32."""
    gamma = tl.load(gamma_ptr + k, mask=k < K, other=0.0).to(tl.float32)
    if not RMS:
        x = tl.where((k < K)[None, :], x - (tl.sum(x, 1) / K)[:, None], 0.0)
    y = x * tl.rsqrt(tl.sum(x * x, 1) / K + epsilon)[:, None] * gamma[None, :]
    if not RMS:
        y += tl.load(beta_ptr + k, mask=k < K, other=0.0).to(tl.float32)[None, :]
    return y
