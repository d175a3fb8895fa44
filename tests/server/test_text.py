"""What reaches the voice of a text, whichever way it comes in."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from tests.conftest import Serving
from tests.server.test_socket import audio_until, open_socket, send
from tests.speech.recordings import speech
from tests.standins import CapableSynthesizer

TEXT = "**It** costs $5"
Ask = Callable[[str, str, dict[str, Any]], object]


@pytest.fixture(scope="module")
def voice() -> CapableSynthesizer:
    return CapableSynthesizer()


@pytest.fixture(scope="module")
def url(serving: Serving, voice: CapableSynthesizer) -> Iterator[str]:
    with serving(voice) as url:
        yield url


def by_json(path: str, name: str) -> Ask:
    return lambda url, text, more: httpx.post(url + path, json={name: text, **more}).raise_for_status()


def by_form(path: str, name: str, **fields: str) -> Ask:
    def ask(url: str, text: str, more: dict[str, Any]) -> object:
        files = {"prompt_wav": speech()} if "zero_shot" in path or "cross" in path or "instruct2" in path else None
        form = {name: text, **fields, **{key: _written(value) for key, value in more.items()}}
        return httpx.post(url + path, data=form, files=files).raise_for_status()

    return ask


def _written(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def by_query(path: str, name: str) -> Ask:
    return lambda url, text, more: httpx.get(url + path, params={name: text, **more}).raise_for_status()


def by_socket(url: str, text: str, more: dict[str, Any]) -> None:
    with open_socket(url) as socket:
        send(socket, "session.update", **more)
        for character in text:
            send(socket, "input_text.append", text=character)
        send(socket, "input_text.flush")
        audio_until(socket, "speech.audio.done")


WAYS = {
    "openai": by_json("/v1/audio/speech", "input"),
    "events": lambda url, text, more: by_json("/v1/audio/speech", "input")(url, text, {"stream_format": "sse", **more}),
    "whole": lambda url, text, more: by_json("/v1/audio/speech", "input")(url, text, {"stream": False, **more}),
    "tts form": by_form("/tts", "text"),
    "tts query": by_query("/tts", "text"),
    "sft": by_form("/inference_sft", "tts_text"),
    "sft query": by_query("/inference_sft", "tts_text"),
    "zero shot": by_form("/inference_zero_shot", "tts_text", prompt_text="Hi."),
    "cross lingual": by_form("/inference_cross_lingual", "tts_text"),
    "instruct": by_form("/inference_instruct", "tts_text", instruct_text="sadly"),
    "instruct2": by_form("/inference_instruct2", "tts_text", instruct_text="sadly"),
    "xtts": by_json("/tts_to_audio", "text"),
    "xtts query": by_query("/tts_to_audio", "text"),
    "xtts stream": by_query("/tts_stream", "text"),
    "socket": by_socket,
}


@pytest.mark.parametrize("ask", WAYS.values(), ids=WAYS.keys())
def test_every_way_in_has_the_one_front_end(url: str, voice: CapableSynthesizer, ask: Ask) -> None:
    for more, said in (({}, ["It costs five dollars."]), ({"normalize": False}, [TEXT]), ({"normalize": True}, None)):
        voice.said.clear()
        ask(url, TEXT, dict(more))
        assert voice.said == (said or ["It costs five dollars."])


def test_what_is_no_yes_or_no_is_refused(url: str) -> None:
    for answer in (
        httpx.post(f"{url}/tts", data={"text": "hi", "normalize": "perhaps"}),
        httpx.get(f"{url}/tts", params={"text": "hi", "normalize": "perhaps"}),
        httpx.post(f"{url}/v1/audio/speech", json={"input": "hi", "normalize": "no"}),
    ):
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, "normalize")


def test_a_stream_begins_with_its_first_sentence_and_a_file_is_joined(url: str, voice: CapableSynthesizer) -> None:
    text = "One is here. Two is here. Three is here."
    for stream, said in ((True, ["One is here.", "Two is here. Three is here."]), (False, [text])):
        voice.said.clear()
        httpx.post(f"{url}/v1/audio/speech", json={"input": text, "stream": stream}).raise_for_status()
        assert voice.said == said


@pytest.mark.parametrize("text", ["I love google.com, really.", "google.com", "No.", "It's 50% off!"])
def test_texts_that_vanished_are_spoken(url: str, voice: CapableSynthesizer, text: str) -> None:
    voice.said.clear()
    assert httpx.post(f"{url}/v1/audio/speech", json={"input": text}).status_code == 200
    assert len(voice.said) == 1
