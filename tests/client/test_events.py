"""Events with speech, as they come and as they must not."""

import base64
import io
import json
from http.client import HTTPResponse
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cosyserve.client.address import address_of
from cosyserve.client.call import Call
from cosyserve.client.events import segments_in
from cosyserve.errors import CosyError
from cosyserve.speech.audio import SAMPLE_RATE, to_s16le
from cosyserve.speech.passages import SpokenSegment
from tests.standins import tone

CALL = Call(address_of("http://127.0.0.1:1"))


def events(*given: Any) -> bytes:
    return b"".join(b"data: " + json.dumps(each).encode() + b"\n\n" for each in given)


def audio(data: bytes) -> dict[str, str]:
    return {"type": "speech.audio.delta", "audio": base64.b64encode(data).decode()}


def done(*captions: tuple[str, int, int]) -> dict[str, Any]:
    seconds = [{"text": text, "begin": begin / SAMPLE_RATE, "end": end / SAMPLE_RATE} for text, begin, end in captions]
    return {"type": "speech.audio.done", "captions": seconds}


def read(data: bytes, most_seconds: float = 60) -> list[SpokenSegment]:
    """By way of a stand-in for a response, which has lines as one has."""
    return segments_in(CALL, cast("HTTPResponse", io.BytesIO(data)), most_seconds)


@settings(max_examples=50)
@given(st.lists(st.tuples(st.integers(0, 50), st.integers(1, 50)), min_size=1), st.integers(0, 50), st.data())
def test_segments_and_what_is_between_them_are_cut_by_the_sample(
    lengths: list[tuple[int, int]], tail: int, data: st.DataObject
) -> None:
    captions, expected, place = [], [], 0
    for number, (pause, length) in enumerate(lengths):
        if pause and number:  # what comes before the first is a label
            expected.append(("", place, place + pause))
        captions.append((f"segment {number}", place + pause, place + pause + length))
        expected.append(captions[-1])
        place += pause + length
    if tail:
        expected.append(("", place, place + tail))
    samples = np.arange(place + tail, dtype="<i2").tobytes()
    cut = data.draw(st.integers(0, len(samples)))
    found = read(events(audio(samples[:cut]), {"type": "new"}, audio(samples[cut:]), done(*captions)))
    assert [(each.written, each.pcm.size) for each in found] == [(text, end - begin) for text, begin, end in expected]
    assert [round(32767 * each.pcm[0]) for each in found] == [begin for _, begin, _ in expected]


def test_speech_in_which_nothing_is_said_is_empty() -> None:
    assert read(events(audio(to_s16le(tone())), done())) == []


@pytest.mark.parametrize(
    ("data", "fault"),
    [
        (b"", "CS-SAY-008"),
        (events(audio(b"ab")), "CS-SAY-008"),
        (events(audio(b"ab"))[:20], "CS-SAY-008"),
        (b"data: {\n", "CS-SAY-007"),
        (events({"type": "speech.audio.delta", "audio": "?"}), "CS-SAY-007"),
        (events({"type": "speech.audio.delta"}), "CS-SAY-007"),
        (events({"type": "speech.audio.done"}), "CS-SAY-007"),
        (events(audio(b"ab"), done(("a", 0, 2))), "CS-SAY-007"),
        (events(audio(b"abcd"), done(("a", 1, 2), ("b", 0, 1))), "CS-SAY-007"),
        (events({"type": "error", "error": "?"}), "CS-SAY-007"),
        (events(audio(bytes(100_000)), done()), "CS-TEXT-004"),
    ],
)
def test_what_is_no_speech_says_so(data: bytes, fault: str) -> None:
    with pytest.raises(CosyError, match=fault):
        read(data, most_seconds=1)


_ANYTHING: st.SearchStrategy[Any] = st.none() | st.text() | st.floats() | st.just({"type": "error"}) | st.just([])


@settings(max_examples=50)
@given(st.binary() | st.lists(_ANYTHING).map(lambda given: events(*given)))
def test_any_bytes_are_speech_or_an_error(data: bytes) -> None:
    with pytest.raises(CosyError):
        read(data)
