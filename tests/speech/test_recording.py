"""What may come as a recording of a voice, and what is refused."""

from collections.abc import Callable, Iterator

import numpy as np
import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cosyserve.confined import Bounds, Confined
from cosyserve.errors import CosyError
from cosyserve.speech import recording
from cosyserve.speech.audio import SAMPLE_RATE
from cosyserve.speech.silence import LeadingSilence, trimmed
from tests.hostile import recordings as hostile
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


@pytest.fixture(scope="module")
def narrow() -> Iterator[Confined]:
    """Decodes in much less memory than a picture or an hour of sound takes."""
    each = Confined("cosyserve.speech.decoding:decode", Bounds(memory=200 << 20, cpu_seconds=4, seconds=60, at_once=1))
    yield each
    each.close()


@pytest.mark.parametrize("kind", hostile.KINDS)
def test_no_recording_takes_more_than_it_may(narrow: Confined, kind: Callable[[], list[tuple[str, bytes]]]) -> None:
    for name, data in kind():
        print(name)
        memory = psutil.Process().memory_info()
        if name.startswith("a good voice"):
            assert len(narrow(data)) > 4 * SAMPLE_RATE
        else:
            with pytest.raises(CosyError, match="CS-VOICE-10"):
                narrow(data)
        assert psutil.Process().memory_info().rss - memory.rss < 50 << 20


CLAIMS = {
    "just above what is taken": (hostile.wav(bytes(96_000), 192_001), "CS-VOICE-106"),
    "just below what is taken": (hostile.wav(bytes(96_000), 15_999), "CS-VOICE-104"),
    "nine channels": (hostile.wav(bytes(96_000), 48_000, channels=9), "CS-VOICE-107"),
    "a codec of telephones": (hostile.wav(bytes(96_000), 48_000, form=0x31, align=65), "CS-VOICE-101"),
}


@pytest.mark.parametrize("name", CLAIMS)
def test_what_a_header_claims_has_bounds(name: str) -> None:
    data, code = CLAIMS[name]
    with pytest.raises(CosyError, match=code):
        recording.read(data)


def test_a_recording_that_ends_its_decoder_is_unreadable(monkeypatch: pytest.MonkeyPatch) -> None:
    crashing = Confined("tests.confined_work:obey", Bounds(64 << 20, 60, 60, at_once=1))
    monkeypatch.setattr(recording, "_decode", crashing)
    with pytest.raises(CosyError, match="CS-VOICE-101"):
        recording.read(b"crash")
    crashing.close()


def test_silence_at_the_edges_does_not_count() -> None:
    quiet = np.zeros((2 * SAMPLE_RATE, 1), np.float32)
    pcm = recording.read(encoded(np.concatenate((quiet, tone(2), quiet))))
    assert pcm.size / SAMPLE_RATE == pytest.approx(2.1, abs=0.03)


def pauses(voice: float, pause: float) -> bytes:
    """Two stretches of a voice, and silence between them."""
    quiet = np.zeros((round(pause * SAMPLE_RATE), 1), np.float32)
    return encoded(np.concatenate((tone(voice / 2), quiet, tone(voice / 2))))


def test_what_is_mostly_silence_is_measured_by_its_voice() -> None:
    assert recording.read(pauses(2, 4)).size / SAMPLE_RATE == pytest.approx(6, abs=0.1)
    with pytest.raises(CosyError, match=r"CS-VOICE-103.* 0\.[67] s of voice"):
        recording.read(pauses(0.5, 4))
    with pytest.raises(CosyError, match=r"CS-VOICE-108.* 40\.0 s.* 4\.1 s"):
        recording.read(pauses(4, 36))


CHANNELS = {
    "two that are equal": ((1, 1), 0.4),
    "one of two": ((0, 1), 0.2),
    "two that are opposed": ((1, -1), 0.4),
    "four, of which two cancel the others out": ((0.5, -0.9, 0.5, -0.1), 0.36),
}


@pytest.mark.parametrize("name", CHANNELS)
def test_channels_are_averaged_unless_they_cancel_each_other_out(name: str) -> None:
    gains, peak = CHANNELS[name]
    pcm = recording.read(encoded(tone(2) * np.array(gains, np.float32), subtype="FLOAT"))
    assert np.abs(pcm).max() == pytest.approx(peak, abs=0.01)
    assert pcm.size / SAMPLE_RATE == pytest.approx(2, abs=0.1)


def test_what_is_too_loud_is_turned_down_and_what_is_not_stays() -> None:
    assert np.abs(recording.read(encoded(tone(2) * 2.4))).max() == pytest.approx(0.8, abs=0.01)
    assert np.abs(recording.read(encoded(tone(2)))).max() == pytest.approx(0.4, abs=0.01)


def test_a_recording_is_kept_without_loss() -> None:
    pcm = recording.read(encoded(tone(2)))
    assert np.abs(recording.read(recording.written(pcm)) - pcm).max() < 1e-3


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
