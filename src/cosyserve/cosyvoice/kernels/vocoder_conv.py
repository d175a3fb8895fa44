"""Convolutions of the vocoder, side by side: residual blocks that differ in their taps alone are one launch.

Activations are (B, T, C) and float32, so that a tap reads whole rows and nothing is transposed. Products are of numbers
rounded to TF32, as PyTorch's convolutions of the vocoder are on a card; docs/model.md has the error. They are rounded
here: a tensor core would cut them off, and what each of seventy convolutions loses of it would add up.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from cosyserve.cosyvoice.kernels.dependent import dependent, wait
from cosyserve.cosyvoice.kernels.tile import Tile, power_of_two

# For 1 and for 16 streams: docs/model.md, "Kernels". Both sum up in the same order.
_SMALL, _LARGE = Tile(64, 64, 64), Tile(64, 128, 32, stages=4)
_HALF, _MASK = tl.constexpr(1 << 12), tl.constexpr(-1 << 13)  # half of TF32's last bit, and the bits that it keeps
_FEW = 512 * 64 * 64  # values up to which `_SMALL` is used


@dataclass(frozen=True)
class Convs:
    """Convolutions that are made together: all taps one after the other, (taps, N, C), a bias (G, N) each, and `spans`:
    the first tap, how many there are, and how many values the first is before its place. `table` (G, 3), int32, has
    them on the device, as `reference` must not wait for it."""

    weight: Tensor
    bias: Tensor
    spans: tuple[tuple[int, int, int], ...]
    table: Tensor
    stride: int = 1
    exact: bool = False
    """Whether nothing is rounded, which is slower."""

    @classmethod
    def of(
        cls,
        weights: Sequence[Tensor],
        biases: Sequence[Tensor],
        lefts: Sequence[int],
        stride: int = 1,
        *,
        exact: bool = False,
    ) -> "Convs":
        """Of weights (N, C, taps) as PyTorch has them."""
        counts = [weight.shape[2] for weight in weights]
        each = enumerate(zip(counts, lefts, strict=True))
        spans = tuple((sum(counts[:group]), count, left) for group, (count, left) in each)
        device = weights[0].device
        taps = torch.cat([weight.permute(2, 0, 1) for weight in weights]).contiguous()
        return cls(
            taps if exact else rounded(taps),
            torch.stack(list(biases)),
            spans,
            torch.tensor(spans, dtype=torch.int32, device=device),
            stride,
            exact,
        )


def rounded(x: Tensor) -> Tensor:
    """Float32 to the nearest that TF32 has, which has ten bits of the mantissa."""
    return ((x.view(torch.int32) + _HALF.value) & _MASK.value).view(torch.float32)


@dataclass(frozen=True)
class Begin:
    """Before the frame `frames` (B,) of each row there is nothing, at `rate` values a frame."""

    frames: Tensor
    rate: int

    def inside(self, count: int) -> Tensor:
        """(B, count, 1): whether a value counts."""
        at = torch.arange(count, device=self.frames.device)
        return (at >= self.frames[:, None] * self.rate)[..., None]


def vocoder_conv(
    x: Tensor,
    convs: Convs,
    out: Tensor | None = None,
    *,
    dilation: int = 1,
    slope: float = 1.0,
    begin: Begin | None = None,
    new: Tensor | None = None,
    alpha: Tensor | None = None,
    activated: Tensor | None = None,
    round_x: bool = True,
    tile: Tile | None = None,
) -> None:
    """The convolutions of `x` (G, B, T, C), with zeros on both sides of it, as many values of each (G, B, T', N) as are
    asked for. They go with `new` (G, B, T', N) added into `out`, which may be `new`; and their Snake with `alpha`
    (G, N) into `activated`. Groups of `x` and of `new` may be one and the same. Values of `x` below zero count `slope`
    times. Before `begin` the convolutions are zero. `x` is rounded to TF32 unless it is `activated` of another call,
    which is rounded already: `round_x`.

    Reads T·C for each tap and tile of columns, C·N for each tap and tile of rows; 2·taps·T'·C·N operations.
    """
    (groups, batch, length, channels), results = x.shape, [each for each in (out, activated) if each is not None]
    count, columns = results[0].shape[2:]
    tile = tile or (_SMALL if groups * batch * count * columns <= _FEW else _LARGE)
    columns_at_once = min(tile.columns, power_of_two(columns))
    assert x.stride()[2:] == (channels, 1) and all(each.is_contiguous() for each in results)  # noqa: S101 - the callers'
    assert begin is None or begin.frames.is_contiguous()  # noqa: S101
    assert convs.weight.is_contiguous() and (new is None or new.stride()[1:] == results[0].stride()[1:])  # noqa: S101
    _vocoder_conv[triton.cdiv(count, tile.rows), triton.cdiv(columns, columns_at_once), groups * batch](
        x,
        convs.weight,
        convs.bias,
        convs.table,
        convs.table if begin is None else begin.frames,
        x if new is None else new,
        convs.bias if alpha is None else alpha,
        results[0] if out is None else out,
        results[0] if activated is None else activated,
        batch,
        length,
        count,
        x.stride(0) // channels,
        x.stride(1) // channels,
        0 if new is None else new.stride(0) // columns,
        C=channels,
        N=columns,
        STRIDE=convs.stride,
        DILATION=dilation,
        SLOPE=slope,
        ROUND=round_x and not convs.exact,
        EXACT=convs.exact,
        RATE=0 if begin is None else begin.rate,
        NEW=new is not None,
        OUT=out is not None,
        SNAKE=activated is not None,
        BM=tile.rows,
        BN=columns_at_once,
        BK=min(tile.depth, power_of_two(channels)),
        num_warps=tile.warps,
        num_stages=tile.stages,
        **dependent(x.device),
    )


def reference(
    x: Tensor,
    convs: Convs,
    out: Tensor | None = None,
    *,
    dilation: int = 1,
    slope: float = 1.0,
    begin: Begin | None = None,
    new: Tensor | None = None,
    alpha: Tensor | None = None,
    activated: Tensor | None = None,
    round_x: bool = True,
) -> None:
    """The same by PyTorch."""
    count = next(each.shape[2] for each in (out, activated) if each is not None)
    made = []
    for group, (first, taps, left) in enumerate(convs.spans):
        weight = convs.weight[first : first + taps].permute(1, 2, 0)
        right = (count - 1) * convs.stride + (taps - 1) * dilation + 1 - left - x.shape[2]
        rows = F.leaky_relu(x[group], slope)
        rows = F.pad((rounded(rows) if round_x and not convs.exact else rows).transpose(1, 2), (left, right))
        y = F.conv1d(rows, weight, convs.bias[group], convs.stride, dilation=dilation).transpose(1, 2)
        made.append(y if begin is None else y * begin.inside(count))
    y = torch.stack(made)
    y = y if new is None else y + new
    if activated is not None and alpha is not None:
        each = alpha[:, None, None]
        activated.copy_(rounded(y + (each * y).sin().square() / (each + 1e-9)))
    if out is not None:
        out.copy_(y)


_SIZES = ["batch", "length", "count", "x_group", "x_row", "new_group"]


# No size of a window is compiled in, so that none is compiled when a request comes.
@triton.jit(do_not_specialize=_SIZES)
def _vocoder_conv(
    x_ptr,
    weight_ptr,
    bias_ptr,
    spans_ptr,
    begin_ptr,
    new_ptr,
    alpha_ptr,
    out_ptr,
    activated_ptr,
    batch,
    length,
    count,
    x_group,
    x_row,
    new_group,
    C: tl.constexpr,
    N: tl.constexpr,
    STRIDE: tl.constexpr,
    DILATION: tl.constexpr,
    SLOPE: tl.constexpr,
    ROUND: tl.constexpr,
    EXACT: tl.constexpr,
    RATE: tl.constexpr,
    NEW: tl.constexpr,
    OUT: tl.constexpr,
    SNAKE: tl.constexpr,
    BM: tl.constexpr,
    BN: tl.constexpr,
    BK: tl.constexpr,
    DEPENDENT: tl.constexpr,
):
    row = tl.program_id(2) % batch
    group = tl.num_programs(2) // batch - 1 - tl.program_id(2) // batch  # those with the most taps first
    time = tl.program_id(0) * BM + tl.arange(0, BM)
    column = tl.program_id(1) * BN + tl.arange(0, BN)
    first, taps = tl.load(spans_ptr + 3 * group), tl.load(spans_ptr + 3 * group + 1)
    left = tl.load(spans_ptr + 3 * group + 2)
    bias = tl.load(bias_ptr + group * N + column, mask=column < N, other=0.0)
    wait(DEPENDENT)
    parts: tl.constexpr = (C + BK - 1) // BK
    rows = x_ptr + (group.to(tl.int64) * x_group + row.to(tl.int64) * x_row) * C
    y = tl.zeros((BM, BN), tl.float32)
    for part in range(0, taps * parts):
        tap, k = part // parts, part % parts * BK + tl.arange(0, BK)
        at = time * STRIDE + tap * DILATION - left
        x_mask = ((at >= 0) & (at < length))[:, None] & (k < C)[None, :]
        x = tl.load(rows + at[:, None] * C + k[None, :], mask=x_mask, other=0.0)
        if SLOPE != 1.0:
            x = tl.where(x < 0, x * SLOPE, x)
        if ROUND:
            x = near(x)
        weights = weight_ptr + (first + tap) * (N * C) + column[:, None] * C + k[None, :]
        weight = tl.load(weights, mask=(column < N)[:, None] & (k < C)[None, :], other=0.0)
        y = tl.dot(x, tl.trans(weight), y, input_precision="ieee" if EXACT else "tf32")
    y += bias[None, :]
    mask = (time < count)[:, None] & (column < N)[None, :]
    if RATE:
        y = tl.where((time >= tl.load(begin_ptr + row) * RATE)[:, None], y, 0.0)
    place = (row.to(tl.int64) * count + time)[:, None] * N + column[None, :]
    if NEW:
        y += tl.load(new_ptr + group.to(tl.int64) * new_group * N + place, mask=mask, other=0.0)
    place += group.to(tl.int64) * batch * count * N
    if OUT:
        tl.store(out_ptr + place, y, mask=mask)
    if SNAKE:
        alpha = tl.load(alpha_ptr + group * N + column, mask=column < N, other=1.0)[None, :]
        sine = tl.sin(alpha * y)
        tl.store(activated_ptr + place, near(y + sine * sine / (alpha + 1e-9)), mask=mask)


@triton.jit
def near(x):
    """As `rounded`."""
    return ((x.to(tl.int32, bitcast=True) + _HALF) & _MASK).to(tl.float32, bitcast=True)
