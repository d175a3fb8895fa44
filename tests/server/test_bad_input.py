"""Whatever is sent: a 4xx with a stable id and a remedy in both languages, never a 5xx or a stack trace."""

import socket
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.conftest import Serving
from tests.running import Server
from tests.standins import ToneSynthesizer

JSON = {"Content-Type": "application/json"}


def refusal(response: httpx.Response) -> str:
    """The error id, once the error is as every error has to be."""
    assert 400 <= response.status_code < 500, response.text
    error = response.json()["error"]
    assert error["code"].startswith("CS-")
    for field in ("message", "remedy", "message_zh", "remedy_zh"):
        assert error[field]
    assert "Traceback" not in response.text
    assert response.headers["x-request-id"]
    return str(error["code"])


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b'{"input": ""}', "CS-TEXT-001"),
        (b'{"input": " \\n\\t "}', "CS-TEXT-001"),
        ('{"input": "😀🎉"}'.encode(), "CS-TEXT-001"),
        (b'{"input": "' + b"a" * 1_000_000 + b'"}', "CS-TEXT-002"),
        (b'{"input": "a\\u0000b"}', "CS-TEXT-003"),
        (b'{"input": "a\\ud800b"}', None),
        (b'{"input": "a\\udc00b"}', None),
        (b'{"input": 7}', "CS-REQ-001"),
        (b'{"input": null}', "CS-REQ-001"),
        (b'{"input": ["a"]}', "CS-REQ-001"),
        (b"{}", "CS-REQ-001"),
        (b"", "CS-REQ-001"),
        (b"[]", "CS-REQ-001"),
        (b'"a"', "CS-REQ-001"),
        (b'{"input": "a"', "CS-REQ-001"),
        (b"\xff\xfe\x00", "CS-REQ-001"),
        (b"[" * 100_000, "CS-REQ-001"),
        (b'{"input": "a", "voice": "nobody"}', "CS-VOICE-001"),
        (b'{"input": "a", "voice": "../../etc/passwd"}', "CS-VOICE-001"),
        (b'{"input": "a", "voice": "/etc/passwd"}', "CS-VOICE-001"),
        (b'{"input": "a", "voice": "mandarin\\u0000"}', "CS-VOICE-001"),
        (b'{"input": "a", "voice": "cmn+f2"}', "CS-VOICE-001"),
        (b'{"input": "a", "voice": {"id": "..\\\\.."}}', "CS-VOICE-001"),
        (b'{"input": "a", "voice": 3}', "CS-REQ-001"),
        (b'{"input": "a", "response_format": "midi"}', "CS-REQ-001"),
        (b'{"input": "a", "stream_format": "carrier pigeon"}', "CS-REQ-001"),
        (b'{"input": "a", "model": "nothing"}', "CS-REQ-003"),
        (b'{"input": "a", "speed": 0}', "CS-REQ-001"),
        (b'{"input": "a", "speed": -1}', "CS-REQ-001"),
        (b'{"input": "a", "speed": NaN}', "CS-REQ-001"),
        (b'{"input": "a", "speed": Infinity}', "CS-REQ-001"),
        (b'{"input": "a", "speed": 1e9}', "CS-REQ-001"),
        (b'{"input": "a", "speed": "fast"}', "CS-REQ-001"),
        (b'{"input": "a", "speed": true}', "CS-REQ-001"),
    ],
)
def test_speech_bodies(client: httpx.Client, body: bytes, code: str | None) -> None:
    assert refusal(client.post("/v1/audio/speech", content=body, headers=JSON)) in (code, "CS-TEXT-003", "CS-REQ-001")


@pytest.mark.parametrize("media_type", ["text/plain", "application/xml", "application/x-www-form-urlencoded", ""])
def test_a_wrong_content_type(client: httpx.Client, media_type: str) -> None:
    headers = {"Content-Type": media_type}
    assert refusal(client.post("/v1/audio/speech", content=b"input=hello", headers=headers)) == "CS-REQ-001"


