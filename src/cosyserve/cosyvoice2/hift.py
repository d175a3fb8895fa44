"""The vocoder HiFT: a harmonic source made from the pitch, filtered by the mel, inverted from short spectra.

Mel (B, 80, T) at 50 frames a second to a waveform of 480 T samples at 24 kHz.
"""

import math
from collections.abc import Collection

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812
from torch.nn.utils.parametrizations import weight_norm

from cosyserve.cosyvoice2.config import MELS, SAMPLE_RATE, SAMPLES_PER_FRAME, HiftConfig
from cosyserve.cosyvoice2.graphs import Graphed

_SLOPE = 0.1  # of the leaky units between the upsamplings
_CEILING = 0.99  # samples are clipped there
_LOUDEST = 100.0  # magnitude of one bin
_SINE, _NOISE = 0.1, 0.003  # amplitudes of the source's harmonics and of the noise on them
_OVERLAP = 8  # frames spoken twice in a stream
_VOICED = 10.0  # Hz; below that a frame has no pitch


class Snake(nn.Module):
    """x + sin²(αx)/α, per channel."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.alpha = nn.Parameter(torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        alpha = self.alpha[:, None]
        return x + (alpha * x).sin().square() / (alpha + 1e-9)


class ResidualBlock(nn.Module):
    def __init__(self, channels: int, kernel: int, dilations: tuple[int, ...]) -> None:
        super().__init__()

        def convolution(dilation: int) -> nn.Module:
            padding = dilation * (kernel - 1) // 2
            return weight_norm(nn.Conv1d(channels, channels, kernel, dilation=dilation, padding=padding))

        self.convs1 = nn.ModuleList(convolution(dilation) for dilation in dilations)
        self.convs2 = nn.ModuleList(convolution(1) for _ in dilations)
        self.activations1 = nn.ModuleList(Snake(channels) for _ in dilations)
        self.activations2 = nn.ModuleList(Snake(channels) for _ in dilations)

    def forward(self, x: Tensor) -> Tensor:
        for conv1, conv2, snake1, snake2 in zip(
            self.convs1, self.convs2, self.activations1, self.activations2, strict=True
        ):
            x = x + conv2(snake2(conv1(snake1(x))))
        return x


class F0Predictor(nn.Module):
    """The pitch of each frame in Hz: (B, 80, T) to (B, T)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for inputs in (MELS, channels, channels, channels, channels):
            layers += [weight_norm(nn.Conv1d(inputs, channels, 3, padding=1)), nn.ELU()]
        self.condnet = nn.Sequential(*layers)
        self.classifier = nn.Linear(channels, 1)

    def forward(self, mel: Tensor) -> Tensor:
        return self.classifier(self.condnet(mel).transpose(1, 2)).squeeze(2).abs()


Drawn = tuple[Tensor, Tensor]


class Source(nn.Module):
    """Sines at the pitch and its harmonics, with noise, mixed to one channel."""

    def __init__(self, harmonics: int) -> None:
        super().__init__()
        self.l_linear = nn.Linear(harmonics + 1, 1)
        self._harmonics = harmonics

    def draw(self, batch: int, frames: int, generator: torch.Generator | None, device: torch.device) -> Drawn:
        """Where each harmonic begins (B, 1, H), in turns, and noise (B, 480 T, H)."""
        phase = torch.rand(batch, 1, self._harmonics + 1, generator=generator, device=device)
        noise = torch.randn(batch, frames * SAMPLES_PER_FRAME, self._harmonics + 1, generator=generator, device=device)
        phase[..., 0] = 0
        return phase, noise

    def forward(self, f0: Tensor, phase: Tensor, noise: Tensor) -> Tensor:
        """Pitch (B, T) per frame to (B, 1, 480 T)."""
        frames = f0.shape[1]
        harmonic = f0[..., None] * torch.arange(1, self._harmonics + 2, device=f0.device)  # (B, T, H)
        cycles = harmonic / SAMPLE_RATE % 1
        # The phase advances by the frame and is interpolated within it, so that it needs no sum over samples.
        turns = cycles.cumsum(1) * SAMPLES_PER_FRAME + phase
        turns = _interpolated(turns, frames)
        voiced = (f0 > _VOICED).to(f0.dtype)[..., None].repeat_interleave(SAMPLES_PER_FRAME, dim=1)
        level = voiced * _NOISE + (1 - voiced) * _SINE / 3
        waves = (2 * math.pi * turns).sin() * _SINE * voiced + level * noise
        return self.l_linear(waves).tanh().transpose(1, 2)


