"""All kernels, by name, so that what runs them can be given others."""

from collections.abc import Callable
from dataclasses import dataclass

from cosyserve.cosyvoice.kernels import (
    causal_conv,
    decode_attention,
    draw,
    euler_step,
    grouped_conv,
    linear_residual,
    norm_linear,
    norm_mish,
    paged_attention,
    snake,
)

Kernel = Callable[..., None]


@dataclass(frozen=True)
class Kernels:
    """Triton's; each may be its module's `reference` instead, which takes the same."""

    causal_conv: Kernel = causal_conv.causal_conv
    decode_attention: Kernel = decode_attention.decode_attention
    draw: Kernel = draw.draw
    euler_step: Kernel = euler_step.euler_step
    grouped_conv: Kernel = grouped_conv.grouped_conv
    linear_residual: Kernel = linear_residual.linear_residual
    norm_linear: Kernel = norm_linear.norm_linear
    norm_mish: Kernel = norm_mish.norm_mish
    paged_attention: Kernel = paged_attention.paged_attention
    snake: Kernel = snake.snake


REFERENCES = Kernels(
    causal_conv.reference,
    decode_attention.reference,
    draw.reference,
    euler_step.reference,
    grouped_conv.reference,
    linear_residual.reference,
    norm_linear.reference,
    norm_mish.reference,
    paged_attention.reference,
    snake.reference,
)
