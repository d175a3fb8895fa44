"""Named keys as their users meet them: a real server, the `openai` client, sockets, the commands."""

import json
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from prometheus_client.parser import text_string_to_metric_families
from websockets.exceptions import ConnectionClosed

from cosyserve.keys.key import PRIORITIES, Limits, Priority
from cosyserve.keys.key_file import KeyFile
from cosyserve.server import service
from cosyserve.server.quotas import Quotas
from cosyserve.server.usage import Usage
from cosyserve.speech.voices import Library
from tests.conftest import Serving
from tests.running import HANGS, Server, eventually
from tests.server.test_quotas import Clocks
from tests.server.test_socket import audio_until, event, open_socket, send
from tests.server.test_text import WAYS, Ask
from tests.speech.recordings import speech
from tests.standins import CapableSynthesizer, FailingSynthesizer, GatedSynthesizer, ToneSynthesizer
from tests.test_cli import run

SPEECH = "/v1/audio/speech"
TEXT = "Ten chars."  # in ten characters


@dataclass
class Place:
    """A server and the folder in which its keys are."""

    url: str
    state: Path

    def add(self, name: str, priority: Priority = "normal", **limits: int) -> dict[str, str]:
        """The headers of a new key."""
        return bearer(KeyFile(self.state).add(name, priority, Limits(**limits)))

    @property
    def main(self) -> dict[str, str]:
        return bearer((self.state / "api_key").read_text().strip())

    def ask(self, headers: dict[str, str], text: str = TEXT) -> httpx.Response:
        return httpx.post(self.url + SPEECH, json={"input": text, "response_format": "pcm"}, headers=headers)

    def usage(self, headers: dict[str, str]) -> dict[str, dict[str, Any]]:
        """What each key has used, and its limits, by its name."""
        told = httpx.get(f"{self.url}/v1/usage", headers=headers).raise_for_status().json()
        return {each["key"]: each for each in told["keys"]}


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def used(requests: int, characters: int) -> dict[str, int]:
    """In a minute and in a day."""
    return {
        "requests_per_minute": requests,
        "characters_per_minute": characters,
        "requests_per_day": requests,
        "characters_per_day": characters,
    }


@pytest.fixture(scope="module", autouse=True)
def clocks() -> Iterator[Clocks]:
    """Those of the servers in this process, which stand still: a test may take over a minute, or until midnight."""
    clocks = Clocks()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(service, "Usage", partial(Usage, wall=clocks.wall))
        patch.setattr(service, "Quotas", partial(Quotas, clock=clocks))
        yield clocks


