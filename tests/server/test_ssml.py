"""SSML by HTTP, over the WebSocket and with `say`."""

import io
import subprocess
import sys
import wave
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from tests.conftest import Serving
from tests.server.test_socket import audio_until, event, open_socket, send
from tests.server.test_text import WAYS, Ask
from tests.standins import CHUNK_SECONDS, CapableSynthesizer

DOCUMENT = '<speak>One <sub alias="two three">x</sub>.<break time="700ms"/>Four.</speak>'
SAID = ["One two three.", "Four."]
RATE = 24_000


@pytest.fixture(scope="module")
def voice() -> CapableSynthesizer:
    return CapableSynthesizer()


@pytest.fixture(scope="module")
def url(serving: Serving, voice: CapableSynthesizer) -> Iterator[str]:
    with serving(voice, max_audio_seconds=60) as url:
        yield url


def ask(url: str, text: str, **fields: Any) -> httpx.Response:
    body = {"input": text, "input_format": "ssml", "response_format": "pcm", **fields}
    return httpx.post(f"{url}/v1/audio/speech", json=body)


def silence_within(pcm: bytes) -> float:
    """Seconds between the first stretch of sound and the next."""
    loud = np.abs(np.frombuffer(pcm, "<i2").astype(int)) > 0
    quiet = np.flatnonzero(np.convolve(loud, np.ones(480), "valid") == 0)
    return (quiet[-1] - quiet[0] + 480) / RATE if quiet.size else 0.0


@pytest.mark.parametrize("fields", [{}, {"stream": False}, {"speed": 2.0}, {"input_format": "SSML"}], ids=str)
def test_a_document_is_spoken_with_its_pause(url: str, voice: CapableSynthesizer, fields: dict[str, Any]) -> None:
    voice.said.clear()
    answer = ask(url, DOCUMENT, **fields).raise_for_status()
    assert voice.said == SAID
    assert silence_within(answer.content) == pytest.approx(0.7, abs=0.05)
    if "speed" not in fields:
        letters = sum(map(str.isalnum, "".join(SAID)))
        assert len(answer.content) / 2 == pytest.approx((letters * CHUNK_SECONDS + 0.7) * RATE)


@pytest.mark.parametrize("ask_by", WAYS.values(), ids=WAYS.keys())
def test_every_way_in_takes_it(url: str, voice: CapableSynthesizer, ask_by: Ask) -> None:
    voice.said.clear()
    ask_by(url, DOCUMENT, {"input_format": "ssml"})
    assert voice.said == SAID


def test_a_text_that_says_nothing_of_it_is_a_plain_one(url: str, voice: CapableSynthesizer) -> None:
    for fields in ({"input_format": "text"}, {"input_format": ""}, {"input_format": None}):
        voice.said.clear()
        answer = ask(url, DOCUMENT, **fields).raise_for_status()
        assert " ".join(voice.said) == "One x. Four."
        assert silence_within(answer.content) == 0
    assert ask(url, DOCUMENT, input_format="xml").status_code == 400


def test_a_pause_alone_is_a_silence(url: str) -> None:
    content = ask(url, '<break time="1s"/>').raise_for_status().content
    assert not any(content)
    assert len(content) == 2 * RATE


@pytest.mark.parametrize(
    ("document", "code"),
    [
        ("Tom & Ann", "CS-TEXT-007"),
        ('<!DOCTYPE s [<!ENTITY a "b">]><speak>&a;</speak>', "CS-TEXT-007"),
        ("<b>" * 5000, "CS-TEXT-007"),
        ("<break time='1h'/>", "CS-TEXT-008"),
        ("<b>" * 10_000, "CS-TEXT-002"),
        (" ", "CS-TEXT-001"),
        ('<break time="10s"/>' * 7, "CS-TEXT-004"),
    ],
)
def test_what_cannot_be_spoken_is_refused_before_any_sound(url: str, document: str, code: str) -> None:
    answer = ask(url, document, stream=False)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, code)


def test_over_the_socket_it_is_read_once_it_is_complete(url: str, voice: CapableSynthesizer) -> None:
    voice.said.clear()
    with open_socket(url) as socket:
        send(socket, "session.update", input_format="ssml")
        for character in DOCUMENT:
            send(socket, "input_text.append", text=character)
        send(socket, "input_text.flush")
        audio, _ = audio_until(socket, "speech.audio.done")
        assert silence_within(audio) == pytest.approx(0.7, abs=0.05)
        send(socket, "input_text.append", text="<b>")
        send(socket, "input_text.flush")
        assert event(socket)["error"]["code"] == "CS-TEXT-007"
        send(socket, "session.update", input_format="text")
        send(socket, "input_text.append", text="Plain <b>text</b>.")
        send(socket, "input_text.flush")
        audio_until(socket, "speech.audio.done")
    assert voice.said == [*SAID, "Plain text."]


def test_say_speaks_it(tmp_path: Path) -> None:
    def said(document: str, *options: str) -> subprocess.CompletedProcess[bytes]:
        command = [sys.executable, "-m", "cosyserve", "say", document, "-o", "-", *options]
        return subprocess.run(command, cwd=tmp_path, capture_output=True)

    with_pause = said('One.<break time="3s"/>Two.', "--ssml")
    assert with_pause.returncode == 0, with_pause.stderr
    with wave.open(io.BytesIO(with_pause.stdout)) as sound:
        assert silence_within(sound.readframes(10**9)) >= 2.9
    refused = said("<b>", "--ssml")
    assert refused.returncode != 0
    assert b"CS-TEXT-007" in refused.stderr
