"""The estimator of the flow: which way the mel is to move at time t. A causal U-Net of one level with transformers.

Everything is (B, C, T) in convolutions and (B, T, C) in transformers, T in mel frames. Convolutions look back only,
attention as far as the mask lets it, so with a `Past` a chunk is computed once, whatever comes later.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from cosyserve.cosyvoice.model.config import CHUNK_TOKENS, FRAMES_PER_TOKEN, MELS, EstimatorConfig
from cosyserve.cosyvoice.model.fused_linear import fused_linear
from cosyserve.cosyvoice.model.past import CausalConv1d, Past

_INPUTS = 4 * MELS  # the mel so far, its mean, the speaker, the prompt's mel
_CHUNK = CHUNK_TOKENS * FRAMES_PER_TOKEN


class Time(nn.Module):
    """Sinusoids of 1000·t, then two linear layers: () to (1, 4·channels)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.linear_1 = nn.Linear(_INPUTS, 4 * channels)
        self.linear_2 = nn.Linear(4 * channels, 4 * channels)

    def forward(self, t: Tensor) -> Tensor:
        half = _INPUTS // 2
        rate = torch.exp(torch.arange(half, device=t.device, dtype=torch.float32) * (-math.log(10_000.0) / (half - 1)))
        angle = 1000 * t * rate
        wave = torch.cat((angle.sin(), angle.cos()))[None].to(self.linear_1.weight.dtype)
        return self.linear_2(F.silu(self.linear_1(wave)))


class Block(nn.Module):
    def __init__(self, channels: int, out_channels: int) -> None:
        super().__init__()
        # The numbers of upstream's list, whose odd entries transpose and activate.
        self.block = nn.ModuleDict({"0": CausalConv1d(channels, out_channels, 3), "2": nn.LayerNorm(out_channels)})

    def forward(self, x: Tensor, past: Past) -> Tensor:
        x = self.block["0"](x, past)
        return F.mish(self.block["2"](x.transpose(1, 2)).transpose(1, 2))


class ResidualBlock(nn.Module):
    def __init__(self, channels: int, out_channels: int) -> None:
        super().__init__()
        self.mlp = nn.Sequential(nn.Mish(), nn.Linear(4 * out_channels, out_channels))
        self.block1 = Block(channels, out_channels)
        self.block2 = Block(out_channels, out_channels)
        self.res_conv = nn.Conv1d(channels, out_channels, 1)

    def forward(self, x: Tensor, time: Tensor, past: Past) -> Tensor:
        h = self.block1(x, past) + self.mlp(time)[..., None]
        return self.block2(h, past) + self.res_conv(x)


class Attention(nn.Module):
    def __init__(self, config: EstimatorConfig) -> None:
        super().__init__()
        inner = config.heads * config.head_dim
        self.to_q = nn.Linear(config.channels, inner, bias=False)
        self.to_k = nn.Linear(config.channels, inner, bias=False)
        self.to_v = nn.Linear(config.channels, inner, bias=False)
        self.to_out = nn.ModuleList((nn.Linear(inner, config.channels),))
        self.heads, self.head_dim = config.heads, config.head_dim
        self._fused: tuple[Tensor, Tensor | None] | None = None

    def fuse(self) -> None:
        self._fused = fused_linear(self.to_q, self.to_k, self.to_v)

    @property
    def fused(self) -> Tensor:
        """The weights (3 · heads · D, C) of queries, keys and values, once `fuse` has been called."""
        assert self._fused is not None  # noqa: S101
        return self._fused[0]

    def forward(self, x: Tensor, mask: Tensor | None, past: Past) -> Tensor:
        if self._fused is None:
            # Keys and values alone: they are kept, and the queries beside them would be too.
            query, new = self.to_q(x), torch.cat((self.to_k(x), self.to_v(x)), dim=2)
        else:
            width = self.heads * self.head_dim
            query, new = F.linear(x, *self._fused).split((width, 2 * width), dim=2)
        query = query.unflatten(2, (self.heads, -1)).transpose(1, 2)
        out = past.attend(self, query, new.unflatten(2, (2, self.heads, -1)), mask, FRAMES_PER_TOKEN)
        return self.to_out[0](out.transpose(1, 2).flatten(2))


