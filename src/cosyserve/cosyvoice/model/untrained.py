"""A model without a file: weights of the right shapes and of a sound scale, for measuring. It speaks noise."""

import math
from typing import TypeVar

import torch
from torch import nn

from cosyserve.cosyvoice.model.config import SPEECH_TOKENS
from cosyserve.cosyvoice.model.loading import fold_weight_norm
from cosyserve.cosyvoice.model.qwen2 import Llm

M = TypeVar("M", bound=nn.Module)


@torch.no_grad()
def untrained(module: M, seed: int = 0) -> M:
    """Fill every parameter: matrices so that they keep the size of what goes through them, gains 1, biases 0. Weight
    norm is worked out, as in a model that was loaded."""
    generator = torch.Generator("cpu").manual_seed(seed)
    for name, parameter in module.named_parameters():
        if parameter.dim() > 1:
            parameter.normal_(0, 1 / math.sqrt(max(1, math.prod(parameter.shape[1:]))), generator=generator)
        else:
            parameter.fill_(0.0 if name.endswith("bias") else 1.0)
    fold_weight_norm(module)
    return module.requires_grad_(False).eval()


def never_stopping(llm: Llm) -> None:
    """Have an utterance be as long as its text allows, so that all have the same work: no stop token is drawn."""
    head = llm.llm_decoder
    bias = head.weight.new_zeros(len(head.weight)) if head.bias is None else head.bias.detach().clone()
    bias[SPEECH_TOKENS:] = -torch.inf
    head.bias = nn.Parameter(bias, requires_grad=False)
