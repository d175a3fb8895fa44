"""Two replicas of CosyVoice3, in a small size: the server before them says who speaks, and hands on what it can."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from tests.cosyvoice.conftest import models3 as models3
from tests.running import Server
from tests.scale.conftest import Scaled
from tests.speech.recordings import speech


@pytest.fixture(scope="module")
def server(models3: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("scaled3")
    model = {"model": "cosyvoice3-0.5b", "synthesizer": "cosyvoice", "models_dir": models3, "dtype": "float32"}
    with Scaled(folder, (), max_streams=4, **model) as running:
        yield running
        assert running.stop() == 0


def spoken(client: httpx.Client, text: str = "Hi.", **more: object) -> bytes:
    answer = client.post("/v1/audio/speech", json={"input": text, "response_format": "pcm", "seed": 7, **more})
    assert answer.status_code == 200, answer.text
    return answer.content


def test_the_server_names_the_model_of_its_replicas(client: httpx.Client) -> None:
    state = client.get("/readyz").json()
    assert (state["synthesizer"], state["model"], state["replicas_ready"]) == ("cosyvoice3", "cosyvoice3-0.5b", 2)
    assert state["capabilities"] == ["clone", "instruct", "pronounce"]
    assert "CosyVoice3 from" in state["why"]
    assert [each["id"] for each in client.get("/v1/models").json()["data"]] == ["cosyvoice3-0.5b"]


def test_phonemes_and_instructions_reach_the_replicas(client: httpx.Client) -> None:
    plain = spoken(client, "报道予好评。")
    assert spoken(client, "报道[j][ǐ]予好评。") == spoken(client, "报道[j][ǐ]予好评。") != plain
    assert spoken(client, "报道予好评。", instructions="请用广东话表达。") != plain
    assert spoken(client, "a[i] b") == spoken(client, "a i b")


def test_a_voice_that_one_has_learnt_is_heard_through_all(client: httpx.Client) -> None:
    form = {"name": "anna", "transcript": "你好", "consent": "a machine spoke it"}
    added = client.post("/v1/audio/voices", data=form, files={"audio": ("anna.wav", speech(), "audio/wav")})
    assert added.status_code == 201, added.text
    with ThreadPoolExecutor(4) as pool:
        answers = set(pool.map(lambda _: spoken(client, voice="anna"), range(8)))
    assert len(answers) == 1  # the same seed, whoever speaks
    assert answers != {spoken(client)}
