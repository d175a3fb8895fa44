"""Captions: the bounds of segments in the output, and files that other programs read."""

import io
import json
import math
from typing import Any

import numpy as np
import pytest
import webvtt
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from cosyserve.errors import CosyError
from cosyserve.speech.audio import SAMPLE_RATE
from cosyserve.speech.captions import CAPTION_FORMATS, Caption, caption_format
from cosyserve.speech.encoders import FORMATS, Format
from cosyserve.speech.label import Label, rhythm
from cosyserve.speech.output import Output
from cosyserve.speech.timestretch import FASTEST, SLOWEST
from tests.signals import decoded_by_ffmpeg
from tests.standins import tone

formats = st.sampled_from(list(FORMATS.values()))
# Samples of each segment; a pause has no text.
parts = st.lists(st.tuples(st.integers(1, SAMPLE_RATE), st.booleans()), min_size=1, max_size=5)


@settings(max_examples=30)
@given(formats, st.sampled_from([SLOWEST, 0.8, 1.0, 1.3, FASTEST]), parts, st.booleans(), st.integers(100, 20_000))
@example(FORMATS["pcm"], FASTEST, [(1, False), (1, False)], True, 100)
def test_captions_lie_in_the_sound_in_order_and_end_with_it(
    fmt: Format, speed: float, parts: list[tuple[int, bool]], audible: bool, chunk: int
) -> None:
    file = io.BytesIO()
    output, lead = Output(fmt, speed, file, Label("a", "b", audible=audible)), rhythm().size if audible else 0
    sound = tone(1)
    for number, (samples, is_pause) in enumerate(parts):
        output.begin_segment("" if is_pause else f"text {number}")
        for at in range(0, samples, chunk):
            output.push(sound[at : min(samples, at + chunk)])
    output.finish()
    expected, done = [], lead
    for number, (samples, is_pause) in enumerate(parts):
        begin, done = done, done + math.ceil(samples / speed)
        if not is_pause:
            expected.append(Caption(f"text {number}", begin, done))
    assert output.captions == expected
    assert round(output.seconds * SAMPLE_RATE) == done
    if fmt.name in ("wav", "flac"):
        assert decoded_by_ffmpeg(file.getvalue()).size == done


@pytest.mark.parametrize("speed", [0.5, 1.0, 3.0])
def test_a_segment_is_heard_where_its_caption_says(speed: float) -> None:
    """Tones take turns: within each caption, only its own is heard."""
    times = np.arange(SAMPLE_RATE) / SAMPLE_RATE
    output, data = Output(FORMATS["pcm"], speed), b""
    for hertz in (300, 1200) * 3:
        data += output.begin_segment(str(hertz))
        data += output.push((0.4 * np.sin(2 * np.pi * hertz * times)).astype(np.float32))
    data += output.finish()
    samples = np.frombuffer(data, "<i2")
    for caption in output.captions:
        heard = samples[caption.begin : caption.end].astype(float)
        power = np.abs(np.fft.rfft(heard)) ** 2
        near = np.abs(np.fft.rfftfreq(heard.size, 1 / SAMPLE_RATE) - float(caption.text)) < 100
        assert power[near].sum() > 0.98 * power.sum()


def test_a_text_without_sound_has_no_captions() -> None:
    output = Output(FORMATS["pcm"])
    output.finish()
    assert output.captions == []


TEXTS = st.one_of(
    st.sampled_from(
        [
            "a --> b",
            "00:00:01,000 --> 00:00:02,000",
            "one\n\ntwo",
            "1\n00:00:00.000 --> 00:00:09.000\nx",
            "<b>bold</b> & <c.x>",
            "&lt;",
            "NOTE x",
            "WEBVTT",
            "line\u2028line",
            "\u85a0，世界。",
            "STYLE\n::cue {}",
            "7",
        ]
    ),
    st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=40).filter(str.strip),
)
captions = st.lists(st.tuples(TEXTS, st.integers(24, 10**9)), max_size=6).map(
    lambda found: [
        Caption(text, sum(size for _, size in found[:place]), sum(size for _, size in found[: place + 1]))
        for place, (text, _) in enumerate(found)
    ]
)


def read(content: str, fmt: str) -> list[dict[str, Any]]:
    """What another library finds in a file, in the shape of our JSON."""
    if fmt == "json":
        return list(json.loads(content)["captions"])
    found = webvtt.from_buffer(io.StringIO(content), format=fmt).captions
    return [{"text": each.raw_text, "begin": seconds(each.start), "end": seconds(each.end)} for each in found]


def seconds(stamp: str) -> float:
    hours, minutes, rest = stamp.split(":")
    return int(hours) * 3600 + int(minutes) * 60 + float(rest)


@given(captions)
@pytest.mark.parametrize("fmt", CAPTION_FORMATS)
def test_another_library_reads_the_files(fmt: str, said: list[Caption]) -> None:
    assume(said or fmt != "srt")  # of which this reader wants one at least
    found = read(CAPTION_FORMATS[fmt].written(said), fmt)
    assert [each["text"] for each in found] == [shown(each.text, fmt) for each in said]
    within = 1e-6 if fmt == "json" else 0.00051
    times = [each[bound] for each in found for bound in ("begin", "end")]
    expected = [samples / SAMPLE_RATE for each in said for samples in (each.begin, each.end)]
    assert times == pytest.approx(expected, abs=within, rel=0)
    assert times == sorted(times)


def shown(text: str, fmt: str) -> str:
    line = " ".join(text.split())
    escaped = line.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return {"json": text, "srt": line.replace("-->", "→"), "vtt": escaped}[fmt]


def test_a_format_is_named_in_any_case_and_no_other_is_taken() -> None:
    assert caption_format(" SRT ").name == "srt"
    with pytest.raises(CosyError) as refused:
        caption_format("ass")
    assert refused.value.fault.id == "CS-CAPTION-001"
    assert "srt, vtt, json" in refused.value.remedy_zh
