"""Layers that share their input as one product."""

import torch
from torch import Tensor, nn


def fused_linear(*layers: nn.Linear) -> tuple[Tensor, Tensor | None] | None:
    """One matrix and one bias for layers that share their input: one product instead of several.

    The layers become views of it, so nothing is held twice. What has been fused already comes back as it is. None
    for layers of another kind, which cannot be fused.
    """
    if not all(isinstance(layer, nn.Linear) for layer in layers):
        return None
    weights = [layer.weight.detach() for layer in layers]
    rows, width = sum(len(weight) for weight in weights), weights[0].shape[1]
    if len({weight.untyped_storage().data_ptr() for weight in weights}) > 1:
        weights = list(torch.cat(weights).split([len(weight) for weight in weights]))
        for layer, weight in zip(layers, weights, strict=True):
            layer.weight = nn.Parameter(weight, requires_grad=False)
    bias = None if layers[0].bias is None else torch.cat([layer.bias.detach() for layer in layers])
    return weights[0].as_strided((rows, width), (width, 1)), bias
