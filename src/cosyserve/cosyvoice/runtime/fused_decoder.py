"""A step of the language model by Triton's kernels: one token of every slot of a `Cache`.

It computes what `Llm.decode` does, in 5 kernels for a layer, one for the embedding and one for the head. Positions are
read on the device and attention is as long as each slot's own, so that one graph serves all lengths.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from cosyserve.cosyvoice.kernels import decode_attention, linear_residual
from cosyserve.cosyvoice.kernels.kernels import Kernels
from cosyserve.cosyvoice.kernels.norm_linear import Norm
from cosyserve.cosyvoice.model.qwen2 import Cache, Llm, rotary


@dataclass(frozen=True)
class LlmLayer:
    """As the kernels read it."""

    norm: Norm
    qkv: Tensor
    qkv_bias: Tensor
    out: Tensor
    norm_ff: Norm
    gate_up: Tensor
    down: Tensor
    kept: Tensor  # of the cache


class LlmWeights:
    """The language model as its kernels read it, and a cache that they fill."""

    def __init__(self, llm: Llm, cache: Cache) -> None:
        llm.fuse()
        head: Any = llm.llm_decoder
        self.layers = [_layer(*each) for each in zip(llm.qwen.layers, cache.layers, strict=True)]
        self.norm, self.head = _norm(llm.qwen.norm), head.weight.detach()
        self.head_bias = None if head.bias is None else head.bias.detach()


class FusedDecoder:
    """Not to be used from two threads."""

    def __init__(self, llm: Llm, cache: Cache, kernels: Kernels) -> None:
        self._kernels, self._weights, config = kernels, LlmWeights(llm, cache), llm.config
        self._embedding = like = llm.speech_embedding.weight.detach()
        self._rotary = rotary(config, torch.arange(cache.length, device=like.device))
        self._attention_parts = decode_attention.parts_for(cache.layers[0], config.heads)
        self._down_parts = linear_residual.parts_for(cache.slots, config.hidden, like.device)

        def buffer(columns: int) -> Tensor:
            return like.new_zeros(cache.slots, columns)

        self._x, self._found, self._hidden = (
            buffer(columns) for columns in (config.hidden, config.heads * config.head_dim, config.feed_forward)
        )
        self._qkv = buffer((config.heads + 2 * config.kv_heads) * config.head_dim)
        self._scores = buffer(config.speech_rows).float()  # as they were summed: rounded ones would often be equal

    @torch.inference_mode()
    def step(self, tokens: Tensor, positions: Tensor) -> Tensor:
        """One more token (S,) for each of the first slots, at `positions` (S,); the scores (S, V) of the next, in
        float32, until the step after. A slot's numbers do not depend on how many there are.

        A slot that is not in use may hold anything and be anywhere, and its scores mean nothing.
        """
        count, by, weights = len(tokens), self._kernels, self._weights
        buffers = self._x, self._qkv, self._found, self._hidden, self._scores
        x, qkv, found, hidden, scores = (each[:count] for each in buffers)
        torch.index_select(self._embedding, 0, tokens, out=x)
        for layer in weights.layers:
            kept = layer.kept[:, :count]
            by.norm_linear(x, layer.norm, layer.qkv, qkv, layer.qkv_bias)
            by.decode_attention(qkv, self._rotary, positions, kept, found, self._attention_parts)
            by.linear_residual(found, layer.out, None, x)
            by.norm_linear(x, layer.norm_ff, layer.gate_up, hidden, swiglu=True)
            by.linear_residual(hidden, layer.down, None, x, self._down_parts)
        by.norm_linear(x, weights.norm, weights.head, scores, weights.head_bias)
        return scores


def _layer(layer: Any, kept: Tensor) -> LlmLayer:
    attention, mlp = layer.self_attn, layer.mlp
    qkv, qkv_bias = attention.fused
    gate_up, _ = mlp.fused
    return LlmLayer(
        _norm(layer.input_layernorm),
        qkv,
        qkv_bias,
        attention.o_proj.weight.detach(),
        _norm(layer.post_attention_layernorm),
        gate_up,
        mlp.down_proj.weight.detach(),
        kept,
    )


def _norm(layer: Any) -> Norm:
    return Norm(layer.weight.detach(), None, layer.epsilon)
