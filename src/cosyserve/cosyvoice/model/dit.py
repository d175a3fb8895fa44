"""The estimator of CosyVoice3's flow: a transformer that the time of the Euler step modulates.

Everything is (B, T, W), T in mel frames. Convolutions look back only, attention as far as the mask lets it, so with a
`Past` a chunk is computed once, whatever comes later.
"""

import math
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from cosyserve.cosyvoice.model.config import CHUNK_TOKENS, FRAMES_PER_TOKEN, MELS, DitConfig
from cosyserve.cosyvoice.model.fused_linear import fused_linear
from cosyserve.cosyvoice.model.past import Past

_INPUTS = 4 * MELS  # the mel so far, the prompt's mel, the mean, the speaker
_CHUNK = CHUNK_TOKENS * FRAMES_PER_TOKEN
_SINUSOIDS = 256
TAPS, GROUPS = 31, 16  # of the convolutions that tell positions
EPSILON = 1e-6
_ROTARY_BASE = 10_000.0


class Time(nn.Module):
    """Sinusoids of 1000·t, then two linear layers: () to (1, W)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.time_mlp = nn.ModuleDict({"0": nn.Linear(_SINUSOIDS, width), "2": nn.Linear(width, width)})

    def forward(self, t: Tensor) -> Tensor:
        half = _SINUSOIDS // 2
        rate = torch.exp(torch.arange(half, device=t.device, dtype=torch.float32) * (-math.log(10_000.0) / (half - 1)))
        angle = 1000 * t * rate
        first, second = (cast("nn.Linear", each) for each in self.time_mlp.values())
        wave = torch.cat((angle.sin(), angle.cos()))[None].to(first.weight)
        return second(F.silu(first(wave)))


class PositionConvolution(nn.Sequential):
    """A causal convolution in groups and Mish; numbered as upstream's list is."""

    def __init__(self, width: int) -> None:
        super().__init__(nn.Conv1d(width, width, TAPS, groups=GROUPS))
        self.behind = TAPS - 1

    def forward(self, x: Tensor, past: Past) -> Tensor:  # type: ignore[override]
        return F.mish(self[0](past.before(self, x, self.behind)))


