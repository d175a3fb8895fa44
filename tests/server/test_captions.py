"""Captions as clients get them: in events, on the socket, and beside the audio. Times are held against the sound."""

import base64
import json
import shutil
import subprocess
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import openai
import pytest

from cosyserve import errors
from cosyserve.errors import CosyError
from cosyserve.server.captions import KeptCaptions
from cosyserve.speech.audio import SAMPLE_RATE, Pcm
from cosyserve.speech.captions import CAPTION_FORMATS, Caption
from cosyserve.speech.label import rhythm
from tests.conftest import Serving
from tests.running import Server, leave_out
from tests.server.test_socket import open_socket, send
from tests.signals import from_wav, is_speech
from tests.speech.test_captions import read
from tests.standins import CHUNK_SECONDS, FailingSynthesizer, ToneSynthesizer

SPEECH, KEPT = "/v1/audio/speech", "/v1/audio/captions"
# The stand-in takes a tenth of a second for each letter that is said: `Hello`, then `It is five dollars`.
TEXT = "Hello! It is **$5**."
SAID = [("Hello!", 5), ("It is **$5**.", 4 + 11)]


@pytest.fixture(scope="module")
def url(serving: Serving) -> Iterator[str]:
    with serving(ToneSynthesizer()) as url:
        yield url


def expected(speed: float = 1.0, lead: float = 0.0, within: float = 1e-4) -> list[dict[str, Any]]:
    ends = np.cumsum([lead, *(letters * CHUNK_SECONDS / speed for _, letters in SAID)])
    return [
        {"text": text, "begin": pytest.approx(begin, abs=within), "end": pytest.approx(end, abs=within)}
        for (text, _), (begin, end) in zip(SAID, pairwise(ends), strict=True)
    ]


def events_of(url: str, **fields: Any) -> list[dict[str, Any]]:
    body = {"input": TEXT, "response_format": "pcm", "stream_format": "sse", **fields}
    text = httpx.post(url + SPEECH, json=body).raise_for_status().text
    return [json.loads(each.removeprefix("data: ")) for each in text.strip().split("\n\n")]


def heard(events: list[dict[str, Any]]) -> tuple[list[tuple[int, float]], float]:
    """Of each segment its index and where its event came, in seconds of the audio before it; and seconds of all."""
    seconds, begins = 0.0, []
    for event in events:
        if event["type"] == "speech.audio.segment":
            begins.append((event["index"], seconds))
        seconds += len(base64.b64decode(event.get("audio", ""))) / 2 / SAMPLE_RATE
    return begins, seconds


@pytest.mark.parametrize("speed", [0.5, 1.0, 2.5])
def test_events_say_where_each_segment_begins_and_at_the_end_all(url: str, speed: float) -> None:
    events = events_of(url, speed=speed)
    begins, seconds = heard(events)
    announced = [event for event in events if event["type"] == "speech.audio.segment"]
    captions = events[-1]["captions"]
    assert captions == expected(speed)
    assert [(each["text"], each["begin"]) for each in announced] == [(each["text"], each["begin"]) for each in captions]
    assert [index for index, _ in begins] == [0, 1]
    assert [second for _, second in begins] == pytest.approx([each["begin"] for each in captions], abs=1e-4)
    assert captions[-1]["end"] == pytest.approx(seconds, abs=1e-5)


def test_a_pause_belongs_to_no_caption(url: str) -> None:
    document = '<speak>Hello!<break time="1500ms"/>It is <sub alias="five dollars">$5</sub>.<break time="2s"/></speak>'
    events = events_of(url, input=document, input_format="ssml", speed=2)
    assert events[-1]["captions"] == [
        {"text": "Hello!", "begin": 0.0, "end": pytest.approx(0.25, abs=1e-4)},
        {"text": "It is $5.", "begin": pytest.approx(1.75, abs=1e-4), "end": pytest.approx(2.5, abs=1e-4)},
    ]
    assert heard(events)[1] == pytest.approx(4.5, abs=1e-3)


def test_a_label_that_is_heard_comes_before_the_first_caption(serving: Serving) -> None:
    lead = rhythm().size / SAMPLE_RATE
    with serving(ToneSynthesizer(), label="audible") as url:
        events = events_of(url)
    assert events[0]["begin"] == pytest.approx(lead, abs=1e-6)
    assert events[-1]["captions"] == expected(lead=lead)


