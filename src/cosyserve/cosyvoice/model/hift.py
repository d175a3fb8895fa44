"""The vocoder HiFT: a harmonic source made from the pitch, filtered by the mel, inverted from short spectra.

Mel (B, 80, T) at 50 frames a second to a waveform of 480 T samples at 24 kHz.
"""

import math
from collections.abc import Callable
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812
from torch.nn.utils.parametrizations import weight_norm

from cosyserve.cosyvoice.model.config import MELS, SAMPLES_PER_FRAME, HiftConfig
from cosyserve.cosyvoice.model.hift_stream import FADE, FIRST_HELD, HELD, HiftStream, Rows, windows
from cosyserve.cosyvoice.model.source import AHEAD, PITCH_AHEAD, F0Predictor, Noise, Source, within

SLOPE = 0.1  # of the leaky units between the upsamplings
CEILING = 0.99  # samples are clipped there
LOUDEST = 100.0  # magnitude of one bin


class Snake(nn.Module):
    """x + sin²(αx)/α, per channel."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.alpha = nn.Parameter(torch.ones(channels))
        self.bias: Tensor | None = None
        """(C,) of the convolution before it, if that does not add it itself."""


Snaked = Callable[[Snake, Tensor, Tensor | None, Tensor | None], tuple[Tensor, Tensor]]


def snaked(snake: Snake, x: Tensor, inside: Tensor | None, new: Tensor | None) -> tuple[Tensor, Tensor]:
    """`x` (B, C, T) with `new` added to it, and Snake of the sum; both are zero outside `inside` (B, 1, T)."""
    if snake.bias is not None:
        x, new = (x + snake.bias[:, None], None) if new is None else (x, new + snake.bias[:, None])
    x = added(x, new, inside)
    alpha = snake.alpha[:, None]
    return x, within(x + (alpha * x).sin().square() / (alpha + 1e-9), inside)


def added(x: Tensor, new: Tensor | None, inside: Tensor | None) -> Tensor:
    """`x`, which is zero outside `inside`, and what of `new` lies inside."""
    if new is None:
        return x
    return x + new if inside is None else torch.addcmul(x, new, inside)


Convolve = Callable[[nn.Module, Tensor], Tensor]


def convolved(layer: nn.Module, x: Tensor) -> Tensor:
    return cast("Tensor", layer(x))


def centred(channels: int, kernel: int, dilation: int) -> nn.Module:
    """A convolution that looks back and ahead alike."""
    return nn.Conv1d(channels, channels, kernel, dilation=dilation, padding=dilation * (kernel - 1) // 2)


class ResidualBlock(nn.Module):
    def __init__(
        self,
        channels: int,
        kernel: int,
        dilations: tuple[int, ...],
        made: Callable[[int, int, int], nn.Module] = centred,
    ) -> None:
        super().__init__()

        def convolution(dilation: int) -> nn.Module:
            return weight_norm(made(channels, kernel, dilation))

        self.convs1 = nn.ModuleList(convolution(dilation) for dilation in dilations)
        self.convs2 = nn.ModuleList(convolution(1) for _ in dilations)
        self.activations1 = nn.ModuleList(Snake(channels) for _ in dilations)
        self.activations2 = nn.ModuleList(Snake(channels) for _ in dilations)

    def forward(
        self, x: Tensor, inside: Tensor | None = None, snake: Snaked = snaked, convolve: Convolve = convolved
    ) -> Tensor:
        """`x` (B, C, T) has to be zero outside `inside` (B, 1, T), as the result is."""
        new: Tensor | None = None
        for conv1, conv2, snake1, snake2 in zip(
            self.convs1, self.convs2, self.activations1, self.activations2, strict=True
        ):
            x, activated = snake(cast("Snake", snake1), x, inside, new)
            new = convolve(conv2, snake(cast("Snake", snake2), convolve(conv1, activated), inside, None)[1])
        return added(x, new, inside)

    def leave_biases(self) -> None:
        """To the activations behind the convolutions, for a `snake` that adds them."""
        convs = [*self.convs1, *list(self.convs2)[:-1]]
        for conv, snake in zip(convs, [*self.activations2, *list(self.activations1)[1:]], strict=True):
            if isinstance(conv, nn.Conv1d) and conv.bias is not None:
                snake.bias, conv.bias = conv.bias.detach(), None


Filtered = Callable[[Tensor, Tensor, Tensor | None], Tensor]


class Hift(nn.Module):
    def __init__(self, config: HiftConfig) -> None:
        super().__init__()
        self._fft, self.hop, self._kernels = config.fft, config.hop, len(config.kernels)
        self._steps = config.up_rates
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
        self.fused: Filtered | None = None
        """What takes the place of `filtered`, if something does."""
        self.exact = True
        """Whether a GPU multiplies in float32. Else its convolutions take TF32, as upstream's do: three times as fast,
        with ten bits of the mantissa. The pitch and what it turns are float64 and float32 all the same."""

    def stream(self, seed: int, *, whole: bool = False, speak: Callable[..., list[Tensor]] | None = None) -> HiftStream:
        """An utterance that comes in hops. Of one that is `whole` the first holds back as much as the others."""
        return HiftStream(self, seed, HELD if whole else FIRST_HELD, speak)

    def rows(self, count: int, frames: int) -> Rows:
        """Room for so many hops side by side."""
        return Rows.of(self, count, frames)

    def windows(self, first: int, later: int) -> tuple[int, ...]:
        """Frames of rows for hops of those sizes."""
        return windows(first, later)

    def noise(self, seed: int) -> Noise:
        """What is random in the source of an utterance."""
        return Noise(seed, self.m_source.waves, self.window.device)

    def source(self, mel: Tensor, noise: Noise) -> Tensor:
        """The source (B, 1, 480 T) of the whole `mel` of an utterance."""
        f0 = self.f0_predictor(mel)
        return self.m_source(f0, self.m_source.turns(f0), noise.take(mel.shape[2]))

    def speak(
        self, mel: Tensor, begun: Tensor, before: Tensor, noise: Tensor, tail: Tensor, spans: Tensor, *, padded: bool
    ) -> tuple[Tensor, Tensor, Tensor]:
        """What a hop of each stream sounds like, laid out in windows of W frames as in `hift_stream.Rows`: the waveform
        (B, 480 W), the source (B, 1, 480 (W + 6)) and the turns of the harmonics (B, W + 6, H).

        `mel` is (B, 80, W + 11). `begun` (B, 1, 480 (W + 6)) is what there is of the source already, and `before`
        (B, 1, H) the turns at its end. `noise` is (B, 480 (W + 6), H). `tail` (B, 960) is what the hop before would
        have gone on with. `spans` (B, 5) are the fields of `Span`. Where `padded`, hops may begin inside their window.
        """
        begin, settled, given, end, seen = spans.unsqueeze(2).unbind(1)
        frame = torch.arange(mel.shape[2], device=mel.device)
        inside = ((frame >= begin) & (frame < seen))[:, None]
        frame = frame[:-PITCH_AHEAD]
        new = (frame >= settled) & (frame < end)
        f0 = self.f0_predictor(mel, inside)[:, :-PITCH_AHEAD] * new
        turns = self.m_source.turns(f0, before)
        fresh = settled == begin
        # The first half frame of an utterance stands still.
        first = turns.gather(1, settled.clamp(max=len(frame) - 1)[..., None].expand(-1, -1, turns.shape[2]))
        before = torch.where(fresh[..., None], first, before)
        turns = torch.where((frame >= settled)[..., None], turns, before)
        made = self.m_source(f0, turns, noise, before)
        source = torch.where(new.repeat_interleave(SAMPLES_PER_FRAME, dim=1)[:, None], made, begun)
        heard = source[:, :, : -AHEAD * SAMPLES_PER_FRAME]
        wave = self.decode(mel[:, :, : -AHEAD - PITCH_AHEAD], heard, begin if padded else None)
        place = torch.arange(wave.shape[1], device=mel.device) - given * SAMPLES_PER_FRAME
        place = place.clamp(0, FADE - 1)
        fade = (place * (math.pi / 2 / (FADE - 1))).sin().square()
        return torch.where(fresh, wave, torch.lerp(tail.gather(1, place), wave, fade)), source, turns

    def decode(self, mel: Tensor, source: Tensor, begin: Tensor | None = None) -> Tensor:
        """The waveform (B, 480 T) of `mel` over `source`. With `begin` (B, 1) it is that of the frames from there on,
        and of no use before."""
        with torch.backends.cudnn.flags(enabled=True, deterministic=True, allow_tf32=not self.exact):
            return self._decoded(mel, source, begin)

    def _decoded(self, mel: Tensor, source: Tensor, begin: Tensor | None) -> Tensor:
        if begin is not None:
            source = source.gather(2, _mirrored(source.shape[2], begin * SAMPLES_PER_FRAME)[:, None])
        mel = within(mel, _from(begin, 1, mel.shape[2]))
        return (self.fused or self.filtered)(mel, source, begin).clamp(-CEILING, CEILING)

    def filtered(self, mel: Tensor, source: Tensor, begin: Tensor | None) -> Tensor:
        """The waveform (B, 480 T), not clipped, of `mel` (B, 80, T), zero before `begin`, and a source that is mirrored
        there."""
        spectra = torch.stft(source.squeeze(1), self._fft, self.hop, self._fft, self.window, return_complex=True)
        excitation = torch.cat((spectra.real, spectra.imag), dim=1)
        sounding = _from(begin, SAMPLES_PER_FRAME // self.hop, excitation.shape[2])
        x = self._spectra(mel, within(excitation, sounding), begin)
        return inverted(voiced_spectra(x), self.window, self.hop, sounding)

    def _spectra(self, mel: Tensor, excitation: Tensor, begin: Tensor | None) -> Tensor:
        """What the last convolution makes, (B, 18, 120 T + 1)."""
        inside = _from(begin, 1, mel.shape[2])
        x, rate = within(self.conv_pre(mel), inside), 1
        for level, (up, step) in enumerate(zip(self.ups, self._steps, strict=True)):
            x, rate = up(F.leaky_relu(x, SLOPE)), rate * step
            if level == len(self.ups) - 1:
                x = self._one_longer(x, begin, rate)
            inside = _from(begin, rate, x.shape[2])
            excited = within(self.source_downs[level](excitation), inside)
            x = within(x, inside) + self.source_resblocks[level](excited, inside)
            blocks = self.resblocks[level * self._kernels : (level + 1) * self._kernels]
            x = torch.stack([block(x, inside) for block in blocks]).mean(0)
        return self.conv_post(F.leaky_relu(x))

    @staticmethod
    def _one_longer(x: Tensor, begin: Tensor | None, rate: int) -> Tensor:
        """`x` behind its second value."""
        if begin is None:
            return F.pad(x, (1, 0), mode="reflect")
        positions = _mirrored(x.shape[2] + 1, begin * rate + 1)
        return x.gather(2, (positions - 1)[:, None].expand(-1, x.shape[1], -1))


def inverted(spectra: Tensor, window: Tensor, hop: int, sounding: Tensor | None = None) -> Tensor:
    """The inverse of the spectra (B, bins, T) by overlap and add. torch.istft looks at its window first, for which
    the host would wait for a GPU."""
    fft = len(window)
    return overlapped(within(torch.fft.irfft(spectra, fft, dim=1) * window[:, None], sounding), window, hop, sounding)


def overlapped(frames: Tensor, window: Tensor, hop: int, sounding: Tensor | None = None) -> Tensor:
    """The sum (B, samples) of frames (B, fft, T), each of which the window has been laid over twice."""
    fft, count = len(window), frames.shape[2]
    size = (1, (count - 1) * hop + fft)
    squares = within(window.square()[None, :, None].expand(-1, -1, count), sounding)
    summed, weight = (F.fold(each, size, (1, fft), stride=(1, hop)) for each in (frames, squares))
    return (summed / weight)[:, 0, 0, fft // 2 : -(fft // 2)]


def voiced_spectra(x: Tensor) -> Tensor:
    """The last convolution's output (B, 2 · bins, T) as complex spectra: magnitudes, then phases."""
    magnitude, phase = x.chunk(2, dim=1)
    return torch.polar(magnitude.exp().clip(max=LOUDEST), phase.sin())


def _from(begin: Tensor | None, rate: int, count: int) -> Tensor | None:
    """1 for values (B, 1, count), `rate` a frame, of the frame `begin` (B, 1) or a later one, else 0; None for all."""
    return None if begin is None else (torch.arange(count, device=begin.device) >= begin * rate)[:, None].float()


def _mirrored(count: int, begin: Tensor) -> Tensor:
    """The positions (B, count) from which a signal that begins at `begin` (B, 1) is as if reflected there."""
    return (begin + (torch.arange(count, device=begin.device) - begin).abs()).clamp(max=count - 1)
