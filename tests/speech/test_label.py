"""What a file says of itself, read by libraries that did not write it: mutagen; FFmpeg and libsndfile for WAV."""

import io
import json
from typing import Any

import av
import mutagen
import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from cosyserve import errors
from cosyserve.errors import CosyError
from cosyserve.settings import Settings, load_settings
from cosyserve.speech.audio import SAMPLE_RATE, Pcm
from cosyserve.speech.encoders import FORMATS, Format
from cosyserve.speech.label import COMMENT, Label, label_of, rhythm
from cosyserve.speech.output import Output
from tests.signals import decoded_by_ffmpeg, from_s16le, from_wav
from tests.standins import tone

LABEL = Label("喵 Inc.", "f00d")
TAGGED = ("wav", "mp3", "opus", "flac")
formats = st.sampled_from(list(FORMATS.values()))
names = st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1, max_size=100)


def spoken(fmt: Format, audio: Pcm, label: Label | None, *, whole: bool = False, speed: float = 1.0) -> bytes:
    file = io.BytesIO() if whole else None
    output = Output(fmt, speed, file, label)
    pieces = [output.push(audio[at : at + 4800]) for at in range(0, audio.size, 4800)]
    data = b"".join([*pieces, output.finish()])
    return file.getvalue() if file else data


def entry_of(data: bytes, name: str) -> Any:
    """The AIGC entry of a file; None where there is none."""
    if name == "wav":
        with av.open(io.BytesIO(data)) as container:
            text = container.metadata.get("AIGC")
    else:
        tags = mutagen.File(io.BytesIO(data)).tags or {}
        found = tags.get("TXXX:AIGC" if name == "mp3" else "AIGC")
        text = found[0] if found else None
    return text and json.loads(text)


@pytest.mark.parametrize("whole", [False, True], ids=["stream", "whole"])
@pytest.mark.parametrize("name", TAGGED)
def test_a_file_says_that_a_machine_spoke(name: str, whole: bool) -> None:
    data = spoken(FORMATS[name], tone(1), LABEL, whole=whole)
    assert entry_of(data, name) == {
        "Label": "1",
        "ContentProducer": "喵 Inc.",
        "ProduceID": "f00d",
        "ReservedCode1": "",
        "ContentPropagator": "",
        "PropagateID": "",
        "ReservedCode2": "",
    }
    assert entry_of(spoken(FORMATS[name], tone(1), None, whole=whole), name) is None


@pytest.mark.parametrize("whole", [False, True], ids=["stream", "whole"])
def test_the_comment_of_a_wav_is_for_people(whole: bool) -> None:
    with soundfile.SoundFile(io.BytesIO(spoken(FORMATS["wav"], tone(1), LABEL, whole=whole))) as file:
        assert file.comment == COMMENT


@settings(max_examples=30)
@given(formats, st.booleans(), st.integers(SAMPLE_RATE // 5, SAMPLE_RATE), names)
def test_metadata_changes_no_sample(fmt: Format, whole: bool, samples: int, producer: str) -> None:
    audio = np.resize(tone(1), samples).astype(np.float32)
    plain, labelled = (spoken(fmt, audio, label, whole=whole) for label in (None, Label(producer, "f00d")))
    if fmt.name in TAGGED:
        assert len(labelled) > len(plain)
        np.testing.assert_array_equal(decoded_by_ffmpeg(labelled), decoded_by_ffmpeg(plain))
    else:  # no room for it
        assert labelled == plain


@settings(max_examples=50)
@given(names, st.booleans())
def test_any_producer_leaves_a_wav_whole(producer: str, whole: bool) -> None:
    audio = tone(0.3)
    data = spoken(FORMATS["wav"], audio, Label(producer, "f00d"), whole=whole)
    np.testing.assert_allclose(from_wav(data), audio, atol=1e-4)
    assert entry_of(data, "wav")["ContentProducer"] == producer
    if whole:
        assert int.from_bytes(data[4:8], "little") == len(data) - 8


def test_the_rhythm_is_short_long_short_short() -> None:
    unit = round(0.08 * SAMPLE_RATE)
    units = np.abs(rhythm()).reshape(-1, unit).max(axis=1) > 0.1
    assert "".join("#" if sounds else "." for sounds in units) == "#.###...#.#..."


@pytest.mark.parametrize("speed", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("seconds", [0, 1])
def test_an_audible_label_comes_first_and_at_its_own_speed(seconds: int, speed: float) -> None:
    audio = tone(seconds)
    plain = spoken(FORMATS["pcm"], audio, None, speed=speed)
    heard = from_s16le(spoken(FORMATS["pcm"], audio, Label("a", "b", audible=True), speed=speed))
    lead = rhythm().size
    np.testing.assert_allclose(heard[:lead], rhythm(), atol=1e-4)
    np.testing.assert_array_equal(heard[lead:], from_s16le(plain))


def test_an_audible_label_comes_with_the_first_sound() -> None:
    output = Output(FORMATS["pcm"], label=Label("a", "b", audible=True))
    first = tone(1)
    assert len(output.push(first)) == 2 * (rhythm().size + first.size)
    assert len(output.push(first)) == 2 * first.size


def test_every_response_has_an_id_of_its_own() -> None:
    given = Settings(label_producer="示例公司", label_id_prefix="shop-")
    labels = [label_of(given) for _ in range(100)]
    ids = {label.content_id for label in labels if label}
    assert len(ids) == 100
    assert all(each.startswith("shop-") and len(each) == 5 + 32 for each in ids)
    assert {label.producer for label in labels if label} == {"示例公司"}


def test_settings_choose_what_a_label_is() -> None:
    assert label_of(Settings(label="off")) is None
    usual, audible = label_of(Settings()), label_of(Settings(label="audible"))
    assert usual and audible
    assert (usual.audible, audible.audible) == (False, True)


@pytest.mark.parametrize("given", [{"label_producer": ""}, {"label_producer": "a\nb"}, {"label_id_prefix": "a b"}])
def test_what_no_label_can_hold_is_refused(given: dict[str, str]) -> None:
    with pytest.raises(CosyError) as refused:
        load_settings(**given)
    assert refused.value.fault is errors.SETTING_INVALID
