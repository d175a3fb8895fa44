"""Dependent launch, which cards have from compute capability 9.0 on: a kernel begins while the one before it runs.

What it reads that no kernel writes, its weights, it can ask for at once. Then it waits until all kernels before it have
ended and what they wrote can be read. Every kernel waits before it reads or writes anything else, so that no order of
reads and writes changes.
"""

from functools import cache
from typing import Any

import torch
import triton
import triton.language as tl

try:
    from triton.language.extra.cuda import gdc_launch_dependents, gdc_wait
except ImportError:  # before Triton 3.4
    gdc_launch_dependents = gdc_wait = None

_CAPABILITY = (9, 0)
_LINE = tl.constexpr(128)  # bytes that the second-level cache reads at once


def dependent(device: torch.device) -> dict[str, Any]:
    """What a launch is given beside its arguments."""
    return {"DEPENDENT": True, "launch_pdl": True} if _capable(device) else {"DEPENDENT": False}


@cache
def _capable(device: torch.device) -> bool:
    return gdc_wait is not None and device.type == "cuda" and torch.cuda.get_device_capability(device) >= _CAPABILITY


@triton.jit
def wait(DEPENDENT: tl.constexpr):
    """Let the next kernel begin, and wait for those before this one."""
    if DEPENDENT:
        gdc_launch_dependents()
        gdc_wait()


@triton.jit
def prefetch(first, ROWS: tl.constexpr, STRIDE: tl.constexpr, COUNT: tl.constexpr, end, DEPENDENT: tl.constexpr):
    """Ask for COUNT values of each of ROWS, which are STRIDE apart, from the pointer `first` on, without those from
    `end` on. They come into the second-level cache while the kernel waits."""
    if DEPENDENT:
        each: tl.constexpr = _LINE * 8 // first.dtype.element_ty.primitive_bitwidth
        lines: tl.constexpr = triton.next_power_of_2(triton.cdiv(COUNT, each))
        line = tl.minimum(tl.arange(0, lines) * each, COUNT - 1)
        at = first + tl.arange(0, ROWS)[:, None] * STRIDE + line[None, :]
        at = tl.minimum(at.to(tl.int64), (end - 1).to(tl.int64))
        tl.inline_asm_elementwise(
            "prefetch.global.L2 [$1]; mov.u32 $0, 0;", "=r,l", [at], dtype=tl.int32, is_pure=False, pack=1
        )
