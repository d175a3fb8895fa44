"""What happens to a stream when its synthesizer, its client or its network lets it down."""

import json
import math
import socket
from urllib.parse import urlsplit

import httpx
import pytest

from tests.conftest import Serving
from tests.running import eventually
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
    assert events[0]["type"] == "speech.audio.delta"
    assert events[-1]["type"] == "error"
    assert events[-1]["error"]["code"] == "CS-SRV-003"


def test_too_long_audio_is_cut_with_its_own_error(serving: Serving) -> None:
    with serving(ToneSynthesizer(), max_audio_seconds=0.5) as url:
        body = {"input": "0123456789", "response_format": "pcm", "stream_format": "sse"}
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


def _sent(url: str, text: str) -> socket.socket:
    """A connection on which a request was sent and nothing has been read."""
    address = urlsplit(url)
    connection = socket.create_connection((str(address.hostname), address.port or 80), timeout=10)
    body = json.dumps({"input": text, "response_format": "pcm"}).encode()
    head = f"POST {SPEECH} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    connection.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
    return connection
