"""All kernels, by name, so that what runs them can be given others."""

from collections.abc import Callable
from dataclasses import dataclass

from cosyserve.cosyvoice.kernels import (
    causal_conv,
    decode_attention,
    draw,
    euler_step,
    gated_norm,
    group_conv,
    level_sum,
    linear_residual,
    norm_linear,
    norm_mish,
    paged_attention,
    prompt_attention,
    rms_linear,
    rotary_append,
    snake,
    turn_append,
    vocoder_conv,
)
from cosyserve.cosyvoice.model.config import Config3, Sizes

Kernel = Callable[..., None]


@dataclass(frozen=True)
class Kernels:
    """Triton's; each may be its module's `reference` instead, which takes the same."""

    causal_conv: Kernel = causal_conv.causal_conv
    decode_attention: Kernel = decode_attention.decode_attention
    draw: Kernel = draw.draw
    euler_step: Kernel = euler_step.euler_step
    linear_residual: Kernel = linear_residual.linear_residual
    norm_linear: Kernel = norm_linear.norm_linear
    norm_mish: Kernel = norm_mish.norm_mish
    paged_attention: Kernel = paged_attention.paged_attention
    snake: Kernel = snake.snake
    gated_norm: Kernel = gated_norm.gated_norm
    group_conv: Kernel = group_conv.group_conv
    turn_append: Kernel = turn_append.turn_append
    level_sum: Kernel = level_sum.level_sum
    vocoder_conv: Kernel = vocoder_conv.vocoder_conv
    rms_linear: Kernel = rms_linear.rms_linear
    rotary_append: Kernel = rotary_append.rotary_append
    prompt_attention: Kernel = prompt_attention.prompt_attention


_FLOW = {
    "causal_conv",
    "norm_mish",
    "norm_linear",
    "linear_residual",
    "paged_attention",
    "euler_step",
    "level_sum",
    "vocoder_conv",
}
_DIT = {"gated_norm", "group_conv", "turn_append", "paged_attention", "euler_step", "snake"}
_LLM = {
    "norm_linear",
    "linear_residual",
    "decode_attention",
    "draw",
    "rms_linear",
    "rotary_append",
    "prompt_attention",
}


def used_by(sizes: Sizes) -> set[str]:
    """The names of those that a model of either edition is computed with."""
    return _LLM | (_DIT if isinstance(sizes, Config3) else _FLOW)


REFERENCES = Kernels(
    causal_conv.reference,
    decode_attention.reference,
    draw.reference,
    euler_step.reference,
    linear_residual.reference,
    norm_linear.reference,
    norm_mish.reference,
    paged_attention.reference,
    snake.reference,
    gated_norm.reference,
    group_conv.reference,
    turn_append.reference,
    level_sum.reference,
    vocoder_conv.reference,
    rms_linear.reference,
    rotary_append.reference,
    prompt_attention.reference,
)