class FeedForward(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        first = nn.Module()
        first.proj = nn.Linear(width, 4 * width)
        self.net = nn.ModuleDict({"0": first, "2": nn.Linear(4 * width, width)})

    def forward(self, x: Tensor) -> Tensor:
        return self.net["2"](F.gelu(self.net["0"].proj(x)))  # type: ignore[operator]


class Transformer(nn.Module):
    def __init__(self, config: EstimatorConfig) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(config.channels)
        self.attn1 = Attention(config)
        self.norm3 = nn.LayerNorm(config.channels)
        self.ff = FeedForward(config.channels)

    def forward(self, x: Tensor, mask: Tensor | None, past: Past) -> Tensor:
        x = x + self.attn1(self.norm1(x), mask, past)
        return x + self.ff(self.norm3(x))


class Stage(nn.ModuleList):
    """A residual block, transformers and, except in the middle, a convolution; numbered as upstream's lists are."""

    def __init__(self, config: EstimatorConfig, channels: int, *, middle: bool = False) -> None:
        transformers = nn.ModuleList(Transformer(config) for _ in range(config.transformers))
        stages: list[nn.Module] = [ResidualBlock(channels, config.channels), transformers]
        super().__init__(stages if middle else [*stages, CausalConv1d(config.channels, config.channels, 3)])

    def forward(self, x: Tensor, time: Tensor, mask: Tensor | None, past: Past) -> Tensor:
        """Without the last convolution, which the way down and the way up apply at different places."""
        h = self[0](x, time, past).transpose(1, 2)
        for transformer in self[1]:  # type: ignore[attr-defined]
            h = transformer(h, mask, past)
        return h.transpose(1, 2)


class Estimator(nn.Module):
    def __init__(self, config: EstimatorConfig) -> None:
        super().__init__()
        width = config.channels
        self.time_mlp = Time(width)
        self.down_blocks = nn.ModuleList((Stage(config, _INPUTS),))
        self.mid_blocks = nn.ModuleList(Stage(config, width, middle=True) for _ in range(config.mid_blocks))
        self.up_blocks = nn.ModuleList((Stage(config, 2 * width),))
        self.final_block = Block(width, width)
        self.final_proj = nn.Conv1d(width, MELS, 1)

    def forward(self, x: Tensor, mean: Tensor, t: Tensor, speaker: Tensor, prompt: Tensor, past: Past) -> Tensor:
        """`x`, `mean` and `prompt` (B, 80, T), `speaker` (B, 80), to the flow (B, 80, T); attends to everything."""
        return self._estimate(x, mean, t, speaker, prompt, None, past)

    def chunked(self, x: Tensor, mean: Tensor, t: Tensor, speaker: Tensor, prompt: Tensor, past: Past) -> Tensor:
        """The same for whole chunks of 50 frames (the last of a stream may be shorter) that see no later one."""
        mask = past.mask(self, x, _CHUNK, FRAMES_PER_TOKEN)
        return self._estimate(x, mean, t, speaker, prompt, mask, past)

    def _estimate(
        self, x: Tensor, mean: Tensor, t: Tensor, speaker: Tensor, prompt: Tensor, mask: Tensor | None, past: Past
    ) -> Tensor:
        time = self.time_mlp(t)
        x = torch.cat((x, mean, speaker[..., None].expand(-1, -1, x.shape[2]), prompt), dim=1)
        (down,), (up,) = self.down_blocks, self.up_blocks
        skip = down(x, time, mask, past)
        x = down[2](skip, past)  # type: ignore[index]
        for stage in self.mid_blocks:
            x = stage(x, time, mask, past)
        x = up(torch.cat((x, skip), dim=1), time, mask, past)
        x = up[2](x, past)  # type: ignore[index]
        return self.final_proj(self.final_block(x, past))
