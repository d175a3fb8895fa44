"""The label of what is spoken, whichever way it was asked for."""

import json
import logging
from collections.abc import Iterator
from typing import Any

import httpx
import numpy as np
import pytest

from cosyserve.speech.encoders import FORMATS
from cosyserve.speech.label import rhythm
from tests.conftest import Serving
from tests.running import eventually
from tests.server.test_socket import audio_until, open_socket, send
from tests.server.test_text import WAYS
from tests.signals import from_s16le
from tests.speech.test_label import TAGGED, entry_of
from tests.standins import CapableSynthesizer, ToneSynthesizer

SPEECH = "/v1/audio/speech"
OVER_HTTP = {name: ask for name, ask in WAYS.items() if name != "socket"}


@pytest.fixture(scope="module")
def url(serving: Serving) -> Iterator[str]:
    with serving(CapableSynthesizer(), label_producer="示例公司", label_id_prefix="test-") as url:
        yield url


def label_of(response: httpx.Response) -> dict[str, str]:
    return dict(json.loads(response.headers["x-aigc-label"]))


def spoken_by_socket(url: str) -> tuple[bytes, dict[str, Any]]:
    with open_socket(url) as socket:
        send(socket, "input_text.append", text="Hello.")
        send(socket, "input_text.flush")
        return audio_until(socket, "speech.audio.done")


@pytest.mark.parametrize("more", [{}, {"stream": False}], ids=["stream", "whole"])
@pytest.mark.parametrize("name", FORMATS)
def test_header_and_file_say_the_same(url: str, name: str, more: dict[str, Any]) -> None:
    responses = [httpx.post(url + SPEECH, json={"input": "ab", "response_format": name, **more}) for _ in range(2)]
    labels = [label_of(response) for response in responses]
    assert [label["ContentProducer"] for label in labels] == ["示例公司"] * 2
    assert labels[0]["ProduceID"] != labels[1]["ProduceID"]
    assert all(label["ProduceID"].startswith("test-") for label in labels)
    if name in TAGGED:
        assert [entry_of(response.content, name) for response in responses] == labels


@pytest.mark.parametrize("ask", OVER_HTTP.values(), ids=OVER_HTTP.keys())
def test_every_way_in_has_the_header(url: str, ask: Any) -> None:
    assert label_of(ask(url, "Hello.", {}))["Label"] == "1"


@pytest.mark.parametrize("path", ["/tts_to_audio", "/tts_stream"])
def test_a_wav_for_xtts_has_the_entry(url: str, path: str) -> None:
    response = httpx.get(url + path, params={"text": "Hello."})
    assert entry_of(response.content, "wav") == label_of(response)


def test_each_generation_of_a_socket_has_a_label_of_its_own(url: str) -> None:
    first, second = (spoken_by_socket(url)[1]["aigc"] for _ in range(2))
    assert first["ContentProducer"] == second["ContentProducer"] == "示例公司"
    assert first["ProduceID"] != second["ProduceID"]


def test_a_page_of_another_origin_may_read_the_header(serving: Serving) -> None:
    with serving(ToneSynthesizer(), cors_origins="https://example.org") as url:
        response = httpx.post(url + SPEECH, json={"input": "a"}, headers={"Origin": "https://example.org"})
        assert "X-AIGC-Label" in response.headers["access-control-expose-headers"]


def test_the_log_knows_the_id(url: str, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "cosyserve"):
        content_id = label_of(httpx.post(url + SPEECH, json={"input": "ab"}))["ProduceID"]
        eventually(lambda: content_id in caplog.text)


def test_an_error_is_no_speech_and_has_no_label(url: str) -> None:
    response = httpx.post(url + SPEECH, json={"input": ""})
    assert response.status_code == 400
    assert "x-aigc-label" not in response.headers


def test_without_labels_nothing_says_so(serving: Serving) -> None:
    with serving(ToneSynthesizer(), label="off") as url:
        for name in FORMATS:
            response = httpx.post(url + SPEECH, json={"input": "ab", "response_format": name})
            assert "x-aigc-label" not in response.headers
            assert name not in TAGGED or entry_of(response.content, name) is None
        assert "aigc" not in spoken_by_socket(url)[1]


def test_an_audible_label_begins_what_every_endpoint_sends(serving: Serving) -> None:
    with serving(ToneSynthesizer(), label="audible") as url:
        heard = [
            httpx.post(url + SPEECH, json={"input": "Hello.", "response_format": "pcm"}).content,
            httpx.post(url + SPEECH, json={"input": "Hello.", "response_format": "pcm", "stream": False}).content,
            httpx.post(f"{url}/tts", data={"text": "Hello."}).content,
            spoken_by_socket(url)[0],
        ]
    for audio in map(from_s16le, heard):
        np.testing.assert_allclose(audio[: rhythm().size], rhythm(), atol=1e-4)
        assert audio.size > rhythm().size
