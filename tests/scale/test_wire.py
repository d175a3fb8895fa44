"""What passes between a server and its replicas arrives as it was sent."""

import asyncio
from string import Formatter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from cosyserve import errors
from cosyserve.errors import CosyError
from cosyserve.scale import wire
from cosyserve.scale.wire import Description, Segment
from cosyserve.speech.audio import Pcm
from cosyserve.speech.capacity import Capacity
from cosyserve.speech.kernel_choice import KernelsInUse
from cosyserve.speech.synthesizer import Options, ReferenceAudio
from cosyserve.speech.voices import Voice

TEXTS = st.text(max_size=50)
PROMPTS = st.none() | st.builds(ReferenceAudio, st.binary(max_size=200), TEXTS)
OPTIONS = st.builds(Options, TEXTS, PROMPTS, st.none() | st.integers(0, 2**63), st.booleans())


@given(TEXTS, TEXTS, OPTIONS, st.dictionaries(TEXTS, TEXTS))
def test_a_segment_arrives_as_it_was_sent(text: str, voice: str, options: Options, trace: dict[str, str]) -> None:
    segment = Segment(text, voice, options, trace)
    frame = segment.encode()
    assert frame[:1] == wire.SEGMENT
    assert Segment.decode(frame[1:]) == segment


@given(arrays.arrays(np.float32, st.integers(0, 300), elements=st.floats(-1, 1, width=32)))
def test_sound_arrives_sample_for_sample(pcm: Pcm) -> None:
    np.testing.assert_array_equal(wire.opened(wire.sound(pcm)), pcm)


@pytest.mark.parametrize("fault", errors.CATALOGUE, ids=lambda fault: fault.id)
def test_every_failure_arrives_with_all_it_says(fault: errors.Fault) -> None:
    texts = (fault.cause, fault.remedy, fault.cause_zh, fault.remedy_zh)
    fields = [field for text in texts for field in Formatter().parse(text) if field[1]]
    facts: dict[str, object] = {str(name): 2.5 if form else f"<{name}> 值" for _, name, form, _ in fields}
    sent = CosyError(fault, param="voice", retry_after=3, **facts)
    with pytest.raises(CosyError) as caught:
        wire.opened(wire.failure(sent))
    arrived = caught.value
    assert (arrived.fault, arrived.param, arrived.retry_after) == (fault, "voice", 3)
    assert str(arrived) == str(sent)


def test_a_description_arrives_as_it_was_sent() -> None:
    voices = (Voice("a", "A", "甲", ("zh", "en")),)
    capacity = Capacity(2, "processor", "because", "因为", voices=1, past_seconds=15.0)
    told = ("preview", "preview", "cpu", ("clone",), voices, False, "python", "because", "因为", capacity)
    for kernels in (None, KernelsInUse("triton", "available", "because", "因为", {"draw": "off by 0.5"})):
        described = Description(*told, kernels)
        assert Description.decode(described.encode()) == described


@given(st.lists(st.binary(max_size=100), max_size=5))
def test_frames_keep_their_bounds_on_a_stream(frames: list[bytes]) -> None:
    async def there_and_back() -> list[bytes]:
        reader = asyncio.StreamReader()
        for frame in frames:
            reader.feed_data(len(frame).to_bytes(4, "big") + frame)
        reader.feed_eof()
        received = [await wire.receive(reader) for _ in frames]
        with pytest.raises(asyncio.IncompleteReadError):
            await wire.receive(reader)
        return received

    assert asyncio.run(there_and_back()) == frames


def test_a_frame_of_an_absurd_length_is_not_waited_for() -> None:
    async def receive() -> None:
        reader = asyncio.StreamReader()
        reader.feed_data(b"\xff\xff\xff\xff")
        await wire.receive(reader)

    with pytest.raises(ValueError, match="bytes"):
        asyncio.run(receive())
