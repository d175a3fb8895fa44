"""Queries and keys are turned by their places, and keys and values go into their pages, in one kernel."""

from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor

from cosyserve.cosyvoice.kernels.dependent import dependent, wait
from cosyserve.cosyvoice.kernels.norm_linear import Append
from cosyserve.cosyvoice.kernels.tile import power_of_two

_FRAMES = 4  # of a program


@dataclass(frozen=True)
class Turns:
    """Cosines and sines (places, D) in float32, the same for both of a pair of neighbours; and at which place each row
    of the batch begins, `begin` (R,)."""

    cosine: Tensor
    sine: Tensor
    begin: Tensor


def turn_append(qkv: Tensor, turns: Turns, query: Tensor, append: Append) -> None:
    """Of `qkv` (R · frames, 3 · N) the first N columns go into `query` (R · frames, N), the others into their row's
    page. The first D of both queries and keys are turned, in pairs of neighbours.

    Reads and writes 3 · R · frames · N.
    """
    count, columns = query.shape
    _, frames, kept = append.past.shape
    assert qkv.is_contiguous() and query.is_contiguous() and kept == 2 * columns  # noqa: S101 - the callers' own layout
    _turn_append[triton.cdiv(count, _FRAMES), 3](
        qkv,
        turns.cosine,
        turns.sine,
        turns.begin,
        query,
        append.past,
        append.pages,
        count,
        FRAMES=frames,
        N=columns,
        D=turns.cosine.shape[1],
        BM=_FRAMES,
        BN=power_of_two(columns),
        num_warps=4,
        **dependent(qkv.device),
    )


def reference(qkv: Tensor, turns: Turns, query: Tensor, append: Append) -> None:
    """The same by PyTorch."""
    _, frames, _ = append.past.shape
    at = (turns.begin[:, None] + torch.arange(frames, device=qkv.device)).flatten()
    cosine, sine = turns.cosine[at].to(qkv.dtype), turns.sine[at].to(qkv.dtype)

    def turned(x: Tensor) -> Tensor:
        first, others = x.split((cosine.shape[1], x.shape[1] - cosine.shape[1]), dim=1)
        even, odd = first.unflatten(1, (-1, 2)).unbind(2)
        swapped = torch.stack((-odd, even), dim=2).flatten(1)
        return torch.cat((first * cosine + swapped * sine, others), dim=1)

    queries, keys, values = qkv.chunk(3, dim=1)
    query.copy_(turned(queries))
    append.past[append.pages] = torch.cat((turned(keys), values), dim=1).unflatten(0, (len(append.pages), -1))


@triton.jit(do_not_specialize=["count"])
def _turn_append(
    qkv_ptr,
    cosine_ptr,
    sine_ptr,
    begin_ptr,
    query_ptr,
    past_ptr,
    pages_ptr,
    count,
    FRAMES: tl.constexpr,
    N: tl.constexpr,
    D: tl.constexpr,
    BM: tl.constexpr,
    BN: tl.constexpr,
    DEPENDENT: tl.constexpr,
):
    at, part = tl.program_id(0) * BM + tl.arange(0, BM), tl.program_id(1)
    row, frame = at // FRAMES, at % FRAMES
    column = tl.arange(0, BN)[None, :]
    inside = (at < count)[:, None] & (column < N)
    wait(DEPENDENT)
    source = qkv_ptr + at.to(tl.int64)[:, None] * (3 * N) + part * N
    x = tl.load(source + column, mask=inside, other=0.0)
    if part < 2:
        turning = inside & (column < D)
        place = (tl.load(begin_ptr + row, mask=at < count, other=0) + frame)[:, None] * D + column
        cosine = tl.load(cosine_ptr + place, mask=turning, other=1.0)
        sine = tl.load(sine_ptr + place, mask=turning, other=0.0)
        neighbour = tl.load(source + (column ^ 1), mask=turning, other=0.0).to(tl.float32)
        turned = x.to(tl.float32) * cosine + tl.where(column % 2 == 0, -neighbour, neighbour) * sine
        x = turned.to(x.dtype)
    if part == 0:
        tl.store(query_ptr + at.to(tl.int64)[:, None] * N + column, x, mask=inside)
    else:
        page = tl.load(pages_ptr + row, mask=at < count, other=0).to(tl.int64)
        kept = past_ptr + ((page * FRAMES + frame) * (2 * N) + (part - 1) * N)[:, None]
        tl.store(kept + column, x, mask=inside)
