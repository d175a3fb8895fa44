"""The draw of each slot's next token from its scores, and what the next step needs of it, in one kernel.

The same token as `model.sampling.sample` draws for the same scores, except if a random number falls within rounding of
the boundary of two tokens. Among equal scores the lower token comes first, which PyTorch leaves open.
"""

import triton
import triton.language as tl
from torch import Tensor

from cosyserve.cosyvoice.kernels.dependent import dependent, wait
from cosyserve.cosyvoice.model.config import SPEECH_TOKENS
from cosyserve.cosyvoice.model.sampling import Draws, Nucleus, sample


def draw(scores: Tensor, draws: Draws, nucleus: Nucleus) -> None:
    """A token for each row of `scores` (S, V).

    It reads all of `draws` but the tokens. It writes the token, remembers it in the window, and counts the step and the
    position on; but a slot at position 0 is free and stays there.

    One program for each slot, which holds its row in registers: it reads V once, looks through it for each token of
    the nucleus, and sums it up where what it drew is a repetition.
    """
    slots, columns = scores.shape
    assert scores.stride(1) == 1 and draws.recent.is_contiguous()  # noqa: S101 - the callers' own layout
    _draw[slots,](
        scores,
        draws.token,
        draws.position,
        draws.step,
        draws.seed,
        draws.least,
        draws.temperature,
        draws.recent,
        scores.stride(0),
        SPEECH_TOKENS,
        nucleus.top_p,
        nucleus.repeated_from,
        V=columns,
        TOP_K=nucleus.top_k,
        WINDOW=draws.recent.shape[1],
        BV=triton.next_power_of_2(columns),
        BK=triton.next_power_of_2(nucleus.top_k),
        BW=triton.next_power_of_2(draws.recent.shape[1]),
        num_warps=8,
        **dependent(scores.device),
    )


def reference(scores: Tensor, draws: Draws, nucleus: Nucleus) -> None:
    """The same by PyTorch."""
    may_stop = draws.step >= draws.least
    drawn = sample(scores, draws.recent, draws.seed, draws.step, may_stop, draws.temperature, nucleus)
    draws.recent.scatter_(1, (draws.step % draws.recent.shape[1])[:, None], drawn[:, None])
    draws.token.copy_(drawn)
    draws.step.add_(1)
    draws.position.add_(draws.position > 0)


_OF_SLOTS = ["token_ptr", "position_ptr", "step_ptr", "seed_ptr", "least_ptr", "temperature_ptr", "recent_ptr"]


# The same program wherever in memory a slot lies, so that none is compiled when a request comes.
@triton.jit(do_not_specialize=_OF_SLOTS)
def _draw(
    scores_ptr,
    token_ptr,
    position_ptr,
    step_ptr,
    seed_ptr,
    least_ptr,
    temperature_ptr,
    recent_ptr,
    scores_stride,
    stops,
    top_p,
    repeated_from,
    V: tl.constexpr,
    TOP_K: tl.constexpr,
    WINDOW: tl.constexpr,
    BV: tl.constexpr,
    BK: tl.constexpr,
    BW: tl.constexpr,
    DEPENDENT: tl.constexpr,
):
    wait(DEPENDENT)
    slot = tl.program_id(0)
    step, temperature = tl.load(step_ptr + slot), tl.load(temperature_ptr + slot)
    index, place = tl.arange(0, BV), tl.arange(0, BW)
    # Before `least` steps a stop cannot be drawn.
    columns = tl.where(step >= tl.load(least_ptr + slot), V, tl.minimum(stops, V))
    within = index < index * 0 + columns
    scores = tl.load(scores_ptr + slot * scores_stride + index, mask=within, other=-float("inf")).to(tl.float32)
    recent = tl.load(recent_ptr + slot * WINDOW + place, mask=place < WINDOW, other=-1)
    if temperature == 0:
        token = tl.argmax(scores, 0)
    else:
        scaled = scores / tl.maximum(temperature, 1e-6)
        weights = tl.exp(scaled - tl.max(scaled, 0))
        probabilities = weights / tl.sum(weights, 0)
        # Positive floats have the same order as the integers with their bits. Among equal ones the lower token wins.
        keys = (probabilities.to(tl.int32, bitcast=True).to(tl.int64) << 32) | (BV - 1 - index)
        rank = tl.arange(0, BK)
        nucleus, tokens = tl.zeros((BK,), tl.float32), tl.zeros((BK,), tl.int32)
        size, before = 0, 0.0
        while (size < TOP_K) & (before < top_p):  # the token that crosses top_p belongs to the nucleus
            best = tl.max(keys, 0)
            likely = (best >> 32).to(tl.int32).to(tl.float32, bitcast=True)
            nucleus = tl.where(rank == size, likely, nucleus)
            tokens = tl.where(rank == size, (BV - 1 - (best & (BV - 1))).to(tl.int32), tokens)
            keys = tl.where(keys == best, -1, keys)
            size += 1
            before += likely
        seed = tl.load(seed_ptr + slot)
        drawn = _drawn(nucleus, _uniform(seed, step, 0), rank, TOP_K)
        token = tl.sum(tl.where(rank == drawn, tokens, 0), 0)
        if tl.sum((recent == token).to(tl.int32), 0) >= repeated_from:
            others = tl.where(index == token, 0.0, probabilities)
            token = _drawn(others, _uniform(seed, step, 1), index, V)
    tl.store(token_ptr + slot, token)
    tl.store(recent_ptr + slot * WINDOW + step % WINDOW, token)
    tl.store(step_ptr + slot, step + 1)
    position = tl.load(position_ptr + slot)
    tl.store(position_ptr + slot, tl.where(position > 0, position + 1, 0))


@triton.jit
def _drawn(weights, at, index, COUNT: tl.constexpr):
    """The first of `index` where the running sum of `weights` passes the share `at` of the whole. What weighs nothing
    is never drawn, however the sums are rounded; but the last of COUNT where nothing weighs anything."""
    running = tl.where(weights > 0, tl.cumsum(weights, 0), 0.0)
    return tl.min(tl.where(running > at * tl.max(running, 0), index, COUNT - 1), 0)


@triton.jit
def _uniform(seed, step, WHICH: tl.constexpr):
    """`model.sampling.uniform` in unsigned 32 bits, which overflow as its products do."""
    hashed = _mixed(_mixed(_mixed(seed.to(tl.uint32)) ^ (seed >> 32).to(tl.uint32)) ^ (2 * step + WHICH).to(tl.uint32))
    return (hashed >> 9).to(tl.float32) / (1 << 23)


@triton.jit
def _mixed(x):
    x = x ^ (x >> 16)
    x = x * 0x85EBCA6B
    x = x ^ (x >> 13)
    x = x * 0xC2B2AE35
    return x ^ (x >> 16)