def test_a_text_without_sound_has_no_captions(url: str) -> None:
    assert [event["type"] for event in events_of(url, input="😊")] == ["speech.audio.delta", "speech.audio.done"]
    assert events_of(url, input="😊")[-1]["captions"] == []


def test_the_socket_says_the_same(url: str) -> None:
    with open_socket(url) as socket:
        send(socket, "session.update", speed=2.5)
        for round_ in range(2):
            for character in TEXT:
                send(socket, "input_text.append", text=character)
            send(socket, "input_text.flush")
            audio, begins = b"", []
            while (message := socket.recv(10)) and not (isinstance(message, str) and "audio.done" in message):
                if isinstance(message, bytes):
                    audio += message
                else:
                    begins.append((json.loads(message), len(audio) / 2 / SAMPLE_RATE))
            captions = json.loads(message)["captions"]
            assert captions == expected(2.5), round_
            assert [event for event, _ in begins] == [
                {"type": "speech.audio.segment", "index": place, "text": each["text"], "begin": each["begin"]}
                for place, each in enumerate(captions)
            ]
            assert [came for _, came in begins] == pytest.approx([each["begin"] for each in captions], abs=1e-4)
            assert captions[-1]["end"] == pytest.approx(len(audio) / 2 / SAMPLE_RATE, abs=1e-5)
        send(socket, "input_text.flush")
        assert json.loads(socket.recv(10))["captions"] == []


@pytest.mark.parametrize("more", [{}, {"stream": False}, {"stream_format": "sse"}], ids=str)
@pytest.mark.parametrize("fmt", CAPTION_FORMATS)
def test_beside_the_audio_they_have_an_address(url: str, fmt: str, more: dict[str, Any]) -> None:
    body = {"input": TEXT, "captions": fmt, "response_format": "wav", "speed": 2, **more}
    answer = httpx.post(url + SPEECH, json=body).raise_for_status()
    kept = httpx.get(f"{url}{KEPT}/{answer.headers['x-captions-id']}").raise_for_status()
    assert kept.headers["content-type"] == f"{CAPTION_FORMATS[fmt].media_type}; charset=utf-8"
    captions = read(kept.text, fmt)
    if more.get("stream") is False:  # its sentences are spoken together
        assert captions == [{"text": TEXT, "begin": 0, "end": pytest.approx(1)}]
    else:
        assert captions == expected(2, within=1e-3)
    if "stream_format" not in more:
        assert captions[-1]["end"] == pytest.approx(from_wav(answer.content).size / SAMPLE_RATE, abs=1e-3)


def test_they_are_there_when_the_last_of_the_audio_is(url: str) -> None:
    """And not before: half of them would look like all."""
    with httpx.stream(
        "POST", url + SPEECH, json={"input": TEXT, "captions": "SRT", "response_format": "pcm"}
    ) as answer:
        answer.read()
        kept = httpx.get(f"{url}{KEPT}/{answer.headers['x-captions-id']}")
    assert kept.text.startswith("1\n00:00:00,000 --> 00:00:00,500\nHello!\n\n2\n")


def test_who_asks_for_none_gets_no_id(url: str) -> None:
    for nothing in ({}, {"captions": ""}, {"captions": None}):
        answer = httpx.post(url + SPEECH, json={"input": "hi", **nothing}).raise_for_status()
        assert "x-captions-id" not in answer.headers


def test_a_failed_speech_has_none(serving: Serving) -> None:
    with serving(FailingSynthesizer()) as url:
        body = {"input": "good then fail", "captions": "srt", "stream_format": "sse"}
        answer = httpx.post(url + SPEECH, json=body)
        kept = httpx.get(f"{url}{KEPT}/{answer.headers['x-captions-id']}")
    assert (kept.status_code, kept.json()["error"]["code"]) == (404, "CS-CAPTION-002")


@pytest.mark.parametrize(
    ("captions", "code"),
    [("ass", "CS-CAPTION-001"), ("../srt", "CS-CAPTION-001"), ("x" * 1001, "CS-TEXT-006"), (1, "CS-REQ-001")],
)
def test_an_unknown_format_is_refused_before_any_sound(url: str, captions: object, code: str) -> None:
    answer = httpx.post(url + SPEECH, json={"input": "hi", "captions": captions})
    error = answer.json()["error"]
    assert (answer.status_code, error["code"], error["param"]) == (400, code, "captions")
    assert error["message_zh"]


