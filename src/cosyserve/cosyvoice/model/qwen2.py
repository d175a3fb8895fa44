"""The language model: Qwen2 over text and speech embeddings, from a prompt to speech tokens.

Keys and values live in slots that are made once. `prefill` reads a prompt into one slot; `decode` advances all slots by
one token in one call, whose shapes never change, so that it can be captured as a CUDA graph.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from cosyserve.cosyvoice.model.config import SPEECH_TOKENS, LlmConfig
from cosyserve.cosyvoice.model.fused_linear import fused_linear

_SOS, _TASK = 0, 1  # rows of llm_embedding
_SOS_ROW, _TASK_ROW = SPEECH_TOKENS, SPEECH_TOKENS + 2  # of the speech embedding, where there is none


class Cache:
    """Keys and values of `slots` requests, `length` positions each: (L, 2, S, H, length, D)."""

    def __init__(self, config: LlmConfig, slots: int, length: int, like: Tensor) -> None:
        self.slots, self.length = slots, length
        shape = (config.layers, 2, slots, config.kv_heads, length, config.head_dim)
        self.layers = like.new_zeros(shape)

    def copy(self, other: "Cache", source: int, target: int, positions: slice) -> None:
        """Some positions of another's slot."""
        self.layers[:, :, target, :, positions] = other.layers[:, :, source, :, positions]


