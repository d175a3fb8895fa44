"""Spectrograms of a recording: the flow's mel at 24 kHz, the speech tokenizer's log mel at 16 kHz."""

import math
from functools import cache

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from cosyserve.cosyvoice.model.config import MELS, SAMPLE_RATE, SAMPLES_PER_FRAME

TOKENIZER_RATE = 16_000
HIGHEST = 8000  # Hz, of CosyVoice2's mel
_WINDOW = 1920  # samples at 24 kHz
_TOKENIZER_MELS, _TOKENIZER_WINDOW, _TOKENIZER_HOP = 128, 400, 160
_SILENCE = 1e-5

# Slaney's mel scale: linear to 1000 Hz, logarithmic above it, 27 steps for a factor of 6.4.
_HZ_PER_MEL, _KNEE_HZ, _LOG_STEP = 200 / 3, 1000.0, math.log(6.4) / 27


def mel(wave: Tensor, highest: float = HIGHEST) -> Tensor:
    """A recording (n,) at 24 kHz to its mel (1, T, 80) up to `highest` Hz, as the flow was trained on it: a frame for
    480 samples."""
    edge = (_WINDOW - SAMPLES_PER_FRAME) // 2
    padded = F.pad(wave[None, None], (edge, edge), mode="reflect")[0]
    window = torch.hann_window(_WINDOW, device=wave.device)
    spectra = torch.stft(padded, _WINDOW, SAMPLES_PER_FRAME, _WINDOW, window, center=False, return_complex=True)
    magnitude = (spectra.abs().square() + 1e-9).sqrt()
    filters = filterbank(SAMPLE_RATE, _WINDOW, MELS, highest).to(wave.device)
    return (filters @ magnitude).clamp(min=_SILENCE).log().transpose(1, 2)


def tokenizer_mel(wave: Tensor) -> Tensor:
    """A recording (n,) at 16 kHz to the log mel (1, 128, n // 160) of Whisper, which the speech tokenizer reads."""
    window = torch.hann_window(_TOKENIZER_WINDOW, device=wave.device)
    spectra = torch.stft(wave[None], _TOKENIZER_WINDOW, _TOKENIZER_HOP, _TOKENIZER_WINDOW, window, return_complex=True)
    power = spectra[:, :, :-1].abs().square()
    filters = filterbank(TOKENIZER_RATE, _TOKENIZER_WINDOW, _TOKENIZER_MELS, TOKENIZER_RATE // 2).to(wave.device)
    loudness = (filters @ power).clamp(min=1e-10).log10()
    return (loudness.maximum(loudness.max() - 8) + 4) / 4


@cache
def filterbank(rate: int, window: int, mels: int, highest: float) -> Tensor:
    """Triangles over the bins of a spectrum, each of area 1 in Hz (Slaney's norm, librosa's default): (mels, bins)."""
    bins = torch.linspace(0, rate / 2, window // 2 + 1, dtype=torch.float64)
    corners = torch.tensor([_hz(_mel(highest) * step / (mels + 1)) for step in range(mels + 2)], dtype=torch.float64)
    widths = corners.diff()
    slopes = corners[:, None] - bins
    rising, falling = -slopes[:-2] / widths[:-1, None], slopes[2:] / widths[1:, None]
    triangles = rising.minimum(falling).clamp(min=0)
    return (triangles * (2 / (corners[2:] - corners[:-2]))[:, None]).float()


def _mel(hz: float) -> float:
    return hz / _HZ_PER_MEL if hz < _KNEE_HZ else _KNEE_HZ / _HZ_PER_MEL + math.log(hz / _KNEE_HZ) / _LOG_STEP


def _hz(mel: float) -> float:
    knee = _KNEE_HZ / _HZ_PER_MEL
    return mel * _HZ_PER_MEL if mel < knee else _KNEE_HZ * math.exp((mel - knee) * _LOG_STEP)
