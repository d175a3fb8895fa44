"""Speed and format together: what a stream says of itself, and what a whole does."""

import io

import numpy as np
import pytest
import soundfile
from hypothesis import example, given, settings
from hypothesis import strategies as st

from cosyserve.speech.audio import SAMPLE_RATE
from cosyserve.speech.encoders import FORMATS, Format
from cosyserve.speech.output import SILENCE_SECONDS, Output
from cosyserve.speech.timestretch import FASTEST, SLOWEST
from tests.signals import decoded_by_ffmpeg
from tests.standins import tone

# Nothing, or as much as a word takes: decoders do not recognise a file of a few samples.
LENGTHS = st.just(0) | st.integers(SAMPLE_RATE // 5, 2 * SAMPLE_RATE)
formats = st.sampled_from(list(FORMATS.values()))


def spoken(output: Output, samples: int, chunk: int) -> bytes:
    audio = np.resize(tone(1), samples).astype(np.float32)
    pieces = [output.push(audio[at : at + chunk]) for at in range(0, samples, chunk)]
    return b"".join([*pieces, output.finish()])


@settings(max_examples=30)
@given(formats, st.floats(SLOWEST, FASTEST), st.integers(SAMPLE_RATE // 2, 2 * SAMPLE_RATE), st.integers(100, 20_000))
def test_seconds_are_what_has_gone_out(fmt: Format, speed: float, samples: int, chunk: int) -> None:
    output = Output(fmt, speed)
    data = spoken(output, samples, chunk)
    decoded = len(data) // 2 if fmt.name == "pcm" else decoded_by_ffmpeg(data).size
    assert 0 <= decoded - fmt.delay - round(output.seconds * fmt.rate) < fmt.frame
    assert output.seconds == pytest.approx(samples / SAMPLE_RATE / speed, rel=0.1, abs=0.05)


@settings(max_examples=30)
@given(formats, st.sampled_from([0.5, 1.0, 1.7]), LENGTHS, st.integers(100, 20_000))
@example(FORMATS["mp3"], 1.0, 34 * 576 + 1, 576)
def test_a_file_tells_its_true_length(fmt: Format, speed: float, samples: int, chunk: int) -> None:
    file = io.BytesIO()
    output = Output(fmt, speed, file)
    assert spoken(output, samples, chunk) == b""
    expected = round(output.seconds * SAMPLE_RATE)
    if fmt.name == "pcm":
        assert len(file.getvalue()) == 2 * expected
    elif fmt.name == "aac":  # ADTS has no header for the whole
        assert decoded_by_ffmpeg(file.getvalue()).size >= expected
    else:
        told = soundfile.info(io.BytesIO(file.getvalue()))
        # LAME's look-ahead may need one frame more, of which FFmpeg's header does not tell those samples.
        more = 47 / SAMPLE_RATE if fmt.name == "mp3" else 0
        assert -1e-6 <= told.frames / told.samplerate - expected / SAMPLE_RATE <= more + 1e-6


@pytest.mark.parametrize("samples", [0, 100])
@pytest.mark.parametrize("speed", [SLOWEST, 1.0, FASTEST])
@pytest.mark.parametrize("fmt", FORMATS.values(), ids=FORMATS)
def test_no_stream_is_empty(fmt: Format, speed: float, samples: int) -> None:
    output = Output(fmt, speed)
    assert spoken(output, samples, 100)
    assert output.seconds
    assert samples or output.seconds == SILENCE_SECONDS


def test_the_sizes_in_a_wav_header_are_those_of_the_file() -> None:
    file = io.BytesIO()
    spoken(Output(FORMATS["wav"], file=file), 5000, 999)
    data = file.getvalue()
    assert len(data) == 44 + 2 * 5000
    assert int.from_bytes(data[4:8], "little") == len(data) - 8
    assert int.from_bytes(data[40:44], "little") == 2 * 5000
