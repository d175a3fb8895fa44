"""The language model: Qwen2 over text and speech embeddings, from a prompt to speech tokens.

Keys and values live in slots that are made once. `prefill` reads a prompt into one slot; `decode` advances all slots by
one token in one call, whose shapes never change, so that it can be captured as a CUDA graph.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from cosyserve.cosyvoice2.config import SPEECH_TOKENS, STOP_TOKENS, LlmConfig

_SOS, _TASK = 0, 1  # rows of llm_embedding
_SPEECH = SPEECH_TOKENS + len(STOP_TOKENS)


class Cache:
    """Keys and values of `slots` requests, `length` positions each: (L, 2, S, H, length, D)."""

    def __init__(self, config: LlmConfig, slots: int, length: int, like: Tensor) -> None:
        self.slots, self.length = slots, length
        shape = (config.layers, 2, slots, config.kv_heads, length, config.head_dim)
        self.layers = like.new_zeros(shape)


class RmsNorm(nn.Module):
    """In float32, whatever the model's type is."""

    def __init__(self, width: int, epsilon: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self._epsilon = epsilon

    def forward(self, x: Tensor) -> Tensor:
        wide = x.float()
        wide = wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + self._epsilon)
        return self.weight * wide.to(x.dtype)


class Attention(nn.Module):
    def __init__(self, config: LlmConfig) -> None:
        super().__init__()
        self._heads, self._kv_heads, self._dim = config.heads, config.kv_heads, config.head_dim
        self.q_proj = nn.Linear(config.hidden, config.heads * config.head_dim)
        self.k_proj = nn.Linear(config.hidden, config.kv_heads * config.head_dim)
        self.v_proj = nn.Linear(config.hidden, config.kv_heads * config.head_dim)
        self.o_proj = nn.Linear(config.heads * config.head_dim, config.hidden, bias=False)

    def prefill(self, x: Tensor, rotary: Tensor, kept: Tensor) -> Tensor:
        """`x` (T, W) into `kept`, one slot (2, H, T, D)."""
        query = _rotated(self.q_proj(x).unflatten(1, (self._heads, self._dim)).transpose(0, 1), rotary)
        key = _rotated(self.k_proj(x).unflatten(1, (self._kv_heads, self._dim)).transpose(0, 1), rotary)
        kept[0] = key
        kept[1] = self.v_proj(x).unflatten(1, (self._kv_heads, self._dim)).transpose(0, 1)
        out = F.scaled_dot_product_attention(query[None], kept[:1], kept[1:], is_causal=True, enable_gqa=True)
        return self.o_proj(out[0].transpose(0, 1).flatten(1))

    def decode(self, x: Tensor, rotary: Tensor, places: Tensor, mask: Tensor, kept: Tensor) -> Tensor:
        """`x` (S, W), one token of each slot; `kept` is (2, S, H, span, D)."""
        slots = torch.arange(len(x), device=x.device)
        # The queries that share a key head stand where a sequence would: nothing is repeated for them.
        query = _rotated(self.q_proj(x).unflatten(1, (self._kv_heads, -1, self._dim)), rotary[:, None, None])
        key = _rotated(self.k_proj(x).unflatten(1, (self._kv_heads, self._dim)), rotary[:, None])
        kept[0][slots, :, places] = key
        kept[1][slots, :, places] = self.v_proj(x).unflatten(1, (self._kv_heads, self._dim))
        out = F.scaled_dot_product_attention(query, kept[0], kept[1], mask)
        return self.o_proj(out.flatten(1))


def _rotated(x: Tensor, rotary: Tensor) -> Tensor:
    """Rotary position embedding in halves; `rotary` holds cosines and sines (…, 2, D)."""
    first, second = x.chunk(2, dim=-1)
    turned = torch.cat((-second, first), dim=-1)
    return x * rotary[..., 0, :] + turned * rotary[..., 1, :]


