"""Whatever is sent: a 4xx with a stable id and a remedy in both languages, never a 5xx or a stack trace."""

import json
import socket
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.conftest import Serving
from tests.running import HANGS, Server
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
        ('{"input": "\u3000"}'.encode(), "CS-TEXT-001"),
        (b'{"input": "' + b"a" * 100_000 + b'"}', "CS-TEXT-002"),
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
        (b'{"input": "a", "speed": ""}', "CS-REQ-001"),
        (b'{"input": "a", "stream": "no"}', "CS-REQ-001"),
        (b'{"input": "a", "voice": {"id": null}}', "CS-REQ-001"),
        (b'{"input": "a", "voice": ["alloy"]}', "CS-REQ-001"),
        (b'{"input": "a", "model": "tts-1-1106-x"}', "CS-REQ-003"),
    ],
)
def test_speech_bodies(client: httpx.Client, body: bytes, code: str | None) -> None:
    assert refusal(client.post("/v1/audio/speech", content=body, headers=JSON)) in (code, "CS-TEXT-003", "CS-REQ-001")


SPOKEN = {"input", "text", "tts_text"}  # their limit is a setting


def text_fields(client: httpx.Client) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Every field of every operation that takes any text, by the server's own description."""
    description = client.get("/openapi.json").json()

    def texts(path: str, name: str, schema: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
        while "$ref" in schema:
            schema = description["components"]["schemas"][schema["$ref"].rsplit("/", 1)[1]]
        for choice in (*schema.get("anyOf", ()), *schema.get("oneOf", ())):
            yield from texts(path, name, choice)
        for field, inner in schema.get("properties", {}).items():
            yield from texts(path, field, inner)
        if schema.get("type") == "string" and not {"enum", "const", "format", "contentMediaType"} & schema.keys():
            yield path, name, schema

    for path, operations in description["paths"].items():
        for operation in operations.values():
            for parameter in operation.get("parameters", ()):
                yield from texts(path, parameter["name"], parameter["schema"])
            for content in operation.get("requestBody", {}).get("content", {}).values():
                yield from texts(path, "", content["schema"])


def test_every_text_beside_the_spoken_one_is_bounded(client: httpx.Client) -> None:
    fields = list(text_fields(client))
    assert {"instructions", "voice", "id", "prompt_text", "spk_id", "consent", "ref_text"} <= {f[1] for f in fields}
    assert [(path, name) for path, name, schema in fields if name not in SPOKEN and "maxLength" not in schema] == []


@pytest.mark.parametrize(
    ("value", "code"),
    [("a" * 1001, "CS-TEXT-006"), ("a\0", "CS-TEXT-003"), ("\ud800", "CS-TEXT-003")],
    ids=["long", "NUL", "half a pair"],
)
@pytest.mark.parametrize("field", ["instructions", "model", "voice", "voice id"])
def test_fields_of_json(client: httpx.Client, field: str, value: str, code: str) -> None:
    given: dict[str, Any] = {"voice": {"id": value}} if field == "voice id" else {field: value}
    response = client.post("/v1/audio/speech", content=json.dumps({"input": "a", **given}), headers=JSON)
    assert refusal(response) == code
    assert response.json()["error"]["param"] == field.split()[0]


@pytest.mark.parametrize(("value", "code"), [("a" * 1001, "CS-TEXT-006"), ("a\0", "CS-TEXT-003")], ids=["long", "NUL"])
@pytest.mark.parametrize(
    ("path", "field", "required"),
    [
        ("/tts", "speaker", ("text",)),
        ("/inference_sft", "spk_id", ("tts_text",)),
        ("/inference_instruct", "instruct_text", ("tts_text",)),
        ("/inference_zero_shot", "prompt_text", ("tts_text", "prompt_wav")),
        ("/inference_instruct2", "instruct_text", ("tts_text", "prompt_wav")),
        ("/v1/audio/voices", "name", ("audio",)),
        ("/v1/audio/voices", "consent", ("name", "audio")),
        ("/v1/audio/voices", "transcript", ("name", "audio")),
        ("/v1/audio/voices", "ref_text", ("name", "audio")),
    ],
)
def test_fields_of_forms(
    client: httpx.Client, path: str, field: str, required: tuple[str, ...], value: str, code: str
) -> None:
    texts = {name: "a" for name in required if name not in ("audio", "prompt_wav")}
    files = {name: ("a.wav", b"RIFF") for name in required if name in ("audio", "prompt_wav")}
    assert refusal(client.post(path, data={**texts, field: value}, files=files)) == code
    if path != "/v1/audio/voices":
        assert refusal(client.post(path, data=texts, params={field: value}, files=files)) == code


def test_a_field_that_has_two_names_is_given_once(client: httpx.Client) -> None:
    both = {"transcript": "a", "ref_text": "a"}
    for form, files in (
        ({"name": "a", **both}, {"audio": b"RIFF"}),
        ({"name": "a"}, {"audio": b"RIFF", "audio_sample": b"RIFF"}),
        ({"name": "a"}, {"sound": b"RIFF"}),
    ):
        refusal(client.post("/v1/audio/voices", data=form, files=files))


@pytest.mark.parametrize("path", ["/v1/models/nothing", "/v1/models/a/b", "/v1/models/" + "a" * 1001, "/v1/models/%00"])
def test_models_that_are_not_there(client: httpx.Client, path: str) -> None:
    response = client.get(path)
    refusal(response)
    assert response.json()["error"]["param"] == "model"


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
        ("/tts_to_audio", {"params": {"speaker_wav": "mandarin"}}),
        ("/set_tts_settings", {"json": ["temperature"]}),
        ("/set_tts_settings", {"content": b"{"}),
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
    with socket.create_connection((str(address.hostname), address.port or 80), timeout=HANGS) as connection:
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


@settings(max_examples=40)
@given(st.text(max_size=60))
def test_any_text_is_spoken_or_refused(server: Server, text: str) -> None:
    with httpx.Client(base_url=server.url, timeout=HANGS) as client:
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


@pytest.mark.parametrize("text", ["text=你好世界".encode(), b"text=%E4%BD%A0%E5%A5%BD%E4%B8%96%E7%95%8C"])
def test_a_form_is_utf_8_escaped_or_not(serving: Serving, text: bytes) -> None:
    """Four characters make four chunks; taken for Latin-1 they would be twelve."""
    headers = {"Content-Type": "Application/X-WWW-Form-Urlencoded"}
    with serving(ToneSynthesizer()) as url:
        assert len(httpx.post(f"{url}/tts", content=text, headers=headers).content) == 4 * 2400 * 2
        assert refusal(httpx.post(f"{url}/tts", content=b"text=%C4%E3", headers=headers)) == "CS-REQ-001"
        multipart = {"Content-Type": "Multipart/Form-Data; boundary=B"}
        part = b'--B\r\nContent-Disposition: form-data; name="text"\r\n\r\nhey\r\n--B--\r\n'
        assert len(httpx.post(f"{url}/tts", content=part, headers=multipart).content) == 3 * 2400 * 2
