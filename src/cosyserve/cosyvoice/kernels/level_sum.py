"""The sum that a level of the vocoder begins with, and Snake of it, x + sin²(αx)/α for each channel, once for each
block of the level, in one kernel. Snake is rounded to TF32, for the convolutions behind it."""

import torch
import triton
import triton.language as tl
from torch import Tensor

from cosyserve.cosyvoice.kernels.dependent import dependent, wait
from cosyserve.cosyvoice.kernels.tile import power_of_two
from cosyserve.cosyvoice.kernels.vocoder_conv import Begin, near, rounded

_VALUES = 2048  # that a program makes


def level_sum(
    x: Tensor, new: Tensor, alpha: Tensor, out: Tensor, activated: Tensor, begin: Begin | None = None
) -> None:
    """`x + new` into `out`, and its Snake with each `alpha` (G, C) into `activated` (G, B, T, C).

    `new` and `out` are (B, T, C). `x` is too, or one shorter: then it stands one later, behind its second value, as if
    it had been mirrored at its beginning. All are float32. Before `begin` `x` counts as zero.

    Reads B·T·C twice and writes it G + 1 times.
    """
    batch, count, channels = new.shape
    assert x.stride()[1:] == (channels, 1) and new.is_contiguous()  # noqa: S101 - the callers' own layout
    assert out.is_contiguous() and activated.is_contiguous()  # noqa: S101
    assert begin is None or begin.frames.is_contiguous()  # noqa: S101
    width = power_of_two(channels)
    _level_sum[triton.cdiv(count, _VALUES // width), batch](
        x,
        new,
        alpha,
        out,
        activated,
        alpha if begin is None else begin.frames,
        count,
        batch,
        x.stride(0) // channels,
        C=channels,
        GROUPS=len(alpha),
        LATER=count - x.shape[1],
        RATE=0 if begin is None else begin.rate,
        BT=_VALUES // width,
        BC=width,
        **dependent(x.device),
    )


def reference(
    x: Tensor, new: Tensor, alpha: Tensor, out: Tensor, activated: Tensor, begin: Begin | None = None
) -> None:
    """The same by PyTorch."""
    count = new.shape[1]
    if x.shape[1] < count:
        at = torch.arange(count, device=x.device)
        first = torch.zeros(1, 1, device=x.device) if begin is None else begin.frames[:, None] * begin.rate
        places = torch.where(at == first, at + 1, (at - 1).clamp(min=0)).long()
        x = x.gather(1, places[..., None].expand(len(x), -1, x.shape[2]))
    out.copy_((x if begin is None else x * begin.inside(count)) + new)
    each = alpha[:, None, None]
    activated.copy_(rounded(out + (each * out).sin().square() / (each + 1e-9)))


@triton.jit(do_not_specialize=["count", "batch", "x_row"])
def _level_sum(
    x_ptr,
    new_ptr,
    alpha_ptr,
    out_ptr,
    activated_ptr,
    begin_ptr,
    count,
    batch,
    x_row,
    C: tl.constexpr,
    GROUPS: tl.constexpr,
    LATER: tl.constexpr,
    RATE: tl.constexpr,
    BT: tl.constexpr,
    BC: tl.constexpr,
    DEPENDENT: tl.constexpr,
):
    row = tl.program_id(1).to(tl.int64)
    time, channel = tl.program_id(0) * BT + tl.arange(0, BT), tl.arange(0, BC)
    wait(DEPENDENT)
    begin = tl.load(begin_ptr + row) * RATE if RATE else 0
    at = tl.where(time == begin, begin + 1, time - 1) if LATER else time
    mask = (time < count)[:, None] & (channel < C)[None, :]
    inside = mask & (time >= begin)[:, None]
    x = tl.load(x_ptr + (row * x_row + at)[:, None] * C + channel[None, :], mask=inside, other=0.0)
    place = (row * count + time)[:, None] * C + channel[None, :]
    x += tl.load(new_ptr + place, mask=mask, other=0.0)
    tl.store(out_ptr + place, x, mask=mask)
    for group in tl.static_range(GROUPS):
        alpha = tl.load(alpha_ptr + group * C + channel, mask=channel < C, other=1.0)[None, :]
        sine = tl.sin(alpha * x)
        activated = activated_ptr + (batch * count).to(tl.int64) * (group * C) + place
        tl.store(activated, near(x + sine * sine / (alpha + 1e-9)), mask=mask)
