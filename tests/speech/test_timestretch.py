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
    return np.concatenate([*parts, *stretch.flush()])


@given(st.integers(1, 5000))
def test_speed_one_changes_no_sample(chunk: int) -> None:
    audio = tone(0.5)
    np.testing.assert_array_equal(stretched(audio, 1.0, chunk), audio)


@settings(deadline=None, max_examples=25)
@given(st.floats(SLOWEST, FASTEST), st.integers(200, 5000))
def test_length_follows_speed_and_pitch_stays(speed: float, chunk: int) -> None:
    result = stretched(tone(3), speed, chunk)
    assert result.size / SAMPLE_RATE == pytest.approx(3 / speed, rel=0.05)
    loudest = np.fft.rfftfreq(result.size, 1 / SAMPLE_RATE)[np.abs(np.fft.rfft(result)).argmax()]
    assert loudest == pytest.approx(300, rel=0.03)
