"""The flow's encoder: speech tokens, 25 a second, to the mean of the mel, 50 frames a second.

A conformer without convolution modules: pre-norm attention with relative positions (Transformer-XL, after ESPnet),
a look-ahead of three tokens before it, an upsampling by two in its middle. Attention is over everything, or over
everything up to the end of the own chunk of 25 tokens; with a `Past` the latter is computed chunk by chunk.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - torch's own convention

from cosyserve.cosyvoice.model.config import CHUNK_TOKENS, FRAMES_PER_TOKEN, LOOK_AHEAD, EncoderConfig
from cosyserve.cosyvoice.model.past import Past, chunk_mask

_NORM_EPSILON = 1e-12  # of the layers' norms, upstream's choice; the others have torch's 1e-5


def relative_positions(new: int, seen: int, width: int, device: torch.device) -> Tensor:
    """Sinusoids of the distances seen − 1 … −(new − 1), furthest past first: (seen + new − 1, width)."""
    distance = torch.arange(seen - 1, -new, -1, device=device, dtype=torch.float32)
    rate = torch.exp(torch.arange(0, width, 2, device=device, dtype=torch.float32) * (-math.log(10_000.0) / width))
    angle = distance[:, None] * rate
    return torch.stack((angle.sin(), angle.cos()), dim=-1).flatten(1)


class Embed(nn.Module):
    """Linear and norm, scaled up by √width against the positions that upstream once added."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.out = nn.Sequential(nn.Linear(width, width), nn.LayerNorm(width))
        self._scale = math.sqrt(width)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(x) * self._scale


class LookAhead(nn.Module):
    """Mixes each token with the three after it: (B, T + 3, W) to (B, T, W), by `channels` between two convolutions."""

    def __init__(self, width: int, channels: int | None = None) -> None:
        super().__init__()
        channels = channels or width
        self.conv1 = nn.Conv1d(width, channels, LOOK_AHEAD + 1)
        self.conv2 = nn.Conv1d(channels, width, 3)

    def forward(self, x: Tensor, past: Past) -> Tensor:
        ahead = F.leaky_relu(self.conv1(x.transpose(1, 2)))
        mixed = self.conv2(past.before(self, ahead, 2)).transpose(1, 2)
        return mixed + x[:, : mixed.shape[1]]


