import io
import wave

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cosyserve.speech.audio import SAMPLE_RATE
from cosyserve.speech.encoders import FORMATS, Format
from tests.signals import decoded_by_ffmpeg
from tests.standins import tone

formats = st.sampled_from(list(FORMATS.values()))


def encoded(fmt: Format, samples: int, chunk: int) -> list[bytes]:
    audio = np.resize(tone(1), samples).astype(np.float32)
    encoder = fmt.encoder()
    return [*(encoder.encode(audio[at : at + chunk]) for at in range(0, samples, chunk)), encoder.finish()]


@settings(max_examples=60)
@given(formats, st.integers(SAMPLE_RATE // 10, 3 * SAMPLE_RATE), st.integers(100, 20_000))
def test_decodes_to_the_same_length_within_a_frame(fmt: Format, samples: int, chunk: int) -> None:
    data = b"".join(encoded(fmt, samples, chunk))
    decoded = len(data) // 2 if fmt.name == "pcm" else decoded_by_ffmpeg(data).size
    extra = decoded - fmt.delay - samples * fmt.rate / SAMPLE_RATE
    assert 0 <= extra < fmt.frame


@pytest.mark.parametrize("fmt", FORMATS.values(), ids=FORMATS)
def test_bytes_come_while_audio_comes(fmt: Format) -> None:
    """Fed 40 ms at a time, no encoder holds back more than 120 ms, and none waits for the end."""
    pieces = encoded(fmt, 2 * SAMPLE_RATE, 960)
    silent = 0
    for piece in pieces[:-1]:
        silent = 0 if piece else silent + 1
        assert silent < 3
    assert len(pieces[-1]) < 0.1 * sum(map(len, pieces))


def test_wav_header_says_24_khz_mono_16_bit() -> None:
    data = b"".join(encoded(FORMATS["wav"], SAMPLE_RATE, 4800))
    with wave.open(io.BytesIO(data)) as file:
        assert (file.getframerate(), file.getnchannels(), file.getsampwidth()) == (24_000, 1, 2)


@given(st.lists(st.floats(-10, 10, width=32), min_size=1, max_size=50))
def test_samples_out_of_range_are_clipped_not_wrapped(values: list[float]) -> None:
    audio = np.array(values, dtype=np.float32)
    samples = np.frombuffer(FORMATS["pcm"].encoder().encode(audio), dtype="<i2") / 32767
    np.testing.assert_allclose(samples, np.clip(audio, -1, 1), atol=1 / 32767)