def _interpolated(turns: Tensor, frames: int) -> Tensor:
    size = frames * SAMPLES_PER_FRAME
    return F.interpolate(turns.transpose(1, 2), size=size, mode="linear").transpose(1, 2)


class Hift(nn.Module):
    def __init__(self, config: HiftConfig) -> None:
        super().__init__()
        self._fft, self._hop, self._kernels = config.fft, config.hop, len(config.kernels)
        widths = [config.channels // 2**level for level in range(len(config.up_rates) + 1)]
        self.m_source = Source(config.harmonics)
        self.conv_pre = weight_norm(nn.Conv1d(MELS, config.channels, 7, padding=3))
        self.ups = nn.ModuleList(
            weight_norm(nn.ConvTranspose1d(wide, narrow, kernel, rate, padding=(kernel - rate) // 2))
            for wide, narrow, rate, kernel in zip(widths, widths[1:], config.up_rates, config.up_kernels, strict=False)
        )
        # The source's spectra have the rate of the last level; each level takes them at its own.
        strides = [math.prod(config.up_rates[level + 1 :]) for level in range(len(config.up_rates))]
        self.source_downs = nn.ModuleList(
            nn.Conv1d(config.fft + 2, width, 2 * stride if stride > 1 else 1, stride, padding=stride // 2)
            for width, stride in zip(widths[1:], strides, strict=True)
        )
        self.source_resblocks = nn.ModuleList(
            ResidualBlock(width, kernel, config.dilations)
            for width, kernel in zip(widths[1:], config.source_kernels, strict=True)
        )
        self.resblocks = nn.ModuleList(
            ResidualBlock(width, kernel, config.dilations) for width in widths[1:] for kernel in config.kernels
        )
        self.conv_post = weight_norm(nn.Conv1d(widths[-1], config.fft + 2, 7, padding=3))
        self.f0_predictor = F0Predictor(config.f0_channels)
        self.register_buffer("window", torch.hann_window(config.fft, device="cpu"), persistent=False)
        self.window: Tensor

    def draw(self, mel: Tensor, generator: torch.Generator | None = None) -> Drawn:
        """What is random in the excitation for `mel`."""
        device = mel.device if generator is None else generator.device
        phase, noise = self.m_source.draw(mel.shape[0], mel.shape[2], generator, device)
        return phase.to(mel.device), noise.to(mel.device)

    def source(self, mel: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """The excitation (B, 1, 480 T) for `mel`."""
        return self.m_source(self.f0_predictor(mel), *self.draw(mel, generator))

    def speak(self, mel: Tensor, phase: Tensor, noise: Tensor, begun: Tensor) -> Drawn:
        """The waveform (B, 480 T) of `mel` and its excitation, which begins with what there was of it already."""
        source = self.m_source(self.f0_predictor(mel), phase, noise)
        source[:, :, : begun.shape[2]] = begun
        return self.decode(mel, source), source

    def decode(self, mel: Tensor, source: Tensor) -> Tensor:
        """The waveform (B, 480 T) of `mel` over `source`."""
        spectra = torch.stft(source.squeeze(1), self._fft, self._hop, self._fft, self.window, return_complex=True)
        excitation = torch.cat((spectra.real, spectra.imag), dim=1)
        x = self.conv_pre(mel)
        for level, up in enumerate(self.ups):
            x = up(F.leaky_relu(x, _SLOPE))
            if level == len(self.ups) - 1:
                x = F.pad(x, (1, 0), mode="reflect")
            x = x + self.source_resblocks[level](self.source_downs[level](excitation))
            blocks = self.resblocks[level * self._kernels : (level + 1) * self._kernels]
            x = torch.stack([block(x) for block in blocks]).mean(0)
        x = self.conv_post(F.leaky_relu(x))
        bins = self._fft // 2 + 1
        magnitude = x[:, :bins].exp().clip(max=_LOUDEST)
        phase = x[:, bins:].sin()
        return self._inverse(torch.polar(magnitude, phase)).clamp(-_CEILING, _CEILING)

    def _inverse(self, spectra: Tensor) -> Tensor:
        """The inverse of the spectra (B, bins, T) by overlap and add. torch.istft looks at its window first, for which
        the host would wait for a GPU."""
        frames = torch.fft.irfft(spectra, self._fft, dim=1) * self.window[:, None]
        count = frames.shape[2]
        size = (1, (count - 1) * self._hop + self._fft)
        window = self.window.square()[None, :, None].expand(-1, -1, count)
        added, weight = (F.fold(each, size, (1, self._fft), stride=(1, self._hop)) for each in (frames, window))
        edge = self._fft // 2
        return (added / weight)[:, 0, 0, edge:-edge]


class GraphedHift:
    """The vocoder of a GPU: what is spoken again and again, hops of the usual sizes, is a graph."""

    def __init__(self, hift: Hift, frames: Collection[int]) -> None:
        """`frames` are the sizes of a stream's first hop and of those after it, without the overlap."""
        self.draw, self.window, self._eager = hift.draw, hift.window, hift.speak
        self._usual = {
            (size + overlap, overlap * SAMPLES_PER_FRAME): Graphed(hift.speak)
            for size in frames
            for overlap in (0, _OVERLAP)
        }

    @torch.inference_mode()
    def prepare(self) -> None:
        """Make the graphs, before anybody waits for one."""
        for frames, begun in self._usual:
            mel = self.window.new_zeros(1, MELS, frames)
            self.speak(mel, *self.draw(mel), mel.new_zeros(1, 1, begun))

    def speak(self, mel: Tensor, phase: Tensor, noise: Tensor, begun: Tensor) -> Drawn:
        work = self._usual.get((mel.shape[2], begun.shape[2]), self._eager)
        wave, source = work(mel, phase, noise, begun)
        return wave, source


class HiftStream:
    """One utterance whose mel comes a few frames at a time.

    The vocoder sees both ways, so the last eight frames of each call are spoken again by the next, over the same
    source, and faded into each other (upstream's scheme; its Hamming window adds up to 1.08, this one to 1).
    """

    def __init__(self, hift: Hift | GraphedHift, seed: int = 0) -> None:
        self._hift = hift
        self._generator = torch.Generator(hift.window.device).manual_seed(seed)
        self._mel: Tensor | None = None  # the last frames, spoken but not given away
        self._source: Tensor | None = None
        self._wave: Tensor | None = None
        self._fade = torch.linspace(0, math.pi / 2, _OVERLAP * SAMPLES_PER_FRAME).sin().square().to(hift.window.device)

    @torch.inference_mode()
    def push(self, mel: Tensor, *, final: bool = False) -> Tensor:
        """The samples (n,) that `mel` (1, 80, T) completes; with `final`, all that are left."""
        if self._mel is not None:
            mel = torch.cat((self._mel, mel), dim=2)
        if not mel.shape[2] or (mel.shape[2] <= _OVERLAP and not final):
            self._mel = mel
            return mel.new_empty(0)
        begun = mel.new_empty(1, 1, 0) if self._source is None else self._source
        waves, source = self._hift.speak(mel, *self._hift.draw(mel, self._generator), begun)
        wave = waves[0]
        if self._wave is not None:
            length = len(self._wave)
            wave[:length] = wave[:length] * self._fade + self._wave * (1 - self._fade)
        if final:
            return wave
        held = _OVERLAP * SAMPLES_PER_FRAME
        self._mel, self._source, self._wave = mel[:, :, -_OVERLAP:], source[:, :, -held:], wave[-held:]
        return wave[:-held]
