"""Two replicas of CosyVoice2, in a small size: what one learns all know, and what is lost amid a sentence."""

import os
import signal
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Semaphore

import httpx
import pytest

from tests.cosyvoice.conftest import models as models
from tests.running import HANGS, Server, eventually
from tests.scale.conftest import Scaled
from tests.scale.test_local import heard, ready, replicas, workers
from tests.speech.recordings import speech

SENTENCE = "Here is a sentence that goes on and on "
# As long as a segment may be, so that it is still being spoken when its replica goes.
LONG_SENTENCE = SENTENCE + "and does not come to its end " * 9


@pytest.fixture(scope="module")
def server(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Its replicas see the folder of voices through a link, as another machine sees it through a mount."""
    folder = tmp_path_factory.mktemp("scaled")
    (folder / "voices").mkdir()
    (folder / "seen").symlink_to("voices")
    python = folder / "python-of-replicas"
    python.write_text(f'#!/bin/sh\nCOSYSERVE_VOICES_DIR={folder / "seen"} exec {sys.executable} "$@"\n')
    python.chmod(0o755)
    voices = {"voices_dir": folder / "voices", "replica_python": python}
    model = {"synthesizer": "cosyvoice2", "models_dir": models, "dtype": "float32"}
    with Scaled(folder, (), max_streams=4, unload_seconds=0.1, **voices, **model) as running:
        yield running
        assert running.stop() == 0


def spoken(client: httpx.Client, voice: str) -> httpx.Response:
    asked = {"input": "Hi.", "voice": voice, "response_format": "pcm", "seed": 7}
    return client.post("/v1/audio/speech", json=asked)


def zero_shot(client: httpx.Client, recording: bytes) -> httpx.Response:
    asked = {"tts_text": "Hi.", "prompt_text": "你好"}
    files = {"prompt_wav": ("prompt.wav", recording, "audio/wav")}
    return client.post("/inference_zero_shot", data=asked, files=files)


def test_replicas_sleep_each_by_itself_and_sound_as_before(client: httpx.Client, server: Server) -> None:
    def spoken() -> bytes:
        answer = client.post("/v1/audio/speech", json={"input": "Hi.", "response_format": "pcm", "seed": 3})
        assert answer.status_code == 200, answer.text
        return answer.content

    before, slept = spoken(), server.text().count("Asleep: ")
    eventually(lambda: server.text().count("Asleep: ") > slept)
    assert client.get("/readyz").json()["status"] == "ready"  # as there are replicas to wake
    assert spoken() == before
    eventually(lambda: "Awake: " in server.text())


def test_a_voice_that_one_has_learnt_is_heard_through_all(client: httpx.Client, server: Server) -> None:
    form = {"name": "anna", "transcript": "你好", "consent": "a machine spoke it"}
    added = client.post("/v1/audio/voices", data=form, files={"audio": ("anna.wav", speech(), "audio/wav")})
    assert added.status_code == 201, added.text
    before = [sum(worker.cpu_times()[:2]) for worker in workers(server)]
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda _: spoken(client, "anna"), range(12)))
    assert {answer.status_code for answer in answers} == {200}, answers[0].text
    assert len({answer.content for answer in answers}) == 1  # the same seed, whoever speaks
    assert all(sum(worker.cpu_times()[:2]) > was for worker, was in zip(workers(server), before, strict=True))
    assert client.delete("/v1/audio/voices/anna").status_code == 200
    with ThreadPoolExecutor(4) as pool:
        assert {answer.status_code for answer in pool.map(lambda _: spoken(client, "anna"), range(8))} == {400}


def test_a_bad_recording_is_refused_by_the_replica_with_the_reason(client: httpx.Client) -> None:
    form = {"name": "bad", "transcript": "你好", "consent": "a machine spoke it"}
    refused = client.post("/v1/audio/voices", data=form, files={"audio": ("x.wav", b"no sound", "audio/wav")})
    assert refused.status_code == 400
    assert refused.json()["error"]["code"].startswith("CS-VOICE-")


def test_a_bad_recording_ends_its_own_request_and_no_other(client: httpx.Client, server: Server) -> None:
    before = replicas(server)
    first = Semaphore(0)
    with ThreadPoolExecutor(4) as pool:  # more streams than one replica has room for, so that both are speaking
        streams = [pool.submit(heard, client, SENTENCE, first.release) for _ in range(3)]
        assert all(first.acquire(timeout=HANGS) for _ in range(3))
        refused = [zero_shot(client, b"no sound") for _ in range(4)]
        ends = [failed for _, failed in (stream.result() for stream in streams)]
    assert {(each.status_code, each.json()["error"]["code"]) for each in refused} == {(400, "CS-VOICE-101")}
    assert ends == ["", "", ""]
    assert replicas(server) == before  # by their pids and the times they began


def test_a_voice_that_a_replica_cannot_learn_is_refused_with_its_reason(client: httpx.Client, server: Server) -> None:
    before = replicas(server)
    seen, elsewhere = server.log.with_name("seen"), server.log.with_name("elsewhere")
    elsewhere.mkdir()
    seen.unlink()
    seen.symlink_to("elsewhere")
    try:
        form = {"name": "far", "transcript": "你好", "consent": "a machine spoke it"}
        refused = client.post("/v1/audio/voices", data=form, files={"audio": ("x.wav", speech(), "audio/wav")})
    finally:
        seen.unlink()
        seen.symlink_to("voices")
    assert refused.json()["error"]["code"] == "CS-RAY-006"
    assert "far" not in client.get("/v1/audio/voices").text
    assert replicas(server) == before


def test_a_recording_that_comes_with_a_request_is_spoken_in(client: httpx.Client) -> None:
    answer = zero_shot(client, speech())
    assert answer.status_code == 200, answer.text
    assert len(answer.content) > 1000


def test_a_sentence_that_was_being_heard_ends_with_an_error_and_the_rest_is_spoken(
    client: httpx.Client, server: Server
) -> None:
    first = Semaphore(0)
    with ThreadPoolExecutor(3) as pool:  # a replica has room for two, so that both are speaking
        streams = [pool.submit(heard, client, LONG_SENTENCE, first.release) for _ in range(3)]
        assert all(first.acquire(timeout=HANGS) for _ in range(3))
        os.kill(workers(server)[0].pid, signal.SIGKILL)
        ends = [failed for _, failed in (stream.result() for stream in streams)]
    assert set(ends) == {"", "CS-RAY-003"}
    eventually(lambda: ready(client) == 2)
    assert spoken(client, "").status_code == 200
