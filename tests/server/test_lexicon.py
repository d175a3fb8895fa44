"""The lexicon by HTTP, and every way of a text to the voice."""

import json
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import httpx
import pytest

from tests.conftest import Serving
from tests.running import Server
from tests.server.test_text import WAYS, Ask
from tests.standins import CapableSynthesizer, ToneSynthesizer

PATH = "/v1/audio/lexicon"


@pytest.fixture(scope="module")
def voice() -> CapableSynthesizer:
    return CapableSynthesizer()


@pytest.fixture(scope="module")
def url(serving: Serving, voice: CapableSynthesizer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with serving(voice, voices_dir=tmp_path_factory.mktemp("voices")) as url:
        httpx.put(f"{url}{PATH}/GIF", json={"respelling": "jiff"}).raise_for_status()
        httpx.put(f"{url}{PATH}/{quote('行长')}", json={"pinyin": "hang2 zhang3"}).raise_for_status()
        yield url


@pytest.mark.parametrize("ask", WAYS.values(), ids=WAYS.keys())
def test_every_way_in_says_the_words_so(url: str, voice: CapableSynthesizer, ask: Ask) -> None:
    voice.said.clear()
    ask(url, "GIF给行长。", {})
    ask(url, "A GIF.", {"normalize": False})
    assert voice.said == ["jiff给[h][áng][zh][ǎng]。", "A GIF."]


def test_a_voice_that_knows_no_marks_says_the_respelling(serving: Serving, tmp_path: Path) -> None:
    class Plain(CapableSynthesizer):
        capabilities = ToneSynthesizer.capabilities

    voice = Plain()
    with serving(voice, voices_dir=tmp_path) as url:
        httpx.put(f"{url}{PATH}/read", json={"respelling": "red", "phonemes": "R EH1 D"}).raise_for_status()
        httpx.put(f"{url}{PATH}/tone", json={"respelling": "own"}, params={"voice": "TONE"}).raise_for_status()
        body = {"respelling": "own", "voice": "tone"}
        assert httpx.put(f"{url}{PATH}/tone", json=body).json()["voice"] == "tone"
        voice.said.clear()
        httpx.post(f"{url}/v1/audio/speech", json={"input": "I read a tone."}).raise_for_status()
        entries = httpx.get(url + PATH).json()["entries"]
    assert voice.said == ["I red a own."]
    assert [(each["word"], each["voice"]) for each in entries] == [("read", ""), ("tone", "tone")]


def test_entries_are_added_replaced_listed_and_deleted_and_survive_a_restart(tmp_path: Path) -> None:
    words = ("AC/DC", "C++", "重庆", "what is it?", "100%")
    folders = [tmp_path / name for name in ("first", "second", "voices")]
    for folder in folders[:2]:
        folder.mkdir()
    with Server(folders[0], voices_dir=folders[2]) as server, httpx.Client(base_url=server.url) as client:
        for word in words:
            for respelling in ("first", "second"):
                answer = client.put(f"{PATH}/{quote(word, safe='')}", json={"respelling": respelling})
                assert (answer.status_code, answer.json()["respelling"]) == (200, respelling)
        assert client.get(f"{PATH}/AC/DC").json()["word"] == "AC/DC"
    with Server(folders[1], voices_dir=folders[2]) as server, httpx.Client(base_url=server.url) as client:
        assert [each["word"] for each in client.get(PATH).json()["entries"]] == sorted(words)
        for word in words:
            address = f"{PATH}/{quote(word, safe='')}"
            assert client.delete(address).json() == {"id": word, "deleted": True}
            for again in (client.delete(address), client.get(address)):
                assert (again.status_code, again.json()["error"]["code"]) == (404, "CS-LEX-002")
        assert client.get(PATH).json() == {"entries": []}
        assert server.stop() == 0
        assert "Traceback" not in server.text()


@pytest.mark.parametrize(
    ("word", "body", "code"),
    [
        ("a", {}, "CS-LEX-001"),
        ("a", {"respelling": "..."}, "CS-LEX-001"),
        ("a", {"respelling": "b" * 201}, "CS-LEX-001"),
        ("a", {"respelling": "b" * 1001}, "CS-TEXT-006"),
        ("a", {"respelling": "\ud800"}, "CS-TEXT-003"),
        ("a", {"respelling": 1}, "CS-REQ-001"),
        ("a", [], "CS-REQ-001"),
        ("a", {"pinyin": "hang2", "phonemes": "AA0"}, "CS-LEX-001"),
        ("a", {"pinyin": "qq1"}, "CS-LEX-001"),
        ("...", {"respelling": "b"}, "CS-LEX-001"),
        ("a" * 65, {"respelling": "b"}, "CS-LEX-001"),
        ("a\0b", {"respelling": "b"}, "CS-TEXT-003"),
    ],
)
def test_what_is_no_entry_is_refused(url: str, word: str, body: object, code: str) -> None:
    content = json.dumps(body).encode()
    answer = httpx.put(f"{url}{PATH}/{quote(word)}", content=content, headers={"Content-Type": "application/json"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, code)


def test_an_entry_for_a_voice_that_is_not_there_is_refused(url: str) -> None:
    answer = httpx.put(f"{url}{PATH}/a", json={"respelling": "b"}, params={"voice": "nobody"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "CS-VOICE-001")
    assert httpx.delete(f"{url}{PATH}/a", params={"voice": "nobody"}).status_code == 404


def test_another_method_is_told_which_there_are(url: str) -> None:
    for path, methods in ((PATH, "GET"), (f"{PATH}/AC/DC", "DELETE, GET, PUT")):
        answer = httpx.post(url + path, json={})
        assert (answer.status_code, answer.headers["Allow"]) == (405, methods)
