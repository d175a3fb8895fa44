"""The vocoder's activation Snake, x + sin²(αx)/α for each channel, with the sums before it, in one kernel."""

import triton
import triton.language as tl
from torch import Tensor

from cosyserve.cosyvoice.kernels.dependent import dependent, wait

_VALUES = 1024  # that a program makes


def snake(
    x: Tensor,
    alpha: Tensor,
    out: Tensor,
    inside: Tensor | None = None,
    new: Tensor | None = None,
    bias: Tensor | None = None,
    moved: Tensor | None = None,
) -> None:
    """Snake of `x` (B, C, T) into `out`; with `new` of x + (new + bias) · inside, which goes into `moved`, and with
    a bias alone that of x + bias. All are float32; `alpha` and `bias` are (C,). Where `inside` (B, 1, T) is 0, what is
    written is too.

    Reads and writes B·C·T for each of them.
    """
    batch, channels, count = x.shape
    assert all(each is None or each.is_contiguous() for each in (x, out, inside, new, moved))  # noqa: S101 - the caller's
    _snake[triton.cdiv(count, _VALUES), batch * channels](
        x,
        alpha,
        out,
        x if inside is None else inside,
        x if new is None else new,
        alpha if bias is None else bias,
        out if moved is None else moved,
        count,
        channels,
        INSIDE=inside is not None,
        NEW=new is not None,
        BIAS=bias is not None,
        MOVED=moved is not None,
        BT=_VALUES,
        **dependent(x.device),
    )


def reference(
    x: Tensor,
    alpha: Tensor,
    out: Tensor,
    inside: Tensor | None = None,
    new: Tensor | None = None,
    bias: Tensor | None = None,
    moved: Tensor | None = None,
) -> None:
    """The same by PyTorch."""
    last = x if new is None else new
    if bias is not None:
        last = last + bias[:, None]
    if inside is not None:
        last = last * inside
    x = last if new is None else x + last
    if moved is not None:
        moved.copy_(x)
    alpha = alpha[:, None]
    y = x + (alpha * x).sin().square() / (alpha + 1e-9)
    out.copy_(y if inside is None else y * inside)


@triton.jit(do_not_specialize=["channels"])
def _snake(
    x_ptr,
    alpha_ptr,
    out_ptr,
    inside_ptr,
    new_ptr,
    bias_ptr,
    moved_ptr,
    count,
    channels,
    INSIDE: tl.constexpr,
    NEW: tl.constexpr,
    BIAS: tl.constexpr,
    MOVED: tl.constexpr,
    BT: tl.constexpr,
    DEPENDENT: tl.constexpr,
):
    row, channel = tl.program_id(1) // channels, tl.program_id(1) % channels
    time = tl.program_id(0) * BT + tl.arange(0, BT)
    mask = time < count
    place = tl.program_id(1).to(tl.int64) * count + time
    alpha = tl.load(alpha_ptr + channel)
    if BIAS:
        bias = tl.load(bias_ptr + channel)
    wait(DEPENDENT)
    x = tl.load(x_ptr + place, mask=mask, other=0.0)
    last = tl.load(new_ptr + place, mask=mask, other=0.0) if NEW else x
    if BIAS:
        last += bias
    if INSIDE:
        inside = tl.load(inside_ptr + row * count + time, mask=mask, other=0.0)
        last *= inside
    x = x + last if NEW else last
    if MOVED:
        tl.store(moved_ptr + place, x, mask=mask)
    sine = tl.sin(alpha * x)
    y = x + sine * sine / (alpha + 1e-9)
    if INSIDE:
        y *= inside
    tl.store(out_ptr + place, y, mask=mask)
