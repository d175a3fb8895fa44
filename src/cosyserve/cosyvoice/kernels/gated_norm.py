"""What a branch of a transformer found is added through a gate, and the next branch's norm is made, in one kernel."""

import triton
import triton.language as tl
from torch import Tensor

from cosyserve.cosyvoice.kernels.dependent import dependent, wait
from cosyserve.cosyvoice.kernels.norm_linear import Norm, normed
from cosyserve.cosyvoice.kernels.tile import power_of_two

_ROWS = 1  # of a program: a row is long


def gated_norm(x: Tensor, norm: Norm, out: Tensor, found: Tensor | None = None, gate: Tensor | None = None) -> None:
    """`x += gate * found`, where something was found, and `norm(x)` into `out`. All are (M, C), `gate` (C,).

    Reads and writes M·C for each of them.
    """
    rows, channels = x.shape
    assert all(each is None or each.is_contiguous() for each in (x, out, found))  # noqa: S101 - the callers' own layout
    assert norm.bias is not None  # noqa: S101 - a LayerNorm
    _gated_norm[triton.cdiv(rows, _ROWS),](
        x,
        norm.weight,
        norm.bias,
        out,
        x if found is None else found,
        norm.weight if gate is None else gate,
        rows,
        norm.epsilon,
        C=channels,
        FOUND=found is not None,
        BM=_ROWS,
        BK=power_of_two(channels),
        num_warps=4,
        **dependent(x.device),
    )


def reference(x: Tensor, norm: Norm, out: Tensor, found: Tensor | None = None, gate: Tensor | None = None) -> None:
    """The same by PyTorch."""
    if found is not None and gate is not None:
        x += gate * found
    out.copy_(norm(x))


@triton.jit(do_not_specialize=["rows"])
def _gated_norm(
    x_ptr,
    gamma_ptr,
    beta_ptr,
    out_ptr,
    found_ptr,
    gate_ptr,
    rows,
    epsilon,
    C: tl.constexpr,
    FOUND: tl.constexpr,
    BM: tl.constexpr,
    BK: tl.constexpr,
    DEPENDENT: tl.constexpr,
):
    row = tl.program_id(0) * BM + tl.arange(0, BM)
    k = tl.arange(0, BK)
    place = row.to(tl.int64)[:, None] * C + k[None, :]
    mask = (row < rows)[:, None] & (k < C)[None, :]
    if FOUND:
        gate = tl.load(gate_ptr + k, mask=k < C, other=0.0).to(tl.float32)
    wait(DEPENDENT)
    x = tl.load(x_ptr + place, mask=mask, other=0.0).to(tl.float32)
    if FOUND:
        found = tl.load(found_ptr + place, mask=mask, other=0.0).to(tl.float32)
        moved = (x + gate[None, :] * found).to(x_ptr.dtype.element_ty)
        tl.store(x_ptr + place, moved, mask=mask)
        x = moved.to(tl.float32)
    y = normed(x, gamma_ptr, beta_ptr, epsilon, k, C, False)
    tl.store(out_ptr + place, y.to(out_ptr.dtype.element_ty), mask=mask)
