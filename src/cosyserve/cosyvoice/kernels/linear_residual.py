"""A linear layer whose result is added to what was there, in one kernel."""

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from cosyserve.cosyvoice.kernels.dependent import dependent, prefetch, wait
from cosyserve.cosyvoice.kernels.split import Parts, is_last
from cosyserve.cosyvoice.kernels.tile import Tile, power_of_two

# Tiles of the flow at 100, 400 and 1,600 rows; of the language model's few rows; of its long rows, with the programs
# that share a sum; and of its prompts' many rows. docs/model.md, "Kernels", has how they were chosen.
_SMALL, _MIDDLE, _LARGE, _FEW = Tile(16, 32, 128), Tile(64, 32, 128), Tile(64, 64, 128), Tile(16, 32, 256, stages=4)
_LONG, _SPLITS = Tile(16, 16, 512, warps=2), 5
_PROMPT, _PROMPT_SPLITS = Tile(64, 64, 128), 2
_LONGER = 2048  # values; programs share the sum of a longer row
_FLOWS = 512  # most columns of a result in the flow


def linear_residual(
    a: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    x: Tensor,
    parts: Parts | None = None,
    *,
    prompt: bool = False,
    each: tuple[Tile, int] | None = None,
) -> None:
    """`x += a @ weight.T + bias`: `a` is (M, K), `weight` (N, K), `x` (M, N); rows of `x` may be further apart. A
    `prompt` has hundreds of rows.

    With `parts`, which are `parts_for` it, several programs share the sum of a tile where that is faster.

    Reads M·K for each tile of columns and N·K for each tile of rows, reads and writes M·N; 2·M·N·K operations.
    """
    rows, depth = a.shape
    columns = len(weight)
    tile, splits = each or _choice(rows, columns, depth, prompt=prompt)
    splits = splits if parts is not None else 1
    columns_at_once = min(tile.columns, power_of_two(columns))
    depth_at_once = min(tile.depth, power_of_two(depth))
    assert x.stride(1) == weight.stride(1) == 1 and a.is_contiguous()  # noqa: S101 - the callers' own layout
    _linear_residual[triton.cdiv(columns, columns_at_once), triton.cdiv(rows, tile.rows), splits](
        a,
        weight,
        weight if bias is None else bias,
        x,
        x if parts is None else parts.found,
        x if parts is None else parts.arrived,
        rows,
        columns,
        x.stride(0),
        K=depth,
        EACH=triton.cdiv(depth, splits * depth_at_once) * depth_at_once,
        SPLITS=splits,
        BIAS=bias is not None,
        BM=tile.rows,
        BN=columns_at_once,
        BK=depth_at_once,
        num_warps=tile.warps,
        num_stages=tile.stages,
        **dependent(x.device),
    )


def _choice(rows: int, columns: int, depth: int, *, prompt: bool) -> tuple[Tile, int]:
    if prompt:
        return _PROMPT, _PROMPT_SPLITS if depth > _LONGER else 1
    if columns > _FLOWS:  # whatever the rows, so a slot's numbers do not depend on their number
        return (_LONG, _SPLITS) if depth > _LONGER else (_FEW, 1)
    return _SMALL if rows <= 200 else _MIDDLE if rows <= 800 else _LARGE, 1


def parts_for(rows: int, columns: int, device: torch.device, *, prompt: bool = False) -> Parts:
    """For that many long rows of the language model."""
    tile, splits = (_PROMPT, _PROMPT_SPLITS) if prompt else (_LONG, _SPLITS)
    tiles = triton.cdiv(rows, tile.rows) * triton.cdiv(columns, tile.columns)
    return Parts.of(splits * tiles * tile.rows * tile.columns, tiles, device)


def reference(
    a: Tensor, weight: Tensor, bias: Tensor | None, x: Tensor, parts: Parts | None = None, *, prompt: bool = False
) -> None:
    """The same by PyTorch."""
    x += F.linear(a, weight, bias)


@triton.jit(do_not_specialize=["rows"])
def _linear_residual(
    a_ptr,
    weight_ptr,
    bias_ptr,
    x_ptr,
    parts_ptr,
    arrived_ptr,
    rows,
    columns,
    x_stride,
    K: tl.constexpr,
    EACH: tl.constexpr,
    SPLITS: tl.constexpr,
    BIAS: tl.constexpr,
    BM: tl.constexpr,
    BN: tl.constexpr,
    BK: tl.constexpr,
    DEPENDENT: tl.constexpr,
):
    row = tl.program_id(1) * BM + tl.arange(0, BM)
    column = tl.program_id(0) * BN + tl.arange(0, BN)
    split = tl.program_id(2)
    strip = weight_ptr + tl.program_id(0) * BN * K + split * EACH
    prefetch(strip, BN, K, EACH, weight_ptr + columns * K, DEPENDENT)
    wait(DEPENDENT)
    if SPLITS == 1:  # before the sum, which takes longer
        added = _added(x_ptr, bias_ptr, row, column, rows, columns, x_stride, BIAS)
    y = tl.zeros((BM, BN), tl.float32)
    for begin in range(0, EACH, BK):
        k = split * EACH + begin + tl.arange(0, BK)
        a = tl.load(a_ptr + row[:, None] * K + k[None, :], mask=(row < rows)[:, None] & (k < K)[None, :], other=0.0)
        mask = (column < columns)[None, :] & (k < K)[:, None]
        weight = tl.load(weight_ptr + column[None, :] * K + k[:, None], mask=mask, other=0.0)
        y = tl.dot(a, weight, y, input_precision="ieee")
    if SPLITS == 1:
        _store(y + added, x_ptr, row, column, rows, columns, x_stride)
    else:
        tile = tl.program_id(1) * tl.num_programs(0) + tl.program_id(0)
        place = tl.arange(0, BM)[:, None] * BN + tl.arange(0, BN)[None, :]
        parts = parts_ptr + tile * (SPLITS * BM * BN) + place
        tl.store(parts + split * (BM * BN), y)
        if is_last(arrived_ptr + tile, SPLITS):
            y = tl.zeros((BM, BN), tl.float32)
            for part in range(SPLITS):
                y += tl.load(parts + part * (BM * BN), cache_modifier=".cg")
            y += _added(x_ptr, bias_ptr, row, column, rows, columns, x_stride, BIAS)
            _store(y, x_ptr, row, column, rows, columns, x_stride)


@triton.jit
def _added(x_ptr, bias_ptr, row, column, rows, columns, x_stride, BIAS: tl.constexpr):
    """What the product is added to."""
    mask = (row < rows)[:, None] & (column < columns)[None, :]
    x = tl.load(x_ptr + row[:, None] * x_stride + column[None, :], mask=mask, other=0.0).to(tl.float32)
    if BIAS:
        x += tl.load(bias_ptr + column, mask=column < columns, other=0.0).to(tl.float32)[None, :]
    return x


@triton.jit
def _store(y, x_ptr, row, column, rows, columns, x_stride):
    mask = (row < rows)[:, None] & (column < columns)[None, :]
    tl.store(x_ptr + row[:, None] * x_stride + column[None, :], y.to(x_ptr.dtype.element_ty), mask=mask)
