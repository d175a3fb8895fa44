"""CosyVoice3's vocoder: HiFT whose convolutions look back only, but for the first of the mel and of the pitch.

Mel (B, 80, T) at 50 frames a second to a waveform at 24 kHz: 480 T samples of a whole utterance, 480 (T − 8) where more
comes, as the pitch looks three frames ahead, the mel four, and the inverse transform reaches into one more.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812
from torch.nn.utils.parametrizations import weight_norm

from cosyserve.cosyvoice.model.config import MELS, SAMPLES_PER_FRAME, SPEECH_TOKENS, Config3, HiftConfig
from cosyserve.cosyvoice.model.flow import NOISE_FRAMES
from cosyserve.cosyvoice.model.hift import CEILING, SLOPE, ResidualBlock, inverted, voiced_spectra
from cosyserve.cosyvoice.model.source import HeldSource

PITCH_AHEAD, MEL_AHEAD = 3, 4  # frames


def noise_generator(config: Config3) -> torch.Generator:
    """What upstream's fixed noise comes from, which is no weight: the default generator, as its configuration leaves it
    behind. The flow's constructor seeds it, then it draws the flow's own noise and the first weights of all that is
    made before the source. Only how many are drawn counts."""
    generator = torch.Generator("cpu").manual_seed(0)
    hidden = config.hift.f0_channels
    normal = [(1, MELS, NOISE_FRAMES), (SPEECH_TOKENS, MELS)]
    first, other, last = (hidden, MELS, PITCH_AHEAD + 1), (hidden, hidden, 3), (1, hidden)
    uniform = [(MELS, config.flow.speaker), (MELS,), first, (hidden,), *4 * [other, (hidden,)], last, (1,)]
    for shape in normal:
        torch.randn(shape, generator=generator, device="cpu")
    for shape in uniform:
        torch.rand(shape, generator=generator, device="cpu")
    torch.rand(1, config.hift.harmonics + 1, generator=generator)  # where each harmonic begins, which nothing hears
    return generator


def fixed_noise(config: Config3, frames: int) -> Tensor:
    """The source's noise (1, 480 · frames, H) from the beginning of any utterance on, in [0, 1), as upstream's."""
    samples, waves = SAMPLES_PER_FRAME * frames, config.hift.harmonics + 1
    return torch.rand(1, samples, waves, generator=noise_generator(config), device="cpu")


class LeftConv1d(nn.Conv1d):
    """A convolution that looks back only; with a stride, from the end of each step."""

    def __init__(self, channels: int, out_channels: int, kernel: int, *, stride: int = 1, dilation: int = 1) -> None:
        super().__init__(channels, out_channels, kernel, stride, dilation=dilation)

    def forward(self, x: Tensor) -> Tensor:
        behind = (self.kernel_size[0] - 1) * self.dilation[0] if self.stride[0] == 1 else self.stride[0] - 1
        return super().forward(F.pad(x, (behind, 0)))


def _left(channels: int, kernel: int, dilation: int) -> nn.Module:
    return LeftConv1d(channels, channels, kernel, dilation=dilation)


class Upsample(LeftConv1d):
    """Each value `rate` times, then a convolution."""

    def __init__(self, channels: int, out_channels: int, kernel: int, rate: int) -> None:
        super().__init__(channels, out_channels, kernel)
        self._rate = rate

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.repeat_interleave(self._rate, dim=2))


class F0Predictor(nn.Module):
    """The pitch of each frame in Hz, in float64: (B, 80, T) to (B, T), or to (B, T − 3) where more frames follow."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        first: nn.Module = nn.Conv1d(MELS, channels, PITCH_AHEAD + 1)
        others = [LeftConv1d(channels, channels, 3) for _ in range(4)]
        layers = [layer for each in (first, *others) for layer in (weight_norm(each), nn.ELU())]
        self.condnet = nn.Sequential(*layers)
        self.classifier = nn.Linear(channels, 1)
        self.double()

    def forward(self, mel: Tensor, *, final: bool = True) -> Tensor:
        x = self.condnet(F.pad(mel.double(), (0, PITCH_AHEAD if final else 0)))
        return self.classifier(x.transpose(1, 2)).squeeze(2).abs().to(mel.dtype)


