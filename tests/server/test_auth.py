from pathlib import Path

import httpx
import pytest

from tests.conftest import Serving
from tests.running import Server
from tests.standins import ToneSynthesizer

WORK = [
    ("POST", "/v1/audio/speech"),
    ("GET", "/v1/models"),
    ("GET", "/v1/audio/voices"),
    ("POST", "/v1/audio/jobs"),
    ("GET", "/v1/audio/jobs"),
    ("GET", "/v1/audio/lexicon"),
    ("PUT", "/v1/audio/lexicon/word"),
    ("DELETE", "/v1/audio/lexicon/word"),
    ("GET", "/api/speakers"),
    ("GET", "/speakers"),
    ("POST", "/tts"),
    ("POST", "/tts_to_audio"),
    ("GET", "/inference_sft"),
    ("POST", "/inference_instruct2"),
    ("GET", "/metrics"),
]


@pytest.mark.parametrize(
    "header", [None, "Bearer wrong", "Bearer", "Basic b25l", "one", "Bearer one two", "Bearer 密钥".encode()]
)
def test_no_work_without_a_key(serving: Serving, header: str | bytes | None) -> None:
    headers = {b"Authorization": header} if header else {}
    with serving(ToneSynthesizer(), api_keys="one,two") as url, httpx.Client(base_url=url) as client:
        for method, path in WORK:
            refused = client.request(method, path, headers=headers)  # type: ignore[arg-type]
            assert refused.status_code == 401, path
            assert refused.json()["error"]["code"] == "CS-AUTH-001"
            assert refused.headers["www-authenticate"] == "Bearer"
        assert httpx.post(url, json={"text": "Hi"}).status_code == 401  # the same address as the page's, but it speaks
        for path in ("/", "/livez", "/readyz", "/health", "/openapi.json"):
            assert client.get(path).status_code == 200


@pytest.mark.parametrize("key", ["one", "two"])
def test_any_of_the_keys_opens(serving: Serving, key: str) -> None:
    with serving(ToneSynthesizer(), api_keys="one,\ntwo\n") as url:
        headers = {"Authorization": f"bearer {key}"}
        assert httpx.post(f"{url}/v1/audio/speech", json={"input": "hi"}, headers=headers).status_code == 200


def test_keys_from_a_file(serving: Serving, tmp_path: Path) -> None:
    (tmp_path / "keys").write_text("first\nsecond\n")
    with serving(ToneSynthesizer(), api_keys_file=tmp_path / "keys") as url:
        assert httpx.get(f"{url}/v1/models").status_code == 401
        assert httpx.get(f"{url}/v1/models", headers={"Authorization": "Bearer second"}).status_code == 200


def test_no_key_in_the_log(tmp_path: Path) -> None:
    with Server(tmp_path, api_keys="sesame-open", log_level="debug") as server:
        httpx.get(f"{server.url}/v1/models", headers={"Authorization": "Bearer sesame-open"})
        httpx.get(f"{server.url}/v1/models", headers={"Authorization": "Bearer sesame-wrong"})
        httpx.get(f"{server.url}/v1/models?key=sesame-open")  # where no key belongs
        assert server.stop() == 0
    assert "GET /v1/models" in server.text()
    assert "sesame" not in server.text()
