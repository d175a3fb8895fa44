"""What the vocoder filters: sines at the pitch and its harmonics, and noise."""

import math
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812
from torch.nn.utils.parametrizations import weight_norm

from cosyserve.cosyvoice.model.config import MELS, SAMPLE_RATE, SAMPLES_PER_FRAME

_SINE, _NOISE = 0.1, 0.003  # amplitudes of the harmonics and of the noise on them
_VOICED = 10.0  # Hz; below that a frame has no pitch
_BLOCK = 50 * SAMPLES_PER_FRAME  # noise that is drawn at once: what a hop needs
# How far the source looks ahead, in frames: five for the pitch, and it is interpolated towards the frame after.
PITCH_AHEAD = 5
AHEAD = PITCH_AHEAD + 1


def within(x: Tensor, inside: Tensor | None) -> Tensor:
    """`x` (B, C, T) where `inside` (B, 1, T) is 1, else zero; all of it where that is None."""
    return x if inside is None else x * inside


class F0Predictor(nn.Module):
    """The pitch of each frame in Hz: (B, 80, T) to (B, T).

    It computes in float64. The phase of the ninth harmonic turns by 170 radians a frame and is a sum over all of them:
    what float32 rounds otherwise in one hop than in another would be heard in a long utterance. (Upstream's streaming
    vocoder, CosyVoice3's, does likewise.)
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for inputs in (MELS, channels, channels, channels, channels):
            layers += [weight_norm(nn.Conv1d(inputs, channels, 3, padding=1)), nn.ELU()]
        self.condnet = nn.Sequential(*layers)
        self.classifier = nn.Linear(channels, 1)
        self.double()

    def forward(self, mel: Tensor, inside: Tensor | None = None) -> Tensor:
        """Frames that are not `inside` (B, 1, T) are as the padding beyond both ends."""
        layers, x = list(self.condnet), within(mel.double(), inside)
        for convolution, unit in zip(layers[::2], layers[1::2], strict=True):
            x = within(unit(product(cast("nn.Conv1d", convolution), F.pad(x, (1, 1)))), inside)
        return self.classifier(x.transpose(1, 2)).squeeze(2).abs().to(mel.dtype)


def product(convolution: nn.Conv1d, x: Tensor) -> Tensor:
    """A convolution as one product: cuDNN's are six times slower in float64."""
    taps = x.unfold(2, convolution.kernel_size[0], 1).transpose(2, 3).flatten(1, 2)
    assert convolution.bias is not None  # noqa: S101
    return torch.baddbmm(convolution.bias[:, None], convolution.weight.flatten(1).expand(len(x), -1, -1), taps)


class Source(nn.Module):
    """Sines at the pitch and its harmonics, with noise, mixed to one channel."""

    def __init__(self, harmonics: int) -> None:
        super().__init__()
        self.l_linear = nn.Linear(harmonics + 1, 1)
        self.waves = harmonics + 1

    def turns(self, f0: Tensor, before: Tensor | None = None) -> Tensor:
        """How often each harmonic has turned by the middle of each frame, (B, T, H) in float64, of a pitch (B, T).

        `before` (B, 1, H) are the turns of the frame before. All harmonics begin in phase: upstream draws where they
        begin, but adds it to a sample that nothing reads, so the vocoder has never heard anything else.
        """
        harmonic = f0[..., None] * torch.arange(1, self.waves + 1, device=f0.device)
        turns = (harmonic / SAMPLE_RATE % 1).double().cumsum(1) * SAMPLES_PER_FRAME
        return turns if before is None else before + turns

    def sines(self, f0: Tensor, turns: Tensor, before: Tensor | None = None) -> Tensor:
        """The harmonics (B, 480 T, H) at those turns, silent where there is no pitch."""
        # The first half frame of an utterance stands still.
        turns = torch.cat((turns[:, :1] if before is None else before, turns), dim=1).transpose(1, 2)
        turns = F.interpolate(turns, size=turns.shape[2] * SAMPLES_PER_FRAME, mode="linear")[:, :, SAMPLES_PER_FRAME:]
        return (2 * math.pi * (turns % 1)).to(f0.dtype).sin().transpose(1, 2) * _SINE * _voiced(f0)

    def forward(self, f0: Tensor, turns: Tensor, noise: Tensor, before: Tensor | None = None) -> Tensor:
        """Noise (B, 480 T, H) on the harmonics, to (B, 1, 480 T)."""
        voiced = _voiced(f0)
        level = voiced * _NOISE + (1 - voiced) * _SINE / 3
        waves = self.sines(f0, turns, before) + level * noise
        return self._mixed(waves).tanh()[:, None]

    def _mixed(self, waves: Tensor) -> Tensor:
        """`l_linear`, added up wave by wave: a product would add in an order that hangs on how many streams there are,
        and a seed would sound otherwise in company."""
        (weights,), (mixed,) = self.l_linear.weight, self.l_linear.bias
        for wave, weight in zip(waves.unbind(2), weights, strict=True):
            mixed = torch.addcmul(mixed, wave, weight)
        return mixed


class HeldSource(Source):
    """CosyVoice3's: a harmonic stands still for a frame.

    Angles are rounded as upstream rounds them, to float32 before they are taken modulo a turn: after a minute by up to
    0.07 rad for a pitch of 150 Hz, 0.2 for 450. They are summed in float64, so no hop rounds otherwise than another.
    """

    def sines(self, f0: Tensor, turns: Tensor, before: Tensor | None = None) -> Tensor:
        angles = (turns / SAMPLES_PER_FRAME).to(f0.dtype) * 2 * math.pi * SAMPLES_PER_FRAME
        sines = angles.sin()
        return sines.repeat_interleave(SAMPLES_PER_FRAME, dim=1) * _SINE * _voiced(f0)


def _voiced(f0: Tensor) -> Tensor:
    """1 for samples (B, 480 T, 1) that have a pitch, else 0."""
    return (f0 > _VOICED).to(f0.dtype)[..., None].repeat_interleave(SAMPLES_PER_FRAME, dim=1)


class Noise:
    """The noise of one utterance, frame after frame. It is drawn in blocks of one size, so that a seed gives the same
    noise in whatever pieces it is taken."""

    def __init__(self, seed: int, waves: int, device: torch.device) -> None:
        self._generator = torch.Generator(device).manual_seed(seed)
        self._left = torch.empty(1, 0, waves, device=device)

    def take(self, frames: int) -> Tensor:
        """(1, 480 T, H)."""
        samples, waves = frames * SAMPLES_PER_FRAME, self._left.shape[2]
        blocks = -(-(samples - self._left.shape[1]) // _BLOCK)
        draws = [
            torch.randn(1, _BLOCK, waves, generator=self._generator, device=self._left.device) for _ in range(blocks)
        ]
        noise = torch.cat((self._left, *draws), dim=1)
        self._left = noise[:, samples:]
        return noise[:, :samples]
