"""The language model with its matrices in eight bits, for processors: a token costs reading them all once."""

import torch
from torch import Tensor, nn

from cosyserve.cosyvoice.model.qwen2 import Llm

_LARGEST = 127


class Int8Linear(nn.Module):
    """A linear layer whose weights are integers of −127 to 127 and a scale for each row. Arithmetic is bfloat16's."""

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__()
        weight = layer.weight.detach().float()
        scale = weight.abs().amax(1).clamp(min=torch.finfo(torch.float32).tiny) / _LARGEST
        self.register_buffer("weight", (weight / scale[:, None]).round().to(torch.int8))
        self.register_buffer("scale", scale.to(torch.bfloat16))
        self.register_buffer("bias", None if layer.bias is None else layer.bias.detach().to(torch.bfloat16))
        self.weight: Tensor
        self.scale: Tensor
        self.bias: Tensor | None

    def forward(self, x: Tensor) -> Tensor:
        """(…, K) to (…, N)."""
        # torch's own kernel, public in all but its name; nothing of torch that is documented does the same.
        product = torch._weight_int8pack_mm(x.reshape(-1, x.shape[-1]), self.weight, self.scale)
        product = product.unflatten(0, x.shape[:-1]) if x.dim() != 2 else product
        return product if self.bias is None else product + self.bias


def quantised(llm: Llm) -> Llm:
    """`llm`, in bfloat16 on a CPU, with every matrix but its embeddings in eight bits. It is changed, not copied."""
    for module in list(llm.modules()):
        for name, layer in list(module.named_children()):
            if isinstance(layer, nn.Linear) and name != "lm_head":
                setattr(module, name, Int8Linear(layer))
    return llm