class Positions(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1, self.conv2 = PositionConvolution(width), PositionConvolution(width)

    def forward(self, x: Tensor, past: Past) -> Tensor:
        return self.conv2(self.conv1(x.transpose(1, 2), past), past).transpose(1, 2)


class Input(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.proj = nn.Linear(_INPUTS, width)
        self.conv_pos_embed = Positions(width)

    def forward(self, x: Tensor, past: Past) -> Tensor:
        x = self.proj(x)
        return x + self.conv_pos_embed(x, past)


class Rotary(nn.Module):
    """Angles of positions. Its frequencies are a constant that the released file has as a tensor, but in the weights'
    type, which may round them."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self._dim = dim
        self.register_buffer("inv_freq", self._rates(torch.device("cpu")))
        self.inv_freq: Tensor

    def _rates(self, device: torch.device) -> Tensor:
        return 1 / _ROTARY_BASE ** (torch.arange(0, self._dim, 2, device=device) / self._dim)

    def forward(self, begin: int | Tensor, count: int) -> tuple[Tensor, Tensor]:
        """Cosines and sines (T, D), the same for both of a pair of neighbours; of rows that `begin` (B, 1) at frames of
        their own (B, T, D)."""
        at = torch.arange(count, device=self.inv_freq.device, dtype=torch.float32) + begin
        angles = (at[..., None] * self._rates(at.device)).repeat_interleave(2, dim=-1)
        return angles.cos(), angles.sin()


def turned(x: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
    """`x` (B, T, H · D) of which the first head alone is turned, in pairs of neighbours: upstream turns before it cuts
    into heads, and the weights were trained so."""
    dim = cosine.shape[-1]
    first, others = x.split((dim, x.shape[2] - dim), dim=2)
    even, odd = first.unflatten(2, (-1, 2)).unbind(3)
    swapped = torch.stack((-odd, even), dim=3).flatten(2)
    return torch.cat((first * cosine.to(x.dtype) + swapped * sine.to(x.dtype), others), dim=2)


class Attention(nn.Module):
    def __init__(self, config: DitConfig) -> None:
        super().__init__()
        inner = config.heads * config.head_dim
        self.to_q, self.to_k, self.to_v = (nn.Linear(config.width, inner) for _ in range(3))
        self.to_out = nn.ModuleList((nn.Linear(inner, config.width),))
        self.heads, self.head_dim = config.heads, config.head_dim
        self._fused: tuple[Tensor, Tensor | None] | None = None

    def fuse(self) -> None:
        self._fused = fused_linear(self.to_q, self.to_k, self.to_v)

    @property
    def fused(self) -> tuple[Tensor, Tensor | None]:
        """The weights (3 · heads · D, W) of queries, keys and values and their bias, once `fuse` has been called."""
        assert self._fused is not None  # noqa: S101
        return self._fused

    def forward(self, x: Tensor, rotary: tuple[Tensor, Tensor], mask: Tensor | None, past: Past) -> Tensor:
        query, key, value = self._projected(x)
        query, key = turned(query, *rotary), turned(key, *rotary)
        query = query.unflatten(2, (self.heads, -1)).transpose(1, 2)
        new = torch.cat((key, value), dim=2).unflatten(2, (2, self.heads, -1))
        out = past.attend(self, query, new, mask, FRAMES_PER_TOKEN)
        return self.to_out[0](out.transpose(1, 2).flatten(2))

    def _projected(self, x: Tensor) -> tuple[Tensor, ...]:
        if self._fused is None:
            return self.to_q(x), self.to_k(x), self.to_v(x)
        return F.linear(x, *self._fused).chunk(3, dim=2)


class FeedForward(nn.Module):
    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.ff = nn.ModuleDict({"0": nn.Sequential(nn.Linear(width, inner)), "2": nn.Linear(inner, width)})

    def forward(self, x: Tensor) -> Tensor:
        return self.ff["2"](F.gelu(self.ff["0"](x), approximate="tanh"))


class Modulation(nn.Module):
    """What the time makes of a norm without weights: (1, W) to so many (1, 1, W)."""

    def __init__(self, width: int, count: int) -> None:
        super().__init__()
        self.linear = nn.Linear(width, count * width)
        self._count = count

    def forward(self, time: Tensor) -> tuple[Tensor, ...]:
        return self.linear(F.silu(time))[:, None].chunk(self._count, dim=2)

    @property
    def forgotten(self) -> bool:
        return not self.linear.weight.numel()

    def forget(self) -> None:
        """The weights, once all there is to make of them has been made."""
        self.linear.weight = nn.Parameter(self.linear.weight.new_empty(0, 0), requires_grad=False)


Times = list[tuple[Tensor, ...]]
"""What the time makes of each transformer's norms, and last of the one behind them."""


def modulated(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    return F.layer_norm(x, x.shape[2:], eps=EPSILON) * (1 + scale) + shift


class Transformer(nn.Module):
    def __init__(self, config: DitConfig) -> None:
        super().__init__()
        self.attn_norm = Modulation(config.width, 6)
        self.attn = Attention(config)
        self.ff = FeedForward(config.width, config.feed_forward * config.width)

    def forward(
        self, x: Tensor, time: tuple[Tensor, ...], rotary: tuple[Tensor, Tensor], mask: Tensor | None, past: Past
    ) -> Tensor:
        shift, scale, gate, shift_ff, scale_ff, gate_ff = time
        x = x + gate * self.attn(modulated(x, shift, scale), rotary, mask, past)
        return x + gate_ff * self.ff(modulated(x, shift_ff, scale_ff))


class Dit(nn.Module):
    def __init__(self, config: DitConfig) -> None:
        super().__init__()
        self.width = config.width
        self.time_embed = Time(config.width)
        self.input_embed = Input(config.width)
        self.rotary_embed = Rotary(config.head_dim)
        self.transformer_blocks = nn.ModuleList(Transformer(config) for _ in range(config.blocks))
        self.norm_out = Modulation(config.width, 2)
        self.proj_out = nn.Linear(config.width, MELS)

    def times(self, t: Tensor) -> Times:
        """What all layers take of the time (), which is worked out once for each Euler step: that is two fifths of all
        weights."""
        time = self.time_embed(t)
        norms = [cast("Transformer", each).attn_norm for each in self.transformer_blocks]
        return [norm(time) for norm in (*norms, self.norm_out)]

    def forward(
        self, x: Tensor, mean: Tensor, t: Tensor | Times, speaker: Tensor, prompt: Tensor, past: Past
    ) -> Tensor:
        """`x`, `mean` and `prompt` (B, 80, T), `speaker` (B, 80), to the flow (B, 80, T); attends to everything."""
        return self._estimate(x, mean, t, speaker, prompt, None, past)

    def chunked(
        self, x: Tensor, mean: Tensor, t: Tensor | Times, speaker: Tensor, prompt: Tensor, past: Past
    ) -> Tensor:
        """The same for whole chunks of 50 frames (the last of a stream may be shorter) that see no later one."""
        mask = past.mask(self, x, _CHUNK, FRAMES_PER_TOKEN)
        return self._estimate(x, mean, t, speaker, prompt, mask, past)

    def _estimate(
        self,
        x: Tensor,
        mean: Tensor,
        t: Tensor | Times,
        speaker: Tensor,
        prompt: Tensor,
        mask: Tensor | None,
        past: Past,
    ) -> Tensor:
        count, times = x.shape[2], self.times(t) if isinstance(t, Tensor) else t
        rotary = self.rotary_embed(past.begins(self, count), count)
        given = torch.cat((x, prompt, mean, speaker[..., None].expand(-1, -1, count)), dim=1).transpose(1, 2)
        h = self.input_embed(given, past)
        for transformer, time in zip(self.transformer_blocks, times, strict=False):
            h = transformer(h, time, rotary, mask, past)
        scale, shift = times[-1]
        return self.proj_out(modulated(h, shift, scale)).transpose(1, 2)
