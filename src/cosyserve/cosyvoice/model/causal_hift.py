"""CosyVoice3's vocoder: HiFT whose convolutions look back only, but for the first of the mel and of the pitch.

Mel (B, 80, T) at 50 frames a second to a waveform at 24 kHz. A sample depends on the mel up to four frames after its
own and eight samples more, so with a `Past` it is made once, as soon as those are there: see `causal_stream`.
"""

import math
from collections.abc import Callable, Iterator
from functools import partial
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812
from torch.nn.utils.parametrizations import weight_norm

from cosyserve.cosyvoice.model.causal_stream import HELD, CausalRows, CausalStream, windows
from cosyserve.cosyvoice.model.config import MELS, SAMPLES_PER_FRAME, DitFlowConfig, HiftConfig
from cosyserve.cosyvoice.model.fixed_noise import FixedNoise
from cosyserve.cosyvoice.model.hift import CEILING, SLOPE, ResidualBlock, Snaked, inverted, snaked, voiced_spectra
from cosyserve.cosyvoice.model.past import Past
from cosyserve.cosyvoice.model.source import HeldSource, product

PITCH_AHEAD, MEL_AHEAD = 3, HELD  # frames
SOURCE_AHEAD = 1  # frames of the source beyond those that are heard, as a spectrum reaches into them


class LeftConv1d(nn.Conv1d):
    """A convolution that looks back only."""

    def __init__(self, channels: int, out_channels: int, kernel: int, *, dilation: int = 1) -> None:
        super().__init__(channels, out_channels, kernel, dilation=dilation)
        self.behind = (kernel - 1) * dilation

    def forward(self, x: Tensor, past: Past) -> Tensor:  # type: ignore[override]
        return super().forward(past.before(self, x, self.behind))


def _left(channels: int, kernel: int, dilation: int) -> nn.Module:
    return LeftConv1d(channels, channels, kernel, dilation=dilation)


class Upsample(LeftConv1d):
    """Each value `rate` times, then a convolution."""

    def __init__(self, channels: int, out_channels: int, kernel: int, rate: int) -> None:
        super().__init__(channels, out_channels, kernel)
        self._rate = rate

    def forward(self, x: Tensor, past: Past) -> Tensor:  # type: ignore[override]
        return super().forward(x.repeat_interleave(self._rate, dim=2), past)


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
        return self.go_on(F.pad(mel, (0, PITCH_AHEAD if final else 0)), Past())

    def go_on(self, mel: Tensor, past: Past, again: int = 0) -> Tensor:
        """The pitch (B, T) of the next frames of a stream, (B, 80, T + 3). The last `again` come again."""
        layers, x = list(self.condnet), mel.double()
        for convolution, unit in zip(layers[::2], layers[1::2], strict=True):
            if isinstance(convolution, LeftConv1d):
                known, others = x.split((x.shape[2] - again, again), dim=2)
                x = torch.cat((past.before(convolution, known, convolution.behind), others), dim=2)
            x = unit(product(cast("nn.Conv1d", convolution), x))
        return self.classifier(x.transpose(1, 2)).squeeze(2).abs().to(mel.dtype)


class OneLater(nn.Module):
    """Each value one place later; the very first is as if reflected."""

    def forward(self, x: Tensor, fresh: Tensor, past: Past) -> Tensor:
        """`x` (B, C, T); `fresh` (B, 1), whether a stream begins with it."""
        later = past.before(self, x, 1)
        first = torch.where(fresh[..., None], later[:, :, 2:3], later[:, :, :1])
        return torch.cat((first, later[:, :, 1:-1]), dim=2)


class Overlap(nn.Module):
    """The inverse of spectra by overlap and add, half a window late."""

    def __init__(self, fft: int, hop: int) -> None:
        super().__init__()
        self.behind, self._hop = fft // hop - 1, hop

    def forward(self, spectra: Tensor, window: Tensor, there: Tensor, past: Past) -> Tensor:
        """`spectra` (B, bins, T) to (B, hop · T). `there` (B, 1, behind + T) says which of these and of those before
        them there are."""
        fft = len(window)
        frames = past.before(self, torch.fft.irfft(spectra, fft, dim=1) * window[:, None], self.behind)
        squares = window.square()[:, None] * there
        size = (1, (frames.shape[2] - 1) * self._hop + fft)
        summed, weight = (F.fold(each, size, (1, fft), stride=(1, self._hop)) for each in (frames * there, squares))
        wave = summed / weight.clamp(min=torch.finfo(weight.dtype).tiny)
        begin = fft - self._hop
        return wave[:, 0, 0, begin : begin + self._hop * spectra.shape[2]]