@pytest.mark.parametrize(
    ("path", "request_"),
    [
        ("/tts", {"data": {"text": ""}}),
        ("/tts", {"data": {"text": "hi", "speaker": "../../../x"}}),
        ("/tts", {"data": {}}),
        ("/tts", {"content": b"text=%00", "headers": {"Content-Type": "application/x-www-form-urlencoded"}}),
        ("/tts", {"content": b"--x\r\nContent-Disp", "headers": {"Content-Type": "multipart/form-data; boundary=x"}}),
        ("/tts", {"content": b"text=hi", "headers": {"Content-Type": "multipart/form-data"}}),
        ("/tts", {"json": {"text": "hi"}}),
        ("/tts_to_audio", {"json": {"text": "hi", "speaker_wav": "female.wav"}}),
        ("/tts_to_audio", {"data": {"text": "hi"}}),
        ("/inference_sft", {"data": {"tts_text": "hi", "spk_id": "nobody"}}),
        ("/inference_zero_shot", {"data": {"tts_text": "hi", "prompt_text": "x", "prompt_wav": "not a file"}}),
        ("/inference_zero_shot", {"data": {"tts_text": "hi"}}),
        ("/inference_cross_lingual", {"files": {"prompt_wav": ("../../x.wav", b"RI")}, "data": {"tts_text": "hi"}}),
        ("/nowhere", {}),
        ("/livez", {}),
    ],
)
def test_forms_and_addresses(client: httpx.Client, path: str, request_: dict[str, Any]) -> None:
    refusal(client.post(path, **request_))


@pytest.mark.parametrize("path", ["/web/../../../pyproject.toml", "/web/%2e%2e/%2e%2e/settings.py", "/web//etc/passwd"])
def test_the_page_serves_nothing_but_its_own_files(client: httpx.Client, path: str) -> None:
    refusal(client.get(path))


def exchange(url: str, request: bytes, *, hang_up: bool) -> bytes:
    """Send bytes as they are, and read to the end."""
    address = urlsplit(url)
    with socket.create_connection((str(address.hostname), address.port or 80), timeout=10) as connection:
        connection.sendall(request)
        if hang_up:
            connection.shutdown(socket.SHUT_WR)
        return b"".join(iter(lambda: connection.recv(65536), b""))


def test_an_upload_that_breaks_off_harms_nobody(server: Server, client: httpx.Client) -> None:
    head = b"POST /inference_zero_shot HTTP/1.1\r\nHost: localhost\r\nContent-Type: multipart/form-data; boundary=b\r\n"
    part = b'--b\r\nContent-Disposition: form-data; name="prompt_wav"; filename="a.wav"\r\n\r\nRIFF'
    unterminated = head + b"Connection: close\r\nContent-Length: %d\r\n\r\n" % len(part) + part
    assert exchange(server.url, unterminated, hang_up=False).startswith(b"HTTP/1.1 400")
    half = head + b"Content-Length: 100000\r\n\r\n" + part
    assert exchange(server.url, half, hang_up=True) == b""  # nobody is left to answer
    assert client.get("/livez").status_code == 200


def test_bodies_over_the_limit_are_refused_declared_or_not(serving: Serving) -> None:
    with serving(ToneSynthesizer(), max_upload_bytes=2000) as url, httpx.Client(base_url=url) as client:
        big = b'{"input": "' + b"a" * 3000 + b'"}'
        assert refusal(client.post("/v1/audio/speech", content=big, headers=JSON)) == "CS-REQ-002"
        pieces = iter([big[:1500], big[1500:]])  # chunked: no length is declared
        assert refusal(client.post("/v1/audio/speech", content=pieces, headers=JSON)) == "CS-REQ-002"
        files = {"prompt_wav": b"x" * 3000}
        form = {"tts_text": "hi", "prompt_text": "x"}
        assert refusal(client.post("/inference_zero_shot", data=form, files=files)) == "CS-REQ-002"
        assert client.post("/v1/audio/speech", json={"input": "hi"}).status_code == 200


@settings(deadline=None, max_examples=40)
@given(st.text(max_size=60))
def test_any_text_is_spoken_or_refused(server: Server, text: str) -> None:
    with httpx.Client(base_url=server.url, timeout=30) as client:
        response = client.post("/v1/audio/speech", json={"input": text, "response_format": "pcm"})
        assert response.status_code in (200, 400)
        if response.status_code == 400:
            refusal(response)
        else:
            assert len(response.content) > 0


@pytest.mark.parametrize(("path", "methods"), [("/v1/audio/voices", "GET, POST"), ("/v1/audio/voices/anna", "DELETE")])
def test_a_wrong_method_is_told_the_right_ones(client: httpx.Client, path: str, methods: str) -> None:
    answer = client.put(path)
    assert (answer.status_code, answer.headers["allow"]) == (405, methods)
