"""What may come as a recording of a voice, and what is refused."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cosyserve.errors import CosyError
from cosyserve.speech import recording
from cosyserve.speech.audio import SAMPLE_RATE
from cosyserve.speech.silence import LeadingSilence, trimmed
from tests.speech.recordings import REFUSED, TAKEN, encoded, tone


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_a_voice_is_refused_with_its_reason(name: str) -> None:
    data, code = REFUSED[name]
    with pytest.raises(CosyError) as refused:
        recording.read(data)
    assert refused.value.fault.id == code


@pytest.mark.parametrize("name", TAKEN)
def test_common_files_become_mono_at_the_models_rate(name: str) -> None:
    pcm = recording.read(TAKEN[name])
    assert pcm.dtype == np.float32
    assert pcm.ndim == 1
    assert 1.2 < pcm.size / SAMPLE_RATE < 3.1
    spectrum = np.abs(np.fft.rfft(pcm))
    assert spectrum.argmax() * SAMPLE_RATE / pcm.size == pytest.approx(220, abs=2)


def test_silence_at_the_edges_does_not_count() -> None:
    quiet = np.zeros((2 * SAMPLE_RATE, 1), np.float32)
    pcm = recording.read(encoded(np.concatenate((quiet, tone(2), quiet))))
    assert pcm.size / SAMPLE_RATE == pytest.approx(2.1, abs=0.03)


def test_what_is_too_loud_is_turned_down_and_what_is_not_stays() -> None:
    assert np.abs(recording.read(encoded(tone(2) * 2.4))).max() == pytest.approx(0.8, abs=0.01)
    assert np.abs(recording.read(encoded(tone(2)))).max() == pytest.approx(0.4, abs=0.01)


def test_a_recording_is_kept_without_loss() -> None:
    pcm = recording.read(encoded(tone(2)))
    assert np.abs(recording.read(recording.written(pcm)) - pcm).max() < 1e-3


@settings(deadline=None)
@given(data=st.binary(max_size=400), cut=st.integers(0, 400))
def test_no_bytes_make_it_fail_in_another_way(data: bytes, cut: int) -> None:
    for attempt in (data, encoded(tone(0.01))[:cut] + data):
        with pytest.raises(CosyError, match="CS-VOICE-10"):
            recording.read(attempt)


@given(
    before=st.integers(0, SAMPLE_RATE),
    pieces=st.lists(st.integers(1, 4000), min_size=1, max_size=40),
)
def test_a_stream_begins_shortly_before_its_first_sound(before: int, pieces: list[int]) -> None:
    whole = np.concatenate((np.zeros(before, np.float32), tone(1)[:, 0]))
    silence, parts, at = LeadingSilence(), [], 0
    for piece in [*pieces, whole.size]:
        parts.append(silence.push(whole[at : at + piece]))
        at += piece
    heard = np.concatenate(parts)
    assert np.array_equal(heard, whole[whole.size - heard.size :])  # nothing of the voice is lost
    assert heard.size - SAMPLE_RATE <= 0.07 * SAMPLE_RATE


def test_nothing_is_heard_in_silence() -> None:
    assert trimmed(np.zeros(5000, np.float32)).size == 0
    assert trimmed(np.zeros(0, np.float32)).size == 0
    assert LeadingSilence().push(np.zeros(5000, np.float32)).size == 0