class CausalHift(nn.Module):
    def __init__(self, config: HiftConfig, speaker: int = DitFlowConfig.speaker) -> None:
        """`speaker` is the size of the speaker's embedding, on which the fixed noise hangs."""
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
        self._strides = [math.prod(config.up_rates[level + 1 :]) for level in range(len(config.up_rates))]
        self.source_downs = nn.ModuleList(
            nn.Conv1d(config.fft + 2, width, 2 * stride if stride > 1 else 1, stride)
            for width, stride in zip(widths[1:], self._strides, strict=True)
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
        self.one_later, self.overlap = OneLater(), Overlap(config.fft, config.hop)
        self.register_buffer("window", torch.hann_window(config.fft, device="cpu"), persistent=False)
        self.window: Tensor
        self.noise = FixedNoise(config, speaker)
        self.snake: Snaked = snaked
        self.exact = True
        """Whether a GPU multiplies in float32, as `Hift.exact`."""
        self.source_behind = config.hop * (max(self._strides) - 1) + config.fft // 2
        """Samples of the source before a hop that its spectra reach into."""

    def source(self, f0: Tensor, noise: Tensor) -> Tensor:
        """The source (B, 1, 480 T) of a pitch (B, T); `noise` (1, 480 T or more, H) lies in [0, 1)."""
        return self.m_source(f0, self.m_source.turns(f0), noise[:, : SAMPLES_PER_FRAME * f0.shape[1]])

    def speak(self, mel: Tensor, noise: Tensor, *, final: bool = True) -> Tensor:
        """The waveform (B, samples) of `mel` from its beginning on: 480 T samples, or where more comes 480 (T − 8), as
        upstream has it."""
        f0 = self.f0_predictor(mel, final=final)
        return self.decode(mel[:, :, : f0.shape[1]], self.source(f0, noise), final=final)

    def decode(self, mel: Tensor, source: Tensor, *, final: bool = True) -> Tensor:
        """The waveform of `mel` (B, 80, T) over `source` (B, 1, 480 T); without the last 5 frames where more comes."""
        fft = len(self.window)
        spectra = torch.stft(source.squeeze(1), fft, self._hop, fft, self.window, return_complex=True)
        excitation = torch.cat((spectra.real, spectra.imag), dim=1)
        if not final:
            excitation = excitation[:, :, : -MEL_AHEAD * self._frame]
        excited = [
            down(F.pad(excitation, (stride - 1, 0)))
            for down, stride in zip(self.source_downs, self._strides, strict=True)
        ]
        x = self.conv_pre(F.pad(mel, (0, MEL_AHEAD if final else 0)))
        spectra = self._filtered(x, excited, lambda x: F.pad(x, (1, 0), mode="reflect"), Past())
        wave = inverted(spectra, self.window, self._hop)
        return (wave if final else wave[:, :-SAMPLES_PER_FRAME]).clamp(-CEILING, CEILING)

    def speak_on(
        self, mel: Tensor, noise: Tensor, behind: Tensor, before: Tensor, spans: Tensor, past: Past
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The next W frames of each stream, eight samples late: the waveform (B, 480 W), and of the frames that `spans`
        has, what is `behind` and `before` the ones after them.

        `mel` is (B, 80, W + 4). `noise` (B, 480 (W + 1), H) is that of its frames. `behind` (B, 1, n) is the source
        before them, `before` (B, 1, H) the turns at its end. `spans` (B, 3) are the fields of `Span`. What comes after
        a stream's end means nothing.
        """
        with torch.backends.cudnn.flags(enabled=True, deterministic=True, allow_tf32=not self.exact):
            return self._spoken_on(mel, noise, behind, before, spans, past)

    def _spoken_on(
        self, mel: Tensor, noise: Tensor, behind: Tensor, before: Tensor, spans: Tensor, past: Past
    ) -> tuple[Tensor, Tensor, Tensor]:
        begun, count, end = spans.unsqueeze(2).unbind(1)
        f0 = self.f0_predictor.go_on(mel, past, SOURCE_AHEAD)
        turns = self.m_source.turns(f0, before)
        source = torch.cat((behind, self.m_source(f0, turns, noise)), dim=2)
        excited = self._excited(source, begun == 0, end * SAMPLES_PER_FRAME)
        later = partial(self.one_later, fresh=begun == 0, past=past)
        spectra = self._filtered(self.conv_pre(mel), excited, later, past)
        number = torch.arange(-self.overlap.behind, spectra.shape[2], device=mel.device)
        there = ((number >= 0) | (begun > 0)) & (number <= end * self._frame)
        wave = self.overlap(spectra, self.window, there[:, None].to(mel.dtype), past)
        samples = torch.arange(self.source_behind, device=mel.device) + count * SAMPLES_PER_FRAME
        last = (count - 1)[..., None].expand(-1, -1, turns.shape[2])
        return wave.clamp(-CEILING, CEILING), source.gather(2, samples[:, None]), turns.gather(1, last)

    def _excited(self, source: Tensor, fresh: Tensor, end: Tensor) -> list[Tensor]:
        """What each level takes of the `source` (B, 1, n + 480 (W + 1)), which is as if reflected where a stream begins
        or ends: `fresh` and `end` (B, 1)."""
        fft, place = len(self.window), torch.arange(source.shape[2], device=source.device) - self.source_behind
        place = torch.where(fresh, place.abs(), place)
        place = torch.where(place < end, place, 2 * end - 2 - place) + self.source_behind
        source = source.gather(2, place.clamp(0, source.shape[2] - 1)[:, None])
        until = source.shape[2] - SAMPLES_PER_FRAME * SOURCE_AHEAD + fft // 2
        spectra = torch.stft(source[:, 0, :until], fft, self._hop, fft, self.window, center=False, return_complex=True)
        first = max(self._strides) - 1  # spectra before the first frame
        number = torch.arange(spectra.shape[2], device=source.device) - first
        there = ((number >= 0) | ~fresh)[:, None]
        excitation = torch.cat((spectra.real, spectra.imag), dim=1) * there
        return [
            down(excitation[:, :, first - (stride - 1) : -1 if stride == 1 else None])
            for down, stride in zip(self.source_downs, self._strides, strict=True)
        ]

    def _filtered(self, x: Tensor, excited: list[Tensor], later: Callable[[Tensor], Tensor], past: Past) -> Tensor:
        """The spectra of the waveform, of what the first convolution makes of the mel and each level of the source."""

        def convolve(layer: nn.Module, x: Tensor) -> Tensor:
            return cast("Tensor", layer(x, past))

        for level, up in enumerate(self.ups):
            x = up(F.leaky_relu(x, SLOPE), past)
            if level == len(self.ups) - 1:
                x = later(x)
            x = x + self.source_resblocks[level](excited[level], snake=self.snake, convolve=convolve)
            blocks = self.resblocks[level * self._kernels : (level + 1) * self._kernels]
            x = torch.stack([block(x, snake=self.snake, convolve=convolve) for block in blocks]).mean(0)
        return voiced_spectra(self.conv_post(F.leaky_relu(x), past))

    def tails(self) -> Iterator[tuple[nn.Module, int, int]]:
        """Each layer that looks back, its channels and how far: in float32, but for the pitch's."""
        for layer in self.modules():
            if isinstance(layer, LeftConv1d):
                yield layer, layer.in_channels, layer.behind
        yield self.one_later, self.conv_post.in_channels, 1
        yield self.overlap, len(self.window), self.overlap.behind

    def stream(
        self, seed: int, *, whole: bool = False, speak: Callable[..., list[Tensor]] | None = None
    ) -> CausalStream:
        """An utterance that comes in hops. Its noise hangs on no seed, and no hop is the less exact for being early."""
        return CausalStream(self, speak)

    def rows(self, count: int, frames: int) -> CausalRows:
        """Room for so many hops side by side."""
        self.noise.frames(0, frames, self.window.device)  # it is drawn before anybody waits for it
        return CausalRows.of(self, count, frames)

    def windows(self, first: int, later: int) -> tuple[int, ...]:
        """Frames of rows for hops of those sizes."""
        return windows(first, later)