@pytest.fixture(scope="module")
def place(serving: Serving, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """A server that was open to everybody on this machine until the first key was added."""
    state = tmp_path_factory.mktemp("state")
    with serving(ToneSynthesizer(), state_dir=state) as url:
        yield Place(url, state)


Among = Callable[..., Any]


@pytest.fixture
def stand_in(serving: Serving, tmp_path: Path) -> Among:
    """A server around a stand-in voice, with a key of its own."""

    def among(voice: ToneSynthesizer, **settings: Any) -> Any:
        return serving(voice, state_dir=tmp_path, api_keys="main", **settings)

    return among


def test_the_first_key_closes_a_server_and_its_openai_client_meets_a_429(tmp_path: Path) -> None:
    with Server(tmp_path) as server:
        place = Place(server.url, tmp_path / "state")
        assert place.ask({}).status_code == 200
        command = ("keys", "add", "anna", "--requests-per-minute", "2", "--characters-per-day", "100000")
        key = run(*command, COSYSERVE_STATE_DIR=str(place.state)).stdout.decode().strip()
        assert place.ask({}).status_code == 401
        heard: list[Mapping[str, str]] = []
        client = openai.OpenAI(base_url=f"{place.url}/v1", api_key=key, max_retries=0)
        with client, pytest.raises(openai.RateLimitError) as refused:
            while len(heard) < 100:  # the third, unless this machine takes a minute for two
                answer = client.audio.speech.with_raw_response.create(model="tts-1", voice="alloy", input=TEXT)
                heard.append(answer.headers)
        assert len(heard) >= 2
        assert [heard[0][f"x-ratelimit-limit-{kind}"] for kind in ("requests", "tokens")] == ["2", "100000"]
        assert heard[0]["x-ratelimit-remaining-tokens"] == str(100_000 - len(TEXT))
        assert refused.value.code == "CS-QUOTA-001"
        assert isinstance(refused.value.body, dict)
        assert "2 requests a minute" in refused.value.body["message"]
        assert "每分钟 2 次请求" in refused.value.body["message_zh"]
        told = refused.value.response.headers
        assert 1 <= int(told["retry-after"]) <= 61
        assert told["x-ratelimit-remaining-requests"] == "0"
        assert server.stop() == 0
        assert "Traceback" not in server.text()
        assert key not in server.text()


def test_after_the_time_that_a_429_says_the_key_may_go_on_and_others_never_notice(place: Place, clocks: Clocks) -> None:
    anna, bob = (place.add(name, requests_per_minute=2) for name in ("anna", "bob"))
    assert [place.ask(anna).status_code for _ in range(2)] == [200, 200]
    refused = place.ask(anna)
    assert refused.status_code == 429
    assert place.ask(bob).status_code == 200
    clocks.seconds += int(refused.headers["retry-after"]) - 1
    assert place.ask(anna).status_code == 429
    clocks.seconds += 1
    assert place.ask(anna).status_code == 200


def test_a_key_sees_its_own_usage_and_the_main_key_sees_all(place: Place) -> None:
    dora = place.add("dora", "high", characters_per_minute=25)
    for status, text in ((200, TEXT), (400, ""), (400, "much " * 6), (200, TEXT), (429, TEXT)):
        assert place.ask(dora, text).status_code == status
    own = place.usage(dora)
    assert own == {"dora": {"key": "dora", "priority": "high", "used": used(2, 20), "limits": own["dora"]["limits"]}}
    assert own["dora"]["limits"] == Limits(characters_per_minute=25).model_dump()
    everybody = place.usage(place.main)
    assert {"main", "dora"} <= set(everybody)
    assert everybody["dora"] == own["dora"]


def test_metrics_have_the_names_of_keys_for_the_owner_alone(place: Place) -> None:
    key = place.add("erik", requests_per_day=1)
    assert [place.ask(key).status_code for _ in range(2)] == [200, 429]
    counted = {
        ("cosyserve_key_requests_total", "ok"): 1,
        ("cosyserve_key_requests_total", "limited"): 1,
        ("cosyserve_key_characters_total", ""): len(TEXT),
        ("cosyserve_key_refused_total", "requests_per_day"): 1,
    }
    # A request is counted once its client has it all.
    eventually(lambda: samples(httpx.get(f"{place.url}/metrics", headers=place.main).text, "erik") == counted)
    others = httpx.get(f"{place.url}/metrics", headers=key).text
    assert "cosyserve_requests_total" in others and "cosyserve_key" not in others
    KeyFile(place.state).revoke("erik")
    assert not samples(httpx.get(f"{place.url}/metrics", headers=place.main).text, "erik")


def samples(text: str, name: str) -> dict[tuple[str, str], float]:
    """The values of a key, by their names and other labels."""
    return {
        (sample.name, sample.labels.get("outcome", sample.labels.get("limit", ""))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.labels.get("key") == name
    }


def test_a_socket_has_the_limits_of_its_key_and_is_closed_when_that_is_revoked(place: Place) -> None:
    key = place.add("finn", requests_per_minute=2, characters_per_minute=20)
    with open_socket(place.url, additional_headers=key) as socket:
        for text in ("Ten ", "chars."):
            send(socket, "input_text.append", text=text)
        send(socket, "input_text.flush")
        send(socket, "input_text.append", text="Eleven char")
        told = {message["type"]: message for message in (event(socket), event(socket))}  # in either order
        assert told["error"]["error"]["code"] == "CS-QUOTA-002"
        assert told["error"]["error"]["type"] == "rate_limit_error"
        assert told["speech.audio.done"]["usage"]["input_tokens"] == 10  # it was spoken to its end
        send(socket, "input_text.append", text="Ten ")
        send(socket, "input_text.append", text="chars.!")  # of which the last is one too many
        assert event(socket)["error"]["code"] == "CS-QUOTA-002"
        assert place.usage(key)["finn"]["used"] == used(2, 14)
        send(socket, "input_text.append", text="a")
        assert event(socket)["error"]["code"] == "CS-QUOTA-001"
        send(socket, "input_text.flush")  # without any text, which costs nothing
        audio_until(socket, "speech.audio.done")
        KeyFile(place.state).revoke("finn")
        send(socket, "input_text.append", text="a")
        assert event(socket)["error"]["code"] == "CS-AUTH-001"
        with pytest.raises(ConnectionClosed) as closed:
            socket.recv(10)
        assert closed.value.rcvd and closed.value.rcvd.code == 1008


def test_what_was_used_today_survives_a_restart(stand_in: Among, tmp_path: Path) -> None:
    key = bearer(KeyFile(tmp_path).add("anna", limits=Limits(requests_per_day=1)))
    with stand_in(ToneSynthesizer()) as url:
        assert Place(url, tmp_path).ask(key).status_code == 200
    with stand_in(ToneSynthesizer()) as url:
        refused = Place(url, tmp_path).ask(key)
        assert refused.json()["error"]["code"] == "CS-QUOTA-003"
        assert refused.headers["x-should-retry"] == "false"  # openai's client would not wait for so long


@pytest.fixture(scope="module")
def every_way(serving: Serving, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """A server without keys, where all requests count as the owner's."""
    state = tmp_path_factory.mktemp("state")
    with serving(CapableSynthesizer(), state_dir=state) as url:
        yield Place(url, state)


@pytest.mark.parametrize("ask", WAYS.values(), ids=WAYS.keys())
def test_every_way_in_is_counted(every_way: Place, ask: Ask) -> None:
    before = every_way.usage({})["main"]["used"]
    ask(every_way.url, "Hello.", {})
    after = every_way.usage({})["main"]["used"]
    assert {name: after[name] - before[name] for name in after} == used(1, 6)


def test_revoking_a_key_lets_its_stream_end_and_nothing_else_begin(stand_in: Among, tmp_path: Path) -> None:
    voice = GatedSynthesizer()
    with stand_in(voice) as url:
        here = Place(url, tmp_path)
        key = here.add("anna")
        voice.budget = 1
        body = {"input": "hello", "response_format": "pcm"}
        with httpx.stream("POST", url + SPEECH, json=body, headers=key) as stream:
            pieces = stream.iter_raw()
            next(pieces)
            KeyFile(tmp_path).revoke("anna")
            assert here.ask(key).status_code == 401
            voice.budget = math.inf
            assert sum(map(len, pieces)) > 0
        assert here.ask(bearer("main")).status_code == 200


def test_what_is_not_heard_does_not_count(stand_in: Among, tmp_path: Path) -> None:
    with stand_in(FailingSynthesizer()) as url:
        here = Place(url, tmp_path)
        key = here.add("anna", requests_per_minute=1)
        assert here.ask(key, "fail").status_code == 500
        assert here.usage(key)["anna"]["used"] == used(0, 0)
        with open_socket(url, additional_headers=key) as socket:
            send(socket, "input_text.append", text="fail")
            send(socket, "input_text.flush")
            assert event(socket)["error"]["code"] == "CS-SRV-003"
            send(socket, "session.update", input_format="ssml")
            send(socket, "input_text.append", text="<a")
            send(socket, "input_text.flush")
            assert event(socket)["error"]["code"] == "CS-TEXT-007"
        assert here.usage(key)["anna"]["used"] == used(0, 0)
        counted = httpx.get(f"{url}/metrics", headers=bearer("main")).text
        assert 'cosyserve_key_requests_total{key="anna",outcome="refused"} 1.0' in counted
        assert 'cosyserve_key_requests_total{key="anna",outcome="cancelled"}' not in counted
        assert here.ask(key, "a").status_code == 200


@pytest.mark.parametrize(
    "path",
    [
        SPEECH,
        "/v1/audio/jobs",
        "/v1/audio/voices",
        "/tts",
        "/inference_sft",
        "/inference_zero_shot",
        "/",
        "/tts_to_audio",
    ],
)
def test_a_key_without_a_request_left_is_refused_before_a_body_is_read(place: Place, path: str) -> None:
    key = place.add(f"asks{path.replace('/', '.')}", requests_per_day=1)
    assert place.ask(key).status_code == 200
    with closing(HTTPConnection(place.url.removeprefix("http://"), timeout=HANGS)) as connection:
        connection.putrequest("POST", path)
        for name, value in {**key, "Content-Type": "application/json", "Content-Length": "1000"}.items():
            connection.putheader(name, value)
        connection.endheaders()  # and nothing of the body
        answer = connection.getresponse()
        assert (answer.status, json.load(answer)["error"]["code"]) == (429, "CS-QUOTA-003")
        assert answer.headers["x-ratelimit-remaining-requests"] == "0"


def test_a_voice_that_is_added_counts_as_a_request_and_one_that_cannot_be_does_not(
    stand_in: Among, tmp_path: Path
) -> None:
    voice = CapableSynthesizer()
    voice.library = Library(tmp_path / "voices")  # type: ignore[assignment]
    with stand_in(voice) as url:
        here = Place(url, tmp_path)
        key = here.add("anna", requests_per_day=1)
        form = {"name": "Anna", "consent": "Anna, 2026-11-27"}
        for recording, status in ((b"RIFF", 400), (speech(), 201), (speech(), 429)):
            answer = httpx.post(f"{url}/v1/audio/voices", data=form, files={"audio": recording}, headers=key)
            assert answer.status_code == status
            assert status == 400 or answer.headers["x-ratelimit-remaining-requests"] == "0"
        assert here.usage(key)["anna"]["used"] == used(1, 0)


def test_who_is_sent_away_by_a_full_server_has_not_used_anything(stand_in: Among, tmp_path: Path) -> None:
    voice = GatedSynthesizer()
    with stand_in(voice, max_streams=1, max_queue=0) as url:
        here = Place(url, tmp_path)
        key = here.add("anna", requests_per_minute=1)
        voice.budget = 0
        with open_socket(url, additional_headers=bearer("main")) as socket:
            send(socket, "input_text.append", text="hello. And")
            eventually(lambda: voice.inside == 1)
            assert here.ask(key).json()["error"]["code"] == "CS-BUSY-001"
            assert here.usage(key)["anna"]["used"] == used(0, 0)
            voice.budget = math.inf


def test_a_high_key_goes_before_a_low_one_that_came_first(stand_in: Among, tmp_path: Path) -> None:
    voice = GatedSynthesizer()
    with stand_in(voice, max_streams=1, max_queue=2) as url:
        here = Place(url, tmp_path)
        keys = {name: here.add(name, name) for name in PRIORITIES}
        voice.budget = 0
        sockets = []
        for waiting, headers in enumerate((bearer("main"), keys["low"], keys["low"], keys["high"])):
            socket = open_socket(url, additional_headers=headers)
            send(socket, "input_text.append", text="a")
            send(socket, "input_text.flush")
            sockets.append(socket)
            eventually(partial(_wait, url, min(waiting, 2)))
        assert event(sockets[2])["error"]["code"] == "CS-BUSY-001"  # the last of the low ones has made room
        done = []
        voice.budget = 1
        audio_until(sockets[0], "speech.audio.done")
        eventually(lambda: waits(url) == 1)
        voice.budget = 1
        done.append(audio_until(sockets[3], "speech.audio.done"))
        assert waits(url) == 0
        voice.budget = 1
        done.append(audio_until(sockets[1], "speech.audio.done"))
        for socket in sockets:
            socket.close()
        assert all(audio for audio, _ in done)


def _wait(url: str, count: int) -> bool:
    return waits(url) == count


def waits(url: str) -> int:
    return int(httpx.get(f"{url}/readyz", headers=bearer("main")).json()["waiting"])
