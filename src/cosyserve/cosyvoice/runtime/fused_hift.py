"""The vocoder by Triton's kernels, from mel and source to waveform: `Hift.filtered`.

Activations are (B, T, C). The blocks of a level, which differ in their taps alone, run side by side, so a level is 7
launches for its blocks and their input, 7 for the source's, and 1 to get there. Both Fourier transforms are products
with their matrices: of 16 samples, and in one order for any number of streams.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from cosyserve.cosyvoice.kernels.kernels import Kernels
from cosyserve.cosyvoice.kernels.vocoder_conv import Begin, Convs
from cosyserve.cosyvoice.model.config import SAMPLES_PER_FRAME
from cosyserve.cosyvoice.model.hift import LOUDEST, SLOPE, Hift, overlapped

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


class FusedHift:
    """Not to be used from two threads."""

    def __init__(self, hift: Hift, kernels: Kernels) -> None:
        self._kernels, width = kernels, len(hift.resblocks) // len(hift.ups)
        groups = [list(hift.resblocks)[level * width : (level + 1) * width] for level in range(len(hift.ups))]
        with torch.inference_mode():
            self._pre, self._post = _convs([hift.conv_pre]), _convs([hift.conv_post])
            self._window, self._hop = hift.window, hift.hop
            self._analysis, self._synthesis = _fourier(hift.window)
            self._levels = [
                _level(*each) for each in zip(hift.ups, hift.source_downs, hift.source_resblocks, groups, strict=True)
            ]

    def __call__(self, mel: Tensor, source: Tensor, begin: Tensor | None) -> Tensor:
        """As `Hift.filtered`."""
        frames, fft = None if begin is None else begin.flatten().contiguous(), len(self._window)
        sounding = _begin(frames, SAMPLES_PER_FRAME // self._hop)
        pieces = F.pad(source, (fft // 2, fft // 2), mode="reflect").unfold(2, fft, self._hop).transpose(0, 1)
        spectra = self._spectra(mel, self._made(pieces.contiguous(), self._analysis, sounding), frames)
        magnitude, phase = spectra.chunk(2, dim=3)
        voiced = torch.polar(magnitude.exp().clip(max=LOUDEST), phase.sin())
        pieces = self._made(torch.cat((voiced.real, voiced.imag), dim=3), self._synthesis, sounding)[0]
        inside = None if sounding is None else sounding.inside(pieces.shape[1]).transpose(1, 2).float()
        return overlapped(pieces.transpose(1, 2), self._window, self._hop, inside)

    def _made(self, x: Tensor, convs: Convs, begin: Begin | None) -> Tensor:
        out = x.new_empty(*x.shape[:3], convs.bias.shape[1])
        self._kernels.vocoder_conv(x, convs, out, begin=begin)
        return out

    def _spectra(self, mel: Tensor, excited: Tensor, frames: Tensor | None) -> Tensor:
        """What the last convolution makes, (1, B, 120 T + 1, 18), of the source's spectra, which are like it."""
        rate, x = 1, self._made(mel.transpose(1, 2).contiguous()[None], self._pre, _begin(frames, 1))
        for number, level in enumerate(self._levels, 1):
            rate *= level.rate
            later = 1 if number == len(self._levels) else 0
            x = self._through(level, x, excited, _begin(frames, rate), later)
        out = torch.empty_like(excited)
        self._kernels.vocoder_conv(x, self._post, out, slope=_LAST_SLOPE)
        return out

    def _through(self, level: _Level, x: Tensor, excited: Tensor, begin: Begin | None, later: int) -> Tensor:
        """A level of `x` (1, B, T, C); the last is `later` by one value."""
        by, (_, batch, length, _), channels = self._kernels, x.shape, level.down.bias.shape[1]
        count = length * level.rate + later
        new = x.new_empty(1, batch, count, channels)
        activated = torch.empty_like(new)
        alpha = level.source[0].alpha
        by.vocoder_conv(excited, level.down, new, begin=begin, alpha=alpha, activated=activated)
        self._blocks(level.source, new, new, activated, begin)

        behind = len(level.up.weight) - 1
        up = x.new_empty(1, batch, length + behind, level.rate * channels)
        by.vocoder_conv(x, level.up, up, slope=SLOPE)
        risen = up.view(batch, -1, channels)[:, level.skipped : level.skipped + length * level.rate]
        alpha = level.blocks[0].alpha
        both, activated = torch.empty_like(new), new.new_empty(len(alpha), *new.shape[1:])
        by.level_sum(risen, new[0], alpha, both[0], activated, begin)
        out = torch.empty_like(activated)
        self._blocks(level.blocks, both.expand_as(out), out, activated, begin)
        return out.mean(0, keepdim=True)

    def _blocks(self, steps: Sequence[_Step], x: Tensor, out: Tensor, activated: Tensor, begin: Begin | None) -> None:
        """Residual blocks side by side: of `x` (G, B, T, C), whose first activation is given, into `out`."""
        by, between = self._kernels, torch.empty_like(activated)
        for step, following in pairwise([*steps, None]):
            assert step is not None  # noqa: S101 - the last alone is none
            by.vocoder_conv(
                *(activated, step.first),
                dilation=step.dilation,
                begin=begin,
                alpha=step.alpha_between,
                activated=between,
                round_x=False,
            )
            alpha, into = (None, None) if following is None else (following.alpha, activated)
            by.vocoder_conv(between, step.second, out, begin=begin, new=x, alpha=alpha, activated=into, round_x=False)
            x = out


def _fourier(window: Tensor) -> tuple[Convs, Convs]:
    """Of windowed samples (C = 16) the real parts of the bins and their imaginary parts (N = 18); and back again, the
    window laid over once more."""
    fft, device = len(window), window.device
    angle = 2 * math.pi / fft * torch.outer(torch.arange(fft // 2 + 1), torch.arange(fft)).double()
    real, imaginary = angle.cos(), -angle.sin()
    twice = torch.full((fft // 2 + 1, 1), 2.0).double()  # each bin but the first and the last stands for two
    twice[0] = twice[-1] = 1
    there = torch.cat((real, imaginary)).float().to(device) * window
    back = (torch.cat((twice * real, twice * imaginary)) / fft).float().to(device) * window
    zeros = window.new_zeros(2 * (fft // 2 + 1))
    return (
        Convs.of([there[..., None]], [zeros], [0], exact=True),
        Convs.of([back.T[..., None]], [zeros[:fft]], [0], exact=True),
    )


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
