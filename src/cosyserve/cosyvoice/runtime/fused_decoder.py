"""A step of the language model by Triton's kernels: one token of every slot of a `Cache`.

It computes what `Llm.decode` does, in 6 kernels for a layer, one for the embedding and one for the head. Positions are
read on the device and attention is as long as each slot's own, so that one graph serves all lengths.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from cosyserve.cosyvoice.kernels.decode_attention import Parts, decode_attention
from cosyserve.cosyvoice.kernels.linear_residual import linear_residual
from cosyserve.cosyvoice.kernels.norm_linear import Norm
from cosyserve.cosyvoice.kernels.rms_linear import rms_linear
from cosyserve.cosyvoice.kernels.tile import Tile
from cosyserve.cosyvoice.model.qwen2 import Cache, Llm, rotary

_TILE = Tile(16, 16, depth=256, stages=4)  # few rows and much to read: narrow ones keep more of a card busy
_PROGRAMS = 128  # that attention is split into, about what a card runs at once
_MOST_SPLITS = 32


@dataclass(frozen=True)
class _Layer:
    norm: Norm
    qkv: Tensor
    qkv_bias: Tensor
    out: Tensor
    norm_ff: Norm
    gate_up: Tensor
    down: Tensor
    kept: Tensor  # of the cache


class FusedDecoder:
    """Not to be used from two threads."""

    def __init__(self, llm: Llm, cache: Cache) -> None:
        llm.fuse()
        config, qwen = llm.config, llm.qwen
        self._layers = [_layer(*each) for each in zip(qwen.layers, cache.layers, strict=True)]
        self._embedding, self._norm = llm.speech_embedding.weight.detach(), _norm(qwen.norm)
        self._head, self._head_bias = llm.llm_decoder.weight.detach(), llm.llm_decoder.bias.detach()
        like = self._embedding
        self._rotary = rotary(config, torch.arange(cache.length, device=like.device))
        splits = min(_MOST_SPLITS, max(1, _PROGRAMS // (cache.slots * config.kv_heads)))
        self._parts = Parts.of(cache.slots, config.heads, splits, config.head_dim, like)

        def buffer(columns: int) -> Tensor:
            return like.new_zeros(cache.slots, columns)

        self._x, self._found, self._hidden = (
            buffer(columns) for columns in (config.hidden, config.heads * config.head_dim, config.feed_forward)
        )
        self._qkv = buffer((config.heads + 2 * config.kv_heads) * config.head_dim)
        self._scores = buffer(len(self._head)).float()  # as they were summed: rounded ones would often be equal

    @torch.inference_mode()
    def step(self, tokens: Tensor, positions: Tensor) -> Tensor:
        """One more token (S,) for every slot, at `positions` (S,); the scores (S, 6564) of the next, in float32, until
        the step after.

        A slot that is not in use may hold anything and be anywhere, and its scores mean nothing.
        """
        x = torch.index_select(self._embedding, 0, tokens, out=self._x)
        for layer in self._layers:
            rms_linear(x, layer.norm, layer.qkv, self._qkv, layer.qkv_bias)
            decode_attention(self._qkv, self._rotary, positions, layer.kept, self._parts, self._found)
            linear_residual(self._found, layer.out, None, x, _TILE)
            rms_linear(x, layer.norm_ff, layer.gate_up, self._hidden, swiglu=True)
            linear_residual(self._hidden, layer.down, None, x, _TILE)
        rms_linear(x, self._norm, self._head, self._scores, self._head_bias)
        return self._scores


def _layer(layer: Any, kept: Tensor) -> _Layer:
    attention, mlp = layer.self_attn, layer.mlp
    qkv, qkv_bias = attention.fused
    gate_up, _ = mlp.fused
    return _Layer(
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
