"""The vocoder's convolutions by Triton's kernels, from mel and spectra to spectra: `Hift.filter`.

Activations are (B, T, C). The blocks of a level, which differ in their taps alone, run side by side, so a level is 9
launches for its blocks and their input, 7 for the source's, and 2 around them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from cosyserve.cosyvoice.kernels.grouped_conv import Begin, Convs
from cosyserve.cosyvoice.kernels.kernels import Kernels
from cosyserve.cosyvoice.model.hift import SLOPE, Hift

_LAST_SLOPE = 0.01  # PyTorch's own, before the last convolution


@dataclass(frozen=True)
class _Step:
    """Two convolutions of each block, and the activations before them."""

    alpha: Tensor  # (G, C)
    first: Convs
    dilation: int
    alpha_between: Tensor
    second: Convs


@dataclass(frozen=True)
class _Level:
    up: Convs
    rate: int  # of this level by that of the one before
    skipped: int  # values at the beginning of what goes up
    down: Convs
    source: list[_Step]
    blocks: list[_Step]


class FusedFilter:
    """Not to be used from two threads."""

    def __init__(self, hift: Hift, kernels: Kernels) -> None:
        self._kernels, width = kernels, len(hift.resblocks) // len(hift.ups)
        groups = [list(hift.resblocks)[level * width : (level + 1) * width] for level in range(len(hift.ups))]
        with torch.inference_mode():
            self._pre, self._post = _convs([hift.conv_pre]), _convs([hift.conv_post])
            self._levels = [
                _level(*each) for each in zip(hift.ups, hift.source_downs, hift.source_resblocks, groups, strict=True)
            ]

    def __call__(self, mel: Tensor, excitation: Tensor, begin: Tensor | None) -> Tensor:
        """As `Hift.filter`."""
        frames, rate = None if begin is None else begin.flatten().contiguous(), 1
        excited = excitation.transpose(1, 2).contiguous()[None]
        x = mel.new_empty(1, len(mel), mel.shape[2], self._pre.bias.shape[1])
        self._kernels.grouped_conv(mel.transpose(1, 2).contiguous()[None], self._pre, x, begin=_begin(frames, 1))
        for number, level in enumerate(self._levels, 1):
            rate *= level.rate
            later = 1 if number == len(self._levels) else 0
            x = self._through(level, x, excited, _begin(frames, rate), later)
        out = x.new_empty(*x.shape[:3], self._post.bias.shape[1])
        self._kernels.grouped_conv(x, self._post, out, slope=_LAST_SLOPE)
        return out[0].transpose(1, 2)

    def _through(self, level: _Level, x: Tensor, excited: Tensor, begin: Begin | None, later: int) -> Tensor:
        """A level of `x` (1, B, T, C); the last is `later` by one value."""
        by, (_, batch, length, _), channels = self._kernels, x.shape, level.down.bias.shape[1]
        count = length * level.rate + later
        new = x.new_empty(1, batch, count, channels)
        activated = torch.empty_like(new)
        alpha = level.source[0].alpha
        by.grouped_conv(excited, level.down, new, begin=begin, alpha=alpha, activated=activated)
        self._blocks(level.source, new, new, activated, begin)

        behind = len(level.up.weight) - 1
        up = x.new_empty(1, batch, length + behind, level.rate * channels)
        by.grouped_conv(x, level.up, up, slope=SLOPE)
        risen = up.view(batch, -1, channels)[:, level.skipped : level.skipped + length * level.rate]
        alpha = level.blocks[0].alpha
        both, activated = torch.empty_like(new), new.new_empty(len(alpha), *new.shape[1:])
        by.snake(risen, new[0], alpha, both[0], activated, begin)
        out = torch.empty_like(activated)
        self._blocks(level.blocks, both.expand_as(out), out, activated, begin)
        return out.mean(0, keepdim=True)

    def _blocks(self, steps: Sequence[_Step], x: Tensor, out: Tensor, activated: Tensor, begin: Begin | None) -> None:
        """Residual blocks side by side: of `x` (G, B, T, C), whose first activation is given, into `out`."""
        by, between = self._kernels, torch.empty_like(activated)
        for step, following in pairwise([*steps, None]):
            assert step is not None  # noqa: S101 - the last alone is none
            by.grouped_conv(
                *(activated, step.first),
                dilation=step.dilation,
                begin=begin,
                alpha=step.alpha_between,
                activated=between,
                round_x=False,
            )
            alpha, into = (None, None) if following is None else (following.alpha, activated)
            by.grouped_conv(between, step.second, out, begin=begin, new=x, alpha=alpha, activated=into, round_x=False)
            x = out


def _begin(frames: Tensor | None, rate: int) -> Begin | None:
    return None if frames is None else Begin(frames, rate)


def _level(up: Any, down: Any, source: Any, blocks: Sequence[Any]) -> _Level:
    (rate,), (padding,) = up.stride, up.padding
    return _Level(_up(up), rate, padding, _convs([down]), _steps([source]), _steps(blocks))


def _convs(layers: Sequence[Any]) -> Convs:
    weights, biases = [layer.weight.detach() for layer in layers], [layer.bias.detach() for layer in layers]
    return Convs.of(weights, biases, [layer.padding[0] for layer in layers], layers[0].stride[0])


def _up(layer: nn.ConvTranspose1d) -> Convs:
    """A transposed convolution as one that makes all values of a step at once, (rate · N): of what it reads, each value
    reaches as many steps as the kernel has."""
    (rate,), (kernel,) = layer.stride, layer.kernel_size
    taps = -(-kernel // rate)
    weight = F.pad(layer.weight.detach(), (0, taps * rate - kernel)).unflatten(2, (taps, rate))  # C, N, taps, rate
    weight = weight.flip(2).permute(3, 1, 0, 2).flatten(0, 1)  # rate · N, C, taps: the last reads the newest
    assert layer.bias is not None  # noqa: S101
    return Convs.of([weight], [layer.bias.detach().repeat(rate)], [taps - 1])


def _steps(blocks: Sequence[Any]) -> list[_Step]:
    names = "activations1", "convs1", "activations2", "convs2"
    return [
        _step(*([getattr(block, name)[number] for block in blocks] for name in names))
        for number in range(len(blocks[0].convs1))
    ]


def _step(snakes: Sequence[Any], firsts: Sequence[Any], between: Sequence[Any], seconds: Sequence[Any]) -> _Step:
    alpha, alpha_between = (torch.stack([each.alpha.detach() for each in many]) for many in (snakes, between))
    return _Step(alpha, _convs(firsts), firsts[0].dilation[0], alpha_between, _convs(seconds))
