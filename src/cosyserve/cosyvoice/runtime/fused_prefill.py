"""Pieces of several prompts by Triton's kernels, into the slots of a `Cache`.

It computes what `Llm.extend` does, for several prompts at once, with 6 kernels in each layer. A piece's numbers do not
depend on the pieces beside it, because no size of a tile depends on them.
"""

import torch
from torch import Tensor

from cosyserve.cosyvoice.kernels import linear_residual
from cosyserve.cosyvoice.kernels.kernels import Kernels
from cosyserve.cosyvoice.kernels.rotary_append import Places
from cosyserve.cosyvoice.model.qwen2 import Cache, Llm, rotary
from cosyserve.cosyvoice.runtime.fused_decoder import LlmWeights


class FusedPrefill:
    """For pieces of `rows` positions, as many at once as `cache` has slots. Not to be used from two threads."""

    def __init__(self, llm: Llm, cache: Cache, rows: int, kernels: Kernels) -> None:
        self._kernels, self._weights, config = kernels, LlmWeights(llm, cache), llm.config
        like = llm.speech_embedding.weight
        self._rotary = rotary(config, torch.arange(cache.length, device=like.device))
        self._parts = linear_residual.parts_for(cache.slots * rows, config.hidden, like.device, prompt=True)
        heads = config.heads * config.head_dim
        columns = heads + 2 * config.kv_heads * config.head_dim, heads, heads, config.feed_forward
        self._buffers = [like.new_zeros(cache.slots * rows, each) for each in columns]

    @torch.inference_mode()
    def extend(self, pieces: Tensor, places: Places, last: Tensor) -> Tensor:
        """Read `pieces` (P, rows, W) into their places; the scores (P, V) behind the row `last` (P,) of each."""
        count, rows, _ = pieces.shape
        by, weights, parts = self._kernels, self._weights, self._parts
        x = pieces.flatten(0, 1).clone()
        qkv, query, found, hidden = (each[: len(x)] for each in self._buffers)
        for layer in weights.layers:
            by.rms_linear(x, layer.norm, layer.qkv, qkv, layer.qkv_bias)
            by.rotary_append(qkv, self._rotary, places, layer.kept, query)
            by.prompt_attention(query, layer.kept, places, found)
            by.linear_residual(found, layer.out, None, x, prompt=True)
            by.rms_linear(x, layer.norm_ff, layer.gate_up, hidden, swiglu=True)
            by.linear_residual(hidden, layer.down, None, x, parts, prompt=True)
        ends = x[torch.arange(count, device=x.device) * rows + last]
        scores = x.new_empty(count, len(weights.head), dtype=torch.float32)
        by.norm_linear(ends, weights.norm, weights.head, scores, weights.head_bias)
        return scores
