"""The end of an Euler step: the estimator's last projection, the guidance, and the step itself, in one kernel."""

import triton
import triton.language as tl
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from cosyserve.cosyvoice.kernels.dependent import dependent, wait
from cosyserve.cosyvoice.kernels.tile import Tile, power_of_two

_TILE = Tile(16, 128)


def euler_step(
    h: Tensor, weight: Tensor, bias: Tensor, x: Tensor, following: Tensor, duration: float, guidance: float
) -> None:
    """`x` (B, frames, M), float32, moves by `duration` along the guided flow. It is also written, in the estimator's
    type, to the first M columns of both rows of its chunk in `following` (2 · B · frames, …), the next step's input.

    `h` (2 · B · frames, C) holds each chunk with its conditions, then without; `weight` is (M, C).

    Reads 2 · B · frames · C and the weights; 4 · B · frames · C · M operations.
    """
    batch, frames, mels = x.shape
    channels = h.shape[1]
    _euler_step[batch, triton.cdiv(frames, _TILE.rows)](
        h,
        weight,
        bias,
        x,
        following,
        following.stride(0),
        duration,
        guidance,
        FRAMES=frames,
        C=channels,
        N=mels,
        BM=_TILE.rows,
        BN=power_of_two(mels),
        BK=min(_TILE.depth, power_of_two(channels)),
        num_warps=_TILE.warps,
        **dependent(h.device),
    )


def reference(
    h: Tensor, weight: Tensor, bias: Tensor, x: Tensor, following: Tensor, duration: float, guidance: float
) -> None:
    """The same by PyTorch."""
    flows = F.linear(h, weight, bias).float().unflatten(0, (len(x), 2, -1))
    conditional, unconditional = flows.unbind(1)
    x += duration * ((1 + guidance) * conditional - guidance * unconditional)
    following[:, : x.shape[2]] = x[:, None].expand(-1, 2, -1, -1).flatten(0, 2)


@triton.jit
def _euler_step(
    h_ptr,
    weight_ptr,
    bias_ptr,
    x_ptr,
    following_ptr,
    following_stride,
    duration,
    guidance,
    FRAMES: tl.constexpr,
    C: tl.constexpr,
    N: tl.constexpr,
    BM: tl.constexpr,
    BN: tl.constexpr,
    BK: tl.constexpr,
    DEPENDENT: tl.constexpr,
):
    chunk = tl.program_id(0)
    frame = tl.program_id(1) * BM + tl.arange(0, BM)
    column = tl.arange(0, BN)
    wait(DEPENDENT)
    conditional = tl.zeros((BM, BN), tl.float32)
    unconditional = tl.zeros((BM, BN), tl.float32)
    row = (2 * chunk * FRAMES + frame)[:, None]  # with the conditions; without them it is FRAMES further
    for begin in range(0, C, BK):
        k = begin + tl.arange(0, BK)
        inside = (column < N)[None, :] & (k < C)[:, None]
        weight = tl.load(weight_ptr + column[None, :] * C + k[:, None], mask=inside, other=0.0)
        mask = (frame < FRAMES)[:, None] & (k < C)[None, :]
        h = tl.load(h_ptr + row * C + k[None, :], mask=mask, other=0.0)
        conditional = tl.dot(h, weight, conditional, input_precision="ieee")
        h = tl.load(h_ptr + (row + FRAMES) * C + k[None, :], mask=mask, other=0.0)
        unconditional = tl.dot(h, weight, unconditional, input_precision="ieee")
    # The bias counts once: (1 + guidance) − guidance.
    flow = (1 + guidance) * conditional - guidance * unconditional
    flow += tl.load(bias_ptr + column, mask=column < N, other=0.0).to(tl.float32)[None, :]
    mask = (frame < FRAMES)[:, None] & (column < N)[None, :]
    place = x_ptr + (chunk * FRAMES + frame)[:, None] * N + column[None, :]
    x = tl.load(place, mask=mask, other=0.0) + duration * flow
    tl.store(place, x, mask=mask)
    following = following_ptr + row * following_stride + column[None, :]
    x = x.to(following_ptr.dtype.element_ty)
    tl.store(following, x, mask=mask)
    tl.store(following + FRAMES * following_stride, x, mask=mask)
