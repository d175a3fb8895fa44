"""What happens to a stream when its synthesizer, its client or its network lets it down."""

import io
import json
import math
import socket
import threading
import wave
from collections.abc import Callable, Iterator
from urllib.parse import urlsplit

import httpx
import pytest
import soundfile
from starlette.types import ASGIApp, Receive, Scope, Send

from cosyserve.server import responses
from cosyserve.speech import output
from cosyserve.speech.audio import SAMPLE_RATE, Pcm
from cosyserve.speech.encoders import FORMATS
from cosyserve.speech.timestretch import TimeStretch
from tests.conftest import Serving
from tests.running import HANGS, eventually
from tests.standins import FailingSynthesizer, GatedSynthesizer, ToneSynthesizer

SPEECH = "/v1/audio/speech"


def test_the_first_audio_leaves_before_the_second_is_made(serving: Serving) -> None:
    synthesizer = GatedSynthesizer()
    with serving(synthesizer) as url:
        synthesizer.budget = 1
        body = {"input": "ab. cd.", "response_format": "pcm"}
        with httpx.stream("POST", url + SPEECH, json=body) as response:
            pieces = response.iter_raw()
            assert next(pieces)
            synthesizer.budget = math.inf
            assert b"".join(pieces)


def test_a_failure_before_the_first_audio_is_an_error_status(serving: Serving) -> None:
    with serving(FailingSynthesizer()) as url:
        response = httpx.post(url + SPEECH, json={"input": "fail"})
        assert response.status_code == 500
        assert response.json()["error"]["code"] == "CS-SRV-003"
        assert "told to fail" not in response.text


def test_a_failure_in_the_middle_breaks_the_connection(serving: Serving) -> None:
    """A clean end would let the client take half a text for the whole."""
    with serving(FailingSynthesizer()) as url:
        body = {"input": "good then fail", "response_format": "pcm"}
        with pytest.raises(httpx.RemoteProtocolError), httpx.stream("POST", url + SPEECH, json=body) as response:
            assert response.status_code == 200
            response.read()


def test_a_failure_in_the_middle_of_server_sent_events_is_an_event(serving: Serving) -> None:
    with serving(FailingSynthesizer()) as url:
        body = {"input": "good then fail", "response_format": "pcm", "stream_format": "sse"}
        lines = httpx.post(url + SPEECH, json=body).text.split("\n\n")
        events = [json.loads(line.removeprefix("data: ")) for line in lines if line]
    assert [event["type"] for event in events[:2]] == ["speech.audio.segment", "speech.audio.delta"]
    assert events[-1]["type"] == "error"
    assert events[-1]["error"]["code"] == "CS-SRV-003"


def test_too_long_audio_is_cut_with_its_own_error(serving: Serving) -> None:
    with serving(ToneSynthesizer(), max_audio_seconds=0.5) as url:
        body = {"input": "abcdefghij", "response_format": "pcm", "stream_format": "sse"}
        last = httpx.post(url + SPEECH, json=body).text.strip().split("\n\n")[-1]
    assert json.loads(last.removeprefix("data: "))["error"]["code"] == "CS-TEXT-004"


def test_a_client_that_leaves_frees_its_place_at_once(serving: Serving) -> None:
    synthesizer = GatedSynthesizer()
    with serving(synthesizer, max_streams=1, max_queue=1) as url:
        synthesizer.budget = 1  # after the first chunk nothing comes: only the leaving can free the place
        with httpx.stream("POST", url + SPEECH, json={"input": "hello", "response_format": "pcm"}) as response:
            pieces = response.iter_raw()  # held: a dropped iterator closes the response
            next(pieces)
            assert httpx.get(f"{url}/readyz").json()["active_streams"] == 1
        eventually(lambda: httpx.get(f"{url}/readyz").json()["active_streams"] == 0)
        assert synthesizer.inside == 0
        metrics = httpx.get(f"{url}/metrics").text
        assert f'cosyserve_requests_total{{endpoint="{SPEECH}",outcome="cancelled"}} 1.0' in metrics


def test_a_client_that_leaves_the_queue_frees_its_place_there(serving: Serving) -> None:
    synthesizer = GatedSynthesizer()
    with serving(synthesizer, max_streams=1, max_queue=1) as url:
        synthesizer.budget = 0
        with _sent(url, "first"):
            eventually(lambda: httpx.get(f"{url}/readyz").json()["active_streams"] == 1)
            with _sent(url, "second"):
                eventually(lambda: httpx.get(f"{url}/readyz").json()["waiting"] == 1)
                assert httpx.post(url + SPEECH, json={"input": "third"}).status_code == 429
            eventually(lambda: httpx.get(f"{url}/readyz").json()["waiting"] == 0)
        eventually(lambda: httpx.get(f"{url}/readyz").json()["active_streams"] == 0)


def test_a_client_that_stops_reading_loses_its_place(serving: Serving) -> None:
    with serving(ToneSynthesizer(), stall_seconds=0.3) as url, _sent(url, "x" * 3000):
        # Five minutes of audio are more than the socket buffers hold; nothing of it is read.
        eventually(lambda: 'outcome="stalled"} 1.0' in httpx.get(f"{url}/metrics").text)
        assert httpx.get(f"{url}/readyz").json()["active_streams"] == 0