class Attention(nn.Module):
    """Attention with relative positions: the score of i and j is (q + u)·k + (q + v)·p(i − j)."""

    def __init__(self, width: int, heads: int, rate: int) -> None:
        super().__init__()
        self.pos_bias_u = nn.Parameter(torch.zeros(heads, width // heads))
        self.pos_bias_v = nn.Parameter(torch.zeros(heads, width // heads))
        self.linear_q = nn.Linear(width, width)
        self.linear_k = nn.Linear(width, width)
        self.linear_v = nn.Linear(width, width)
        self.linear_out = nn.Linear(width, width)
        self.linear_pos = nn.Linear(width, width, bias=False)
        self._heads, self._rate = heads, rate

    def forward(self, x: Tensor, distances: Tensor, mask: Tensor | None, past: Past) -> Tensor:
        """`distances` are p (H, seen + new − 1, D); `mask` is added to scores, see `added`."""
        query = self._split(self.linear_q(x))
        key, value = past.attended(self, self._split(self.linear_k(x)), self._split(self.linear_v(x)), self._rate)
        scale = 1 / math.sqrt(query.shape[3])
        by_distance = _products((query + self.pos_bias_v[:, None]) * scale, distances)
        bias = _by_position(by_distance, query.shape[2], key.shape[2])
        bias = bias.contiguous() if mask is None else bias + mask  # a copy: the kernels want aligned rows
        out = F.scaled_dot_product_attention(query + self.pos_bias_u[:, None], key, value, bias, scale=scale)
        return self.linear_out(out.transpose(1, 2).flatten(2))

    def distances(self, positions: Tensor) -> Tensor:
        """p of each of `relative_positions`: (H, seen + new − 1, D)."""
        return self._split(self.linear_pos(positions)[None])[0]

    def _split(self, x: Tensor) -> Tensor:
        return x.unflatten(2, (self._heads, -1)).transpose(1, 2)


def added(mask: Tensor, dtype: torch.dtype) -> Tensor:
    """What to add to scores: 0 where `mask` is True, so that they may be attended to, and −∞ elsewhere."""
    return torch.zeros_like(mask, dtype=dtype).masked_fill(~mask, -math.inf)


def _products(query: Tensor, distances: Tensor) -> Tensor:
    """Of every query (B, H, new, D) and distance (H, seen + new − 1, D): (B, H, new, seen + new − 1).

    One product per head for all streams: one per stream would first copy the distances.
    """
    batch, heads, new, dim = query.shape
    products = query.transpose(0, 1).reshape(heads, batch * new, dim) @ distances.transpose(1, 2)
    return products.unflatten(1, (batch, new)).transpose(0, 1)


def _by_position(by_distance: Tensor, new: int, seen: int) -> Tensor:
    """Row a of (B, H, new, seen + new − 1) begins at distance seen − 1; its own begins new − 1 − a later. A view."""
    batch, heads, row, _ = by_distance.stride()
    size = (*by_distance.shape[:2], new, seen)
    return by_distance.as_strided(size, (batch, heads, row - 1, 1), by_distance.storage_offset() + new - 1)


class FeedForward(nn.Module):
    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.w_1 = nn.Linear(width, hidden)
        self.w_2 = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.w_2(F.silu(self.w_1(x)))


class Layer(nn.Module):
    def __init__(self, config: EncoderConfig, rate: int) -> None:
        super().__init__()
        self.self_attn = Attention(config.width, config.heads, rate)
        self.feed_forward = FeedForward(config.width, config.feed_forward)
        self.norm_ff = nn.LayerNorm(config.width, eps=_NORM_EPSILON)
        self.norm_mha = nn.LayerNorm(config.width, eps=_NORM_EPSILON)

    def forward(self, x: Tensor, distances: Tensor, mask: Tensor | None, past: Past) -> Tensor:
        x = x + self.self_attn(self.norm_mha(x), distances, mask, past)
        return x + self.feed_forward(self.norm_ff(x))


class Upsample(nn.Module):
    """Each token twice, then a causal convolution over five of these frames."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv1d(width, width, 2 * FRAMES_PER_TOKEN + 1)

    def forward(self, x: Tensor, past: Past) -> Tensor:
        x = x.transpose(1, 2).repeat_interleave(FRAMES_PER_TOKEN, dim=2)
        return self.conv(past.before(self, x, 2 * FRAMES_PER_TOKEN)).transpose(1, 2)


class Encoder(nn.Module):
    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.embed = Embed(config.width)
        self.after_norm = nn.LayerNorm(config.width)
        self.pre_lookahead_layer = LookAhead(config.width)
        self.encoders = nn.ModuleList(Layer(config, 1) for _ in range(config.blocks))
        self.up_layer = Upsample(config.width)
        self.up_embed = Embed(config.width)
        self.up_encoders = nn.ModuleList(Layer(config, FRAMES_PER_TOKEN) for _ in range(config.up_blocks))

    def forward(self, x: Tensor, past: Past, *, chunked: bool, final: bool) -> Tensor:
        """Embedded tokens (1, T, W) to (1, 2T', W).

        The last three tokens of a call that is not `final` are look-ahead alone, T' = T − 3, and come again first in
        the next one. A final call has zeros there, T' = T. With `chunked`, T' is a multiple of 25 except at the end.
        """
        x = self.embed(x)
        if final:
            x = F.pad(x, (0, 0, 0, LOOK_AHEAD))
        return self.encode(x, past, partial(self._attend, chunked, past))

    def encode(self, x: Tensor, past: Past, attend: "Attend") -> Tensor:
        """All that follows the embedding, (B, T + 3, W) to (B, 2T, W); `attend` runs layers of one rate."""
        x = self.pre_lookahead_layer(x, past)
        x = attend(self.encoders, x, 1)
        x = self.up_embed(self.up_layer(x, past))
        x = attend(self.up_encoders, x, FRAMES_PER_TOKEN)
        return self.after_norm(x)

    def _attend(self, chunked: bool, past: Past, layers: nn.ModuleList, x: Tensor, rate: int) -> Tensor:
        new = x.shape[1]
        seen = past.seen(layers, new, rate)
        mask = chunk_mask(new, seen, CHUNK_TOKENS * rate, x.device) if chunked else None
        mask = None if mask is None else added(mask, x.dtype)
        positions = relative_positions(new, seen, x.shape[2], x.device).to(x.dtype)
        for layer in cast("list[Layer]", layers):
            x = layer(x, layer.self_attn.distances(positions), mask, past)
        return x


Attend = Callable[[nn.ModuleList, Tensor, int], Tensor]