class CausalHift(nn.Module):
    def __init__(self, config: HiftConfig) -> None:
        super().__init__()
        self._hop, self._kernels, self._frame = config.hop, len(config.kernels), SAMPLES_PER_FRAME // config.hop
        widths = [config.channels // 2**level for level in range(len(config.up_rates) + 1)]
        self.m_source = HeldSource(config.harmonics)
        self.conv_pre = weight_norm(nn.Conv1d(MELS, config.channels, MEL_AHEAD + 1))
        self.ups = nn.ModuleList(
            weight_norm(Upsample(wide, narrow, kernel, rate))
            for wide, narrow, rate, kernel in zip(widths, widths[1:], config.up_rates, config.up_kernels, strict=False)
        )
        # The source's spectra have the rate of the last level; each level takes them at its own.
        strides = [math.prod(config.up_rates[level + 1 :]) for level in range(len(config.up_rates))]
        self.source_downs = nn.ModuleList(
            LeftConv1d(config.fft + 2, width, 2 * stride if stride > 1 else 1, stride=stride)
            for width, stride in zip(widths[1:], strides, strict=True)
        )
        self.source_resblocks = nn.ModuleList(
            ResidualBlock(width, kernel, config.dilations, _left)
            for width, kernel in zip(widths[1:], config.source_kernels, strict=True)
        )
        self.resblocks = nn.ModuleList(
            ResidualBlock(width, kernel, config.dilations, _left) for width in widths[1:] for kernel in config.kernels
        )
        self.conv_post = weight_norm(LeftConv1d(widths[-1], config.fft + 2, 7))
        self.f0_predictor = F0Predictor(config.f0_channels)
        self.register_buffer("window", torch.hann_window(config.fft, device="cpu"), persistent=False)
        self.window: Tensor

    def source(self, f0: Tensor, noise: Tensor) -> Tensor:
        """The source (B, 1, 480 T) of a pitch (B, T); `noise` (1, 480 T or more, H) lies in [0, 1)."""
        return self.m_source(f0, self.m_source.turns(f0), noise[:, : SAMPLES_PER_FRAME * f0.shape[1]])

    def speak(self, mel: Tensor, noise: Tensor, *, final: bool = True) -> Tensor:
        """The waveform (B, samples) of `mel` from its beginning on."""
        f0 = self.f0_predictor(mel, final=final)
        return self.decode(mel[:, :, : f0.shape[1]], self.source(f0, noise), final=final)

    def decode(self, mel: Tensor, source: Tensor, *, final: bool = True) -> Tensor:
        """The waveform of `mel` (B, 80, T) over `source` (B, 1, 480 T); without the last 5 frames where more comes."""
        fft = len(self.window)
        spectra = torch.stft(source.squeeze(1), fft, self._hop, fft, self.window, return_complex=True)
        excitation = torch.cat((spectra.real, spectra.imag), dim=1)
        if not final:
            excitation = excitation[:, :, : -MEL_AHEAD * self._frame]
        x = self.conv_pre(F.pad(mel, (0, MEL_AHEAD if final else 0)))
        for level, (up, down) in enumerate(zip(self.ups, self.source_downs, strict=True)):
            x = up(F.leaky_relu(x, SLOPE))
            if level == len(self.ups) - 1:
                x = F.pad(x, (1, 0), mode="reflect")
            x = x + self.source_resblocks[level](down(excitation))
            blocks = self.resblocks[level * self._kernels : (level + 1) * self._kernels]
            x = torch.stack([block(x) for block in blocks]).mean(0)
        wave = inverted(voiced_spectra(self.conv_post(F.leaky_relu(x))), self.window, self._hop)
        return (wave if final else wave[:, :-SAMPLES_PER_FRAME]).clamp(-CEILING, CEILING)