@pytest.mark.parametrize("stream_format", ["audio", "sse"])
def test_a_client_that_stops_reading_is_cut_off(serving: Serving, stream_format: str) -> None:
    broken: list[str] = []
    with (
        serving(ToneSynthesizer(), breakable(broken), stall_seconds=0.3) as url,
        _sent(url, "x" * 3000, stream_format=stream_format),
    ):
        eventually(lambda: broken == ["http"])


def breakable(broken: list[str]) -> Callable[[ASGIApp], ASGIApp]:
    """Around an application: what its server offers to break a connection with. Notes of what kind each was."""

    def wrapped(app: ASGIApp) -> ASGIApp:
        async def offering(scope: Scope, receive: Receive, send: Send) -> None:
            scope.setdefault("extensions", {})["cosyserve.abort"] = lambda: broken.append(scope["type"])
            await app(scope, receive, send)

        return offering

    return wrapped


@pytest.mark.parametrize("name", FORMATS)
def test_a_whole_has_its_length(serving: Serving, name: str) -> None:
    fmt = FORMATS[name]
    with serving(ToneSynthesizer()) as url:
        body = {"input": "abcdefghij", "response_format": name, "stream": False}
        response = httpx.post(url + SPEECH, json=body)
        assert int(response.headers["content-length"]) == len(response.content)
        assert "transfer-encoding" not in response.headers
        assert (response.headers["content-type"], response.headers["x-sample-rate"]) == (fmt.media_type, "24000")
        eventually(lambda: "cosyserve_audio_seconds_total 1.0" in httpx.get(f"{url}/metrics").text)
        metrics = httpx.get(f"{url}/metrics").text
        assert f'cosyserve_requests_total{{endpoint="{SPEECH}",outcome="ok"}} 1.0' in metrics
    if name in ("wav", "flac", "mp3", "opus"):
        told = soundfile.info(io.BytesIO(response.content))
        assert told.frames == fmt.rate


def test_a_failure_of_a_whole_is_an_error_status(serving: Serving) -> None:
    with serving(FailingSynthesizer()) as url:
        asked = {SPEECH: {"input": "good then fail", "stream": False}, "/tts_to_audio": {"text": "good then fail"}}
        for path, body in asked.items():
            response = httpx.post(url + path, json=body)
            assert response.status_code == 500
            assert response.json()["error"]["code"] == "CS-SRV-003"
            assert response.headers["content-type"] == "application/json"


def test_a_whole_that_is_too_long_is_refused(serving: Serving) -> None:
    with serving(ToneSynthesizer(), max_audio_seconds=0.5) as url:
        response = httpx.post(url + SPEECH, json={"input": "abcdefghij", "stream": False})
        assert (response.status_code, response.json()["error"]["code"]) == (400, "CS-TEXT-004")


def test_a_long_whole_is_not_kept_in_memory(serving: Serving, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(responses, "_IN_MEMORY", 1000)
    with serving(ToneSynthesizer()) as url:
        response = httpx.post(url + SPEECH, json={"input": "x" * 100, "response_format": "wav", "stream": False})
        with wave.open(io.BytesIO(response.content)) as file:
            assert file.getnframes() == 10 * SAMPLE_RATE


def test_events_are_a_stream_whatever_else_is_asked_for(serving: Serving) -> None:
    with serving(ToneSynthesizer()) as url:
        body = {"input": "ab", "response_format": "pcm", "stream_format": "sse", "stream": False}
        events = httpx.post(url + SPEECH, json=body).text.strip().split("\n\n")
        assert sum('"speech.audio.delta"' in event for event in events) > 1


def test_speed_is_worked_out_in_a_thread_of_its_own(serving: Serving, monkeypatch: pytest.MonkeyPatch) -> None:
    threads: set[int] = set()

    class Noting(TimeStretch):
        def push(self, pcm: Pcm) -> Iterator[Pcm]:
            threads.add(threading.get_ident())
            return super().push(pcm)

    loops: list[int] = []

    def noting_the_loop(app: ASGIApp) -> ASGIApp:
        async def noted(scope: Scope, receive: Receive, send: Send) -> None:
            loops.append(threading.get_ident())
            await app(scope, receive, send)

        return noted

    monkeypatch.setattr(output, "TimeStretch", Noting)
    with serving(ToneSynthesizer(), noting_the_loop) as url:
        response = httpx.post(url + SPEECH, json={"input": "abcdefghij", "response_format": "pcm", "speed": 0.5})
        assert len(response.content) / 2 / SAMPLE_RATE == pytest.approx(2, rel=0.1)
    assert threads
    assert not threads & set(loops)


def _sent(url: str, text: str, **more: str) -> socket.socket:
    """A connection on which a request was sent and nothing has been read."""
    address = urlsplit(url)
    connection = socket.create_connection((str(address.hostname), address.port or 80), timeout=HANGS)
    body = json.dumps({"input": text, "response_format": "pcm", **more}).encode()
    head = f"POST {SPEECH} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    connection.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
    return connection