class FeedForward(nn.Module):
    def __init__(self, config: LlmConfig) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(config.hidden, config.feed_forward, bias=False)
        self.up_proj = nn.Linear(config.hidden, config.feed_forward, bias=False)
        self.down_proj = nn.Linear(config.feed_forward, config.hidden, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class Layer(nn.Module):
    def __init__(self, config: LlmConfig) -> None:
        super().__init__()
        self.self_attn = Attention(config)
        self.mlp = FeedForward(config)
        self.input_layernorm = RmsNorm(config.hidden, config.epsilon)
        self.post_attention_layernorm = RmsNorm(config.hidden, config.epsilon)


class Qwen2(nn.Module):
    """The names are those of the released file, `llm.model.model.…`."""

    def __init__(self, config: LlmConfig) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(config.vocabulary, config.hidden)
        self.layers = nn.ModuleList(Layer(config) for _ in range(config.layers))
        self.norm = RmsNorm(config.hidden, config.epsilon)


class Llm(nn.Module):
    def __init__(self, config: LlmConfig) -> None:
        super().__init__()
        self.config = config
        self.llm_embedding = nn.Embedding(2, config.hidden)
        self.llm = nn.Module()
        self.llm.model = nn.Module()
        self.llm.model.model = Qwen2(config)
        self.llm.model.lm_head = nn.Linear(config.hidden, config.vocabulary, bias=False)
        self.llm_decoder = nn.Linear(config.hidden, _SPEECH)
        self.speech_embedding = nn.Embedding(_SPEECH, config.hidden)
        self.tie()

    def tie(self) -> None:
        """The text head is the text embedding, and of no use here: speech has a head of its own."""
        self.llm.model.lm_head.weight = self._qwen.embed_tokens.weight  # type: ignore[union-attr]

    @property
    def _qwen(self) -> Qwen2:
        return self.llm.model.model  # type: ignore[return-value, union-attr]

    def cache(self, slots: int, length: int) -> Cache:
        return Cache(self.config, slots, length, self.llm_decoder.weight)

    def prompt(self, text: Tensor, speech: Tensor) -> Tensor:
        """Text ids (T,) and the prompt's speech tokens (P,) as embeddings: sos, text, task, speech (T + P + 2, W)."""
        marks = self.llm_embedding.weight
        text, speech = self._qwen.embed_tokens(text), self.speech_embedding(speech)
        return torch.cat((marks[_SOS : _SOS + 1], text, marks[_TASK : _TASK + 1], speech))

    @torch.inference_mode()
    def prefill(self, prompt: Tensor, cache: Cache, slot: int) -> Tensor:
        """Read `prompt` (T, W) into a slot; the scores (6564,) of the token after it."""
        length = len(prompt)
        rotary = self._rotary(torch.arange(length, device=prompt.device))
        x = prompt
        for layer, kept in zip(self._qwen.layers, cache.layers, strict=True):
            x = x + layer.self_attn.prefill(layer.input_layernorm(x), rotary, kept[:, slot, :, :length])  # type: ignore[union-attr, operator]
            x = x + layer.mlp(layer.post_attention_layernorm(x))  # type: ignore[operator]
        return self.llm_decoder(self._qwen.norm(x[-1]))

    @torch.inference_mode()
    def decode(self, tokens: Tensor, places: Tensor, cache: Cache, span: int | None = None) -> Tensor:
        """One more token (S,) for every slot, at `places` (S,); the scores (S, 6564) of the next.

        `span` bounds the positions that are looked at; it has to be above every place in use. A slot that is not in
        use may hold anything, and its scores mean nothing.
        """
        span = span or cache.length
        rotary = self._rotary(places)
        mask = (torch.arange(span, device=places.device) <= places[:, None])[:, None, None]
        x = self.speech_embedding(tokens)
        for layer, kept in zip(self._qwen.layers, cache.layers, strict=True):
            normed = layer.input_layernorm(x)  # type: ignore[operator]
            x = x + layer.self_attn.decode(normed, rotary, places, mask, kept[:, :, :, :span])  # type: ignore[union-attr, operator]
            x = x + layer.mlp(layer.post_attention_layernorm(x))  # type: ignore[operator]
        return self.llm_decoder(self._qwen.norm(x))

    def _rotary(self, places: Tensor) -> Tensor:
        """Cosines and sines (T, 2, D) of each place."""
        dim = self.config.head_dim
        exponent = torch.arange(0, dim, 2, device=places.device, dtype=torch.float32) / dim
        angle = places[:, None] / self.config.rope_theta**exponent
        angle = torch.cat((angle, angle), dim=1)
        return torch.stack((angle.cos(), angle.sin()), dim=1).to(self.llm_decoder.weight.dtype)