class RmsNorm(nn.Module):
    """Worked out in float32, whatever the model's type is."""

    def __init__(self, width: int, epsilon: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.epsilon = epsilon

    def forward(self, x: Tensor) -> Tensor:
        return F.rms_norm(x, self.weight.shape, self.weight, self.epsilon)


class Attention(nn.Module):
    def __init__(self, config: LlmConfig) -> None:
        super().__init__()
        self._heads, self._kv_heads, self._dim = config.heads, config.kv_heads, config.head_dim
        self.q_proj = nn.Linear(config.hidden, config.heads * config.head_dim)
        self.k_proj = nn.Linear(config.hidden, config.kv_heads * config.head_dim)
        self.v_proj = nn.Linear(config.hidden, config.kv_heads * config.head_dim)
        self.o_proj = nn.Linear(config.heads * config.head_dim, config.hidden, bias=False)
        self.fused: tuple[Tensor, Tensor | None] | None = None

    def fuse(self) -> None:
        self.fused = fused_linear(self.q_proj, self.k_proj, self.v_proj)

    def _heads_of(self, x: Tensor, rotary: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries (T, H, D), keys and values (T, H', D) of `x` (T, W), the first two turned to their positions."""
        if self.fused is None:
            projected = torch.cat((self.q_proj(x), self.k_proj(x), self.v_proj(x)), dim=1)
        else:
            projected = F.linear(x, *self.fused)
        both, value = projected.unflatten(1, (-1, self._dim)).split((self._heads + self._kv_heads, self._kv_heads), 1)
        query, key = _rotated(both, rotary[:, None]).split((self._heads, self._kv_heads), 1)
        return query, key, value

    def prefill(self, x: Tensor, rotary: Tensor, kept: Tensor) -> Tensor:
        """`x` (T, W) into `kept`, one slot (2, H, T, D)."""
        query, key, value = self._heads_of(x, rotary)
        kept[0], kept[1] = key.transpose(0, 1), value.transpose(0, 1)
        out = F.scaled_dot_product_attention(
            query.transpose(0, 1)[None], kept[:1], kept[1:], is_causal=True, enable_gqa=True
        )
        return self.o_proj(out[0].transpose(0, 1).flatten(1))

    def extend(self, x: Tensor, rotary: Tensor, positions: Tensor, mask: Tensor, kept: Tensor) -> Tensor:
        """`x` (T, W), the next of one slot at `positions` (T,); `kept` is (2, H, span, D)."""
        query, key, value = self._heads_of(x, rotary)
        kept[0].index_copy_(1, positions, key.transpose(0, 1))
        kept[1].index_copy_(1, positions, value.transpose(0, 1))
        out = F.scaled_dot_product_attention(
            query.transpose(0, 1)[None], kept[:1], kept[1:], mask[None, None], enable_gqa=True
        )
        return self.o_proj(out[0].transpose(0, 1).flatten(1))

    def decode(self, x: Tensor, rotary: Tensor, positions: Tensor, mask: Tensor, kept: Tensor) -> Tensor:
        """`x` (S, W), one token of each slot; `kept` is (2, S, H, span, D)."""
        query, key, value = self._heads_of(x, rotary)
        at = positions[:, None, None, None].expand(-1, self._kv_heads, 1, self._dim)
        kept[0].scatter_(2, at, key[:, :, None])
        kept[1].scatter_(2, at, value[:, :, None])
        # The queries that share a key head stand where a sequence would: nothing is repeated for them.
        out = F.scaled_dot_product_attention(query.unflatten(1, (self._kv_heads, -1)), kept[0], kept[1], mask)
        return self.o_proj(out.flatten(1))


def _rotated(x: Tensor, rotary: Tensor) -> Tensor:
    """Rotary position embedding in halves: (a, b) becomes (a·cos − b·sin, b·cos + a·sin). `rotary` (…, 2, D) holds the
    cosines, and the sines with the first half's sign."""
    return torch.addcmul(x * rotary[..., 0, :], x.roll(x.shape[-1] // 2, -1), rotary[..., 1, :])


def rotary(config: LlmConfig, positions: Tensor) -> Tensor:
    """Cosines and signed sines (T, 2, D) of each place, in float32."""
    exponent = torch.arange(0, config.head_dim, 2, device=positions.device, dtype=torch.float32) / config.head_dim
    angle = positions[:, None] / config.rope_theta**exponent
    cosine, sine = angle.cos(), angle.sin()
    return torch.cat((cosine, cosine, -sine, sine), dim=1).unflatten(1, (2, -1))


class FeedForward(nn.Module):
    def __init__(self, config: LlmConfig) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(config.hidden, config.feed_forward, bias=False)
        self.up_proj = nn.Linear(config.hidden, config.feed_forward, bias=False)
        self.down_proj = nn.Linear(config.feed_forward, config.hidden, bias=False)
        self.fused: tuple[Tensor, Tensor | None] | None = None

    def fuse(self) -> None:
        self.fused = fused_linear(self.gate_proj, self.up_proj)

    def forward(self, x: Tensor) -> Tensor:
        if self.fused is None:
            gate, up = self.gate_proj(x), self.up_proj(x)
        else:
            gate, up = F.linear(x, *self.fused).chunk(2, dim=1)
        return self.down_proj(F.silu(gate) * up)


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
        if config.marks:
            self.llm_embedding = nn.Embedding(2, config.hidden)
        self.llm = nn.Module()
        self.llm.model = nn.Module()
        self.llm.model.model = Qwen2(config)
        self.llm.model.lm_head = nn.Linear(config.hidden, config.vocabulary, bias=False)
        self.llm_decoder = nn.Linear(config.hidden, config.speech_rows, bias=config.marks)
        self.speech_embedding = nn.Embedding(config.speech_rows, config.hidden)
        self.tie()

    def tie(self) -> None:
        """The text head is the text embedding, and of no use here: speech has a head of its own."""
        self.llm.model.lm_head.weight = self.qwen.embed_tokens.weight  # type: ignore[union-attr]

    @property
    def qwen(self) -> Qwen2:
        return self.llm.model.model  # type: ignore[return-value, union-attr]

    def fuse(self) -> None:
        """Make one product of those that share an input. To be done where the weights are to stay."""
        for layer in self.qwen.layers:
            layer.self_attn.fuse()  # type: ignore[union-attr, operator]
            layer.mlp.fuse()  # type: ignore[union-attr, operator]

    def cache(self, slots: int, length: int) -> Cache:
        return Cache(self.config, slots, length, self.speech_embedding.weight)

    def prompt(self, text: Tensor, speech: Tensor) -> Tensor:
        """Text ids (T,) and the prompt's speech tokens (P,) as embeddings: sos, text, task, speech (T + P + 2, W)."""
        return torch.cat((self.sos, self.text(text), self.task, self.speech(speech)))

    @property
    def sos(self) -> Tensor:
        """What begins an utterance (1, W)."""
        return self._mark(_SOS, _SOS_ROW)

    @property
    def task(self) -> Tensor:
        """Behind it only speech follows (1, W)."""
        return self._mark(_TASK, _TASK_ROW)

    def text(self, ids: Tensor) -> Tensor:
        """Embeddings (T, W) of text ids (T,)."""
        embeddings: Tensor = self.qwen.embed_tokens(ids)
        return embeddings

    def speech(self, tokens: Tensor) -> Tensor:
        """Embeddings (T, W) of speech tokens (T,)."""
        embeddings: Tensor = self.speech_embedding(tokens)
        return embeddings

    def _mark(self, own: int, among_speech: int) -> Tensor:
        if self.config.marks:
            return self.llm_embedding.weight[own, None]
        return self.speech_embedding.weight[among_speech, None]

    @torch.inference_mode()
    def prefill(self, prompt: Tensor, cache: Cache, slot: int) -> Tensor:
        """Read `prompt` (T, W) into a slot; the scores (V,) of the token after it."""
        length = len(prompt)
        rotary = self._rotary(torch.arange(length, device=prompt.device))
        x = prompt
        for layer, kept in zip(self.qwen.layers, cache.layers, strict=True):
            x = x + layer.self_attn.prefill(layer.input_layernorm(x), rotary, kept[:, slot, :, :length])  # type: ignore[union-attr, operator]
            x = x + layer.mlp(layer.post_attention_layernorm(x))  # type: ignore[operator]
        return self.llm_decoder(self.qwen.norm(x[-1:]))[0]

    @torch.inference_mode()
    def extend(self, piece: Tensor, begin: Tensor, last: Tensor, cache: Cache, span: int, slot: int = 0) -> Tensor:
        """Read the next piece (T, W) of a prompt, from position `begin` (1,) on, into a slot, where the pieces before
        it are; the scores (V,) of the token after its row `last` (1,). `span` bounds all positions."""
        positions = begin + torch.arange(len(piece), device=piece.device)
        seen = torch.arange(span, device=piece.device) <= positions[:, None]
        mask = torch.zeros_like(seen, dtype=piece.dtype).masked_fill_(~seen, -torch.inf)
        rotary, x = self._rotary(positions), piece
        for layer, kept in zip(self.qwen.layers, cache.layers, strict=True):
            normed = layer.input_layernorm(x)  # type: ignore[operator]
            x = x + layer.self_attn.extend(normed, rotary, positions, mask, kept[:, slot, :, :span])  # type: ignore[union-attr, operator]
            x = x + layer.mlp(layer.post_attention_layernorm(x))  # type: ignore[operator]
        return self.llm_decoder(self.qwen.norm(x.index_select(0, last)))[0]

    @torch.inference_mode()
    def decode(self, tokens: Tensor, positions: Tensor, cache: Cache, span: int | None = None) -> Tensor:
        """One more token (S,) for every slot, at `positions` (S,); the scores (S, V) of the next.

        `span` bounds the positions that are looked at; it has to be above every place in use. A slot that is not in
        use may hold anything, and its scores mean nothing.
        """
        span = span or cache.length
        rotary = self._rotary(positions)
        seen = torch.arange(span, device=positions.device) <= positions[:, None]
        mask = torch.zeros_like(seen, dtype=self.speech_embedding.weight.dtype).masked_fill_(~seen, -torch.inf)
        mask = mask[:, None, None]
        x = self.speech_embedding(tokens)
        for layer, kept in zip(self.qwen.layers, cache.layers, strict=True):
            normed = layer.input_layernorm(x)  # type: ignore[operator]
            x = x + layer.self_attn.decode(normed, rotary, positions, mask, kept[:, :, :, :span])  # type: ignore[union-attr, operator]
            x = x + layer.mlp(layer.post_attention_layernorm(x))  # type: ignore[operator]
        return self.llm_decoder(self.qwen.norm(x))

    def _rotary(self, positions: Tensor) -> Tensor:
        return rotary(self.config, positions).to(self.speech_embedding.weight.dtype)
