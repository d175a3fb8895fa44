"""The vocoder HiFT: a harmonic source made from the pitch, filtered by the mel, inverted from short spectra.

Mel (B, 80, T) at 50 frames a second to a waveform of 480 T samples at 24 kHz.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812
from torch.nn.utils.parametrizations import weight_norm

from cosyserve.cosyvoice.model.config import MELS, SAMPLES_PER_FRAME, HiftConfig
from cosyserve.cosyvoice.model.source import AHEAD, PITCH_AHEAD, F0Predictor, Noise, Source
from cosyserve.cosyvoice.runtime.graphs import Graphed

_SLOPE = 0.1  # of the leaky units between the upsamplings
_CEILING = 0.99  # samples are clipped there
_LOUDEST = 100.0  # magnitude of one bin
# Frames: how far a sample looks, on both sides. What is one or two further away weighs 1e-6.
_REACH = 13
_HELD = _REACH + AHEAD  # held back by a hop, so that nothing which follows changes what was given away
FIRST_HELD = 12  # by the first one, which is to be heard soon
_FADE = 2  # over which that one passes into the next


# By default cuDNN multiplies in TF32, half of float32's precision, and in some shapes only.
_exactly = torch.backends.cudnn.flags(enabled=True, deterministic=True, allow_tf32=False)


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

    def noise(self, seed: int) -> Noise:
        """What is random in the source of an utterance."""
        return Noise(seed, self.m_source.waves, self.window.device)

    @_exactly
    def source(self, mel: Tensor, noise: Noise) -> Tensor:
        """The source (B, 1, 480 T) of the whole `mel` of an utterance."""
        f0 = self.f0_predictor(mel)
        return self.m_source(f0, self.m_source.turns(f0), noise.take(mel.shape[2]))

    @_exactly
    def speak(
        self, mel: Tensor, begun: Tensor, before: Tensor, noise: Tensor, *, final: bool
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The waveform of `mel`, its source (B, 1, 480 T), and the turns of the harmonics in the frames that are new.

        `begun` is what there is of the source already, and `before` (B, 1, H) the turns at its end; an utterance begins
        with neither. `noise` is for the new frames. More follows unless it is `final`.
        """
        # What follows is likelier to be like the last frame than like the padding's zeros, which are loud.
        seen = mel if final else F.pad(mel, (0, PITCH_AHEAD), mode="replicate")
        behind = before if begun.shape[2] else None
        f0 = self.f0_predictor(seen)[:, begun.shape[2] // SAMPLES_PER_FRAME : mel.shape[2]]
        turns = self.m_source.turns(f0, behind)
        source = torch.cat((begun, self.m_source(f0, turns, noise, behind)), dim=2)
        # The source of the last frames will be another one, and a hop after the first holds back what it touches.
        heard = mel.shape[2] - (AHEAD if begun.shape[2] and not final else 0)
        wave = self.decode(mel[:, :, :heard], source[:, :, : heard * SAMPLES_PER_FRAME])
        return wave, source, turns

    @_exactly
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


@dataclass(frozen=True)
class Window:
    """The frames that a stream still needs, counted from the first of them: how many there are, of how many the source
    is settled, and how many have been given away. The last, `held`, wait for what follows."""

    frames: int = 0
    settled: int = 0
    given: int = 0
    held: int = _HELD

    @property
    def ready(self) -> int:
        """How many may have been given away."""
        return self.frames - self.held

    @property
    def new(self) -> int:
        """How many have no source yet."""
        return self.frames - self.settled

    @property
    def done(self) -> int:
        """How many nobody needs once all that is ready has been given away."""
        return max(0, self.ready - _REACH)

    def longer(self, frames: int) -> "Window":
        return replace(self, frames=self.frames + frames)

    def after(self) -> "Window":
        """What is needed once all that is ready has been given away."""
        frames = self.frames - self.done
        return Window(frames, frames - AHEAD, self.ready - self.done)


class GraphedHift:
    """The vocoder of a GPU: what is spoken again and again, hops of the usual sizes, is a graph."""

    def __init__(self, hift: Hift, hops: Sequence[int], first_held: int) -> None:
        """`hops` are the frames of a stream's first hops; all that come after them have the size of the last."""
        self.noise, self.m_source, self.window, self._eager = hift.noise, hift.m_source, hift.window, hift.speak
        self._usual: dict[tuple[int, int], Graphed] = {}
        window = Window(held=first_held)
        for frames in hops:
            window = window.longer(frames)
            self._usual[window.frames, window.settled] = Graphed(partial(hift.speak, final=False))
            window = window.after()

    @torch.inference_mode()
    def prepare(self) -> None:
        """Make the graphs, before anybody waits for one."""
        waves, like = self.m_source.waves, self.window
        before = like.new_zeros(1, 1, waves, dtype=torch.float64)
        for frames, settled in self._usual:
            begun = like.new_zeros(1, 1, settled * SAMPLES_PER_FRAME)
            noise = like.new_zeros(1, (frames - settled) * SAMPLES_PER_FRAME, waves)
            self.speak(like.new_zeros(1, MELS, frames), begun, before, noise, final=False)

    def speak(self, mel: Tensor, begun: Tensor, before: Tensor, noise: Tensor, *, final: bool) -> Sequence[Tensor]:
        usual = self._usual.get((mel.shape[2], begun.shape[2] // SAMPLES_PER_FRAME))
        if final or usual is None:
            return self._eager(mel, begun, before, noise, final=final)
        return usual(mel, begun, before, noise)


class HiftStream:
    """One utterance whose mel comes a few frames at a time.

    A sample depends on frames before and after it. So some of those that were spoken stay, with their source, and the
    last of each hop wait for the next. What is given away is what the vocoder makes of the whole mel at once; fewer
    held back by the first hop, `first_held`, is sooner and not as exact at the seam: docs/model.md has the figures.
    """

    def __init__(self, hift: Hift | GraphedHift, seed: int = 0, first_held: int = _HELD) -> None:
        self._hift, self._window = hift, Window(held=first_held)
        like, waves = hift.window, hift.m_source.waves
        self._mel, self._source = like.new_empty(1, MELS, 0), like.new_empty(1, 1, 0)
        self._before = like.new_zeros(1, 1, waves, dtype=torch.float64)
        self._noise, self._noises = like.new_empty(1, 0, waves), hift.noise(seed)  # drawn for frames not settled yet
        self._tail = like.new_empty(0)  # the first samples that were held back
        self._fade = torch.linspace(0, math.pi / 2, _FADE * SAMPLES_PER_FRAME).sin().square().to(like.device)

    @torch.inference_mode()
    def push(self, mel: Tensor, *, final: bool = False) -> Tensor:
        """The samples (n,) that `mel` (1, 80, T) completes; with `final`, all that are left."""
        self._mel = torch.cat((self._mel, mel), dim=2)
        window = self._window = self._window.longer(mel.shape[2])
        ready = window.frames if final else window.ready
        if ready <= window.given:
            return mel.new_empty(0)
        drawn = self._noise.shape[1] // SAMPLES_PER_FRAME
        noise = torch.cat((self._noise, self._noises.take(window.new - drawn)), dim=1)
        waves, source, turns = self._hift.speak(self._mel, self._source, self._before, noise, final=final)
        wave = self._faded(waves[0, window.given * SAMPLES_PER_FRAME :])
        count = (ready - window.given) * SAMPLES_PER_FRAME
        self._tail = wave[count : count + len(self._fade)]
        if not final:
            self._keep(source, turns, noise)
        return wave[:count]

    def _faded(self, wave: Tensor) -> Tensor:
        """The same, out of what the hop before would have gone on with."""
        count = len(self._tail)
        fade = self._fade[:count]
        wave[:count] = wave[:count] * fade + self._tail * (1 - fade)
        return wave

    def _keep(self, source: Tensor, turns: Tensor, noise: Tensor) -> None:
        """What the next hop needs."""
        done, settled = self._window.done, self._window.frames - AHEAD
        self._mel = self._mel[:, :, done:]
        self._source = source[:, :, done * SAMPLES_PER_FRAME : settled * SAMPLES_PER_FRAME]
        self._before = turns[:, -AHEAD - 1 : turns.shape[1] - AHEAD]
        self._noise = noise[:, -AHEAD * SAMPLES_PER_FRAME :]
        self._window = self._window.after()
