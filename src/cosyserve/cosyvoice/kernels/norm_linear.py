"""A layer norm and the linear layer behind it, in one kernel.

Each program normalises its rows anew, in registers: that costs less than to write them to memory and read them back.
"""

from dataclasses import dataclass

import triton
import triton.language as tl
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from cosyserve.cosyvoice.kernels.tile import Tile, power_of_two

_SMALL, _LARGE = Tile(16, 64), Tile(64, 128, warps=8)  # best at 100 and at 1,600 rows: docs/model.md, "Kernels"


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
    append: Append | None = None,
    tile: Tile | None = None,
) -> None:
    """`norm(x) @ weight.T + bias` into `out`, or its GELU.

    `x` is (M, K), `weight` (N, K), `out` (M, N); rows may be further apart than they are long. With
    `append`, `out` has the first columns and the past all others.

    Reads M·K for each tile of columns and N·K for each tile of rows, writes M·N; 2·M·N·K operations.
    """
    assert norm.bias is not None  # noqa: S101 - else `rms_linear` is the kernel
    (rows, depth), columns = x.shape, len(weight)
    tile = tile or (_SMALL if rows <= 512 else _LARGE)
    columns_at_once = min(tile.columns, power_of_two(columns))
    if append is not None:  # a tile goes to one place
        columns_at_once = min(columns_at_once, out.shape[1] & -out.shape[1])
    assert out.stride(1) == x.stride(1) == weight.stride(1) == 1  # noqa: S101 - the callers' own layout
    past, pages = (out, out) if append is None else (append.past, append.pages)
    _norm_linear[triton.cdiv(columns, columns_at_once), triton.cdiv(rows, tile.rows)](
        x,
        norm.weight,
        norm.bias,
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
        BIAS=bias is not None,
        GELU=gelu,
        APPEND=append is not None,
        BM=tile.rows,
        BN=columns_at_once,
        BK=power_of_two(depth),
        num_warps=tile.warps,
    )


def reference(x: Tensor, norm: Norm, weight: Tensor, bias: Tensor | None = None, *, gelu: bool = False) -> Tensor:
    """The same by PyTorch, without `append`."""
    y = F.linear(norm(x), weight, bias)
    return F.gelu(y) if gelu else y


@triton.jit
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
    BIAS: tl.constexpr,
    GELU: tl.constexpr,
    APPEND: tl.constexpr,
    BM: tl.constexpr,
    BN: tl.constexpr,
    BK: tl.constexpr,
):
    row = tl.program_id(1) * BM + tl.arange(0, BM)
    column = tl.program_id(0) * BN + tl.arange(0, BN)
    k = tl.arange(0, BK)
    inside = (column < columns)[None, :] & (k < K)[:, None]
    # Before all else: it is what takes long.
    weight = tl.load(weight_ptr + column[None, :] * K + k[:, None], mask=inside, other=0.0)
    x = tl.load(x_ptr + row[:, None] * x_stride + k[None, :], mask=(row < rows)[:, None] & (k < K)[None, :], other=0.0)
    normed = _normed(x.to(tl.float32), gamma_ptr, beta_ptr, epsilon, k, K).to(weight.dtype)
    y = tl.dot(normed, weight, input_precision="ieee")
    if BIAS:
        y += tl.load(bias_ptr + column, mask=column < columns, other=0.0).to(tl.float32)[None, :]
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
def _normed(x, gamma_ptr, beta_ptr, epsilon, k, K: tl.constexpr):
    """Rows (BM, BK) of K values each, the others zero, in float32."""
    gamma = tl.load(gamma_ptr + k, mask=k < K, other=0.0).to(tl.float32)
    centred = tl.where((k < K)[None, :], x - (tl.sum(x, 1) / K)[:, None], 0.0)
    beta = tl.load(beta_ptr + k, mask=k < K, other=0.0).to(tl.float32)
    scale = tl.rsqrt(tl.sum(centred * centred, 1) / K + epsilon)
    return centred * scale[:, None] * gamma[None, :] + beta[None, :]