@pytest.mark.parametrize("name", ["0" * 32, "x", "a" * 2000, "%00", "..%2f..%2fetc"])
def test_an_unknown_id_is_a_404_or_400(url: str, name: str) -> None:
    answer = httpx.get(f"{url}{KEPT}/{name}")
    assert answer.status_code in (400, 404)
    assert answer.json()["error"]["code"].startswith("CS-")


def test_the_openai_client_gets_them(server: Server) -> None:
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="unused", max_retries=0) as client:
        speech = client.audio.speech.with_raw_response.create(
            model="tts-1", voice="alloy", input=TEXT, response_format="wav", extra_body={"captions": "vtt"}
        )
        audio = from_wav(speech.content)
        kept = client.get(f"/audio/captions/{speech.headers['x-captions-id']}", cast_to=httpx.Response)
    assert_heard(read(kept.text, "vtt"), audio)


def test_curl_gets_them(server: Server, tmp_path: Path) -> None:
    if not shutil.which("curl"):
        leave_out("there is no curl")
    body = json.dumps({"input": TEXT, "response_format": "wav", "captions": "srt", "speed": 1.5})
    asked = ["curl", "-sSf", server.url + SPEECH, "-H", "Content-Type: application/json", "-d", body]
    subprocess.run([*asked, "-D", "head", "-o", "speech.wav"], cwd=tmp_path, check=True)
    head = dict(line.split(": ", 1) for line in (tmp_path / "head").read_text().splitlines() if ": " in line)
    head = {name.lower(): value for name, value in head.items()}
    subprocess.run(
        ["curl", "-sSf", f"{server.url}{KEPT}/{head['x-captions-id']}", "-o", "speech.srt"], cwd=tmp_path, check=True
    )
    assert_heard(
        read((tmp_path / "speech.srt").read_text("utf-8"), "srt"), from_wav((tmp_path / "speech.wav").read_bytes())
    )


def assert_heard(captions: list[dict[str, Any]], audio: Pcm) -> None:
    """The preview voice speaks within each caption, and is silent where the next begins."""
    assert [each["text"] for each in captions] == [text for text, _ in SAID]
    assert captions[0]["begin"] == 0
    assert captions[-1]["end"] == pytest.approx(audio.size / SAMPLE_RATE, abs=1e-3)
    for one, other in pairwise(captions):
        assert one["end"] == other["begin"]
        assert np.abs(audio[at(one["end"] - 0.1) : at(one["end"])]).max() < 0.01
    for each in captions:
        assert is_speech(audio[at(each["begin"]) : at(each["end"])])


def at(seconds: float) -> int:
    return round(SAMPLE_RATE * seconds)


def test_what_is_kept_is_bounded_in_number_size_and_time() -> None:
    clock = [0.0]
    kept, fmt = KeptCaptions(lambda: clock[0]), CAPTION_FORMATS["json"]

    def keep(text: str) -> str:
        pending = kept.pending(fmt)
        pending.fill([Caption(text, 0, 1)])
        return pending.id

    def there(caption_id: str) -> bool:
        try:
            return bool(kept.find(caption_id))
        except CosyError as error:
            assert error.fault is errors.CAPTIONS_ABSENT
            return False

    many = [keep("x") for _ in range(1001)]
    assert len(set(many)) == 1001
    assert [there(many[0]), there(many[1]), there(many[-1])] == [False, True, True]
    large = [keep("x" * 1_500_000) for _ in range(3)]
    assert [there(many[-1]), *map(there, large)] == [False, False, True, True]
    huge = keep("x" * 5_000_000)
    assert [*map(there, large), there(huge)] == [False, False, False, True]
    clock[0] = 3599
    assert there(huge)
    clock[0] = 3600
    assert not there(huge)
    assert there(keep("x"))


def test_a_web_page_of_another_origin_can_read_the_id(serving: Serving) -> None:
    with serving(ToneSynthesizer(), cors_origins="https://example.com") as url:
        headers = {"Origin": "https://example.com"}
        answer = httpx.post(url + SPEECH, json={"input": "hi", "captions": "vtt"}, headers=headers)
    assert "X-Captions-Id" in answer.headers["access-control-expose-headers"]
