"""The two mels against librosa's filters (figures of 0.11) and spectra worked out by numpy."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from cosyserve.cosyvoice.frontend.features import filterbank, mel, tokenizer_mel

# rate, window, mels, highest: sum, largest, sum of squares; the sum, place and size of the peak of rows 10 and 70
LIBROSA = {
    (24_000, 1920, 80, 8000): (6.399891, 0.0266654, 0.0690108, (0.0799961, 33, 0.0247848), (0.0800159, 436, 0.0047516)),
    (16_000, 400, 128, 8000): (3.190986, 0.0416818, 0.0552534, (0.0123740, 6, 0.0112892), (0.0244019, 49, 0.0140754)),
}


@pytest.mark.parametrize("shape", LIBROSA)
def test_the_filters_are_librosa_s(shape: tuple[int, int, int, int]) -> None:
    total, largest, squares, tenth, seventieth = LIBROSA[shape]
    filters = filterbank(*shape)
    assert filters.shape == (shape[2], shape[1] // 2 + 1)
    assert float(filters.sum()) == pytest.approx(total, rel=1e-5)
    assert float(filters.max()) == pytest.approx(largest, rel=1e-5)
    assert float(filters.square().sum()) == pytest.approx(squares, rel=1e-5)
    for row, (area, place, peak) in ((10, tenth), (70, seventieth)):
        assert float(filters[row].sum()) == pytest.approx(area, rel=1e-4)
        assert int(filters[row].argmax()) == place
        assert float(filters[row].max()) == pytest.approx(peak, rel=1e-4)


def spectrum(frame: NDArray[np.float64], window: int) -> NDArray[np.float64]:
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(window) / window)
    magnitudes: NDArray[np.float64] = np.abs(np.fft.rfft(frame * hann))
    return magnitudes


@settings(max_examples=10)
@given(frames=st.integers(6, 40), seed=st.integers(0, 1000))
def test_the_mel_of_a_frame_in_the_middle(frames: int, seed: int) -> None:
    wave = np.random.default_rng(seed).standard_normal(frames * 480) * 0.1
    ours = mel(torch.from_numpy(wave).float())
    assert ours.shape == (1, frames, 80)
    at = frames // 2
    middle = wave[at * 480 - 720 : at * 480 + 1200]
    magnitude = np.sqrt(spectrum(middle, 1920) ** 2 + 1e-9)
    expected = np.log(np.maximum(filterbank(24_000, 1920, 80, 8000).numpy() @ magnitude, 1e-5))
    np.testing.assert_allclose(ours[0, at], expected, atol=1e-3)


@settings(max_examples=10)
@given(frames=st.integers(6, 60), seed=st.integers(0, 1000))
def test_the_tokenizer_s_mel_of_a_frame_in_the_middle(frames: int, seed: int) -> None:
    wave = np.random.default_rng(seed).standard_normal(frames * 160) * 0.1
    ours = tokenizer_mel(torch.from_numpy(wave).float())
    assert ours.shape == (1, 128, frames)
    at = frames // 2
    middle = wave[at * 160 - 200 : at * 160 + 200]
    power = filterbank(16_000, 400, 128, 8000).numpy() @ spectrum(middle, 400) ** 2
    expected = (np.log10(np.maximum(power, 1e-10)) + 4) / 4
    np.testing.assert_allclose(ours[0, :, at], np.maximum(expected, float(ours.min())), atol=1e-3)


def test_silence_has_a_floor() -> None:
    assert torch.allclose(mel(torch.zeros(4800)), torch.tensor(1e-5).log(), atol=0.5)
    assert torch.isfinite(tokenizer_mel(torch.zeros(1600))).all()
