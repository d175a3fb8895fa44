import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cosyserve.speech.audio import SAMPLE_RATE, Pcm
from cosyserve.speech.timestretch import FASTEST, SLOWEST, TimeStretch
from tests.standins import tone


def stretched(audio: Pcm, speed: float, chunk: int) -> Pcm:
    stretch = TimeStretch(speed)
    parts: list[Pcm] = []
    for start in range(0, audio.size, chunk):
        parts += stretch.push(audio[start : start + chunk])
    return np.concatenate([np.empty(0, np.float32), *parts, *stretch.flush()])


@given(st.integers(1, 5000))
def test_speed_one_changes_no_sample(chunk: int) -> None:
    audio = tone(0.5)
    np.testing.assert_array_equal(stretched(audio, 1.0, chunk), audio)


@settings(max_examples=50)
@given(st.floats(SLOWEST, FASTEST), st.integers(0, 200), st.integers(1, 20))
def test_pieces_may_be_of_any_size(speed: float, samples: int, chunk: int) -> None:
    """A synthesizer's last chunk is what is left over, which can be a single sample."""
    assert stretched(tone(0.1)[:samples], speed, chunk).size == math.ceil(samples / speed)


@settings(max_examples=25)
@given(st.floats(SLOWEST, FASTEST), st.integers(200, 5000))
def test_length_follows_speed_and_pitch_stays(speed: float, chunk: int) -> None:
    result = stretched(tone(3), speed, chunk)
    assert result.size == math.ceil(3 * SAMPLE_RATE / speed)
    loudest = np.fft.rfftfreq(result.size, 1 / SAMPLE_RATE)[np.abs(np.fft.rfft(result)).argmax()]
    assert loudest == pytest.approx(300, rel=0.03)


@pytest.mark.parametrize("speed", [SLOWEST, 0.7])
def test_the_end_is_heard(speed: float) -> None:
    """The last 20 ms, of which atempo alone keeps up to three quarters for itself."""
    end = tone(0.02)
    result = stretched(np.concatenate([np.zeros(SAMPLE_RATE // 2, np.float32), end]), speed, 4096)
    assert np.square(result).sum() * speed == pytest.approx(np.square(end).sum(), rel=0.1)
