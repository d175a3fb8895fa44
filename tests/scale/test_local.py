"""`cosyserve serve --replicas 2` on this machine."""

import base64
import json
import os
import signal
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import httpx
import openai
import psutil
import pytest

from tests.collector import Collector
from tests.running import GREETING, HANGS, Server, asked, eventually, meanwhile
from tests.scale.conftest import Scaled
from tests.server.test_socket import audio_until, open_socket, send
from tests.signals import from_s16le, is_speech

LONG = "Here is a sentence, and it has a number of words. " * 60


def replicas(server: Server) -> list[psutil.Process]:
    """The actors that speak for it, oldest first."""
    family = server.process.children(recursive=True)
    named = ((process, asked(process.cmdline)) for process in family)
    return [process for process, line in named if line and line[0].startswith("ray::ServeReplica:cosyserve:Replica")]


def workers(server: Server) -> list[psutil.Process]:
    """The processes that speak, one in each replica."""
    return [child for actor in replicas(server) for launch in actor.children() for child in launch.children()]


def ready(client: httpx.Client) -> int:
    return int(client.get("/readyz").json()["replicas_ready"])


def speaks(client: httpx.Client) -> bool:
    try:
        response = client.post("/v1/audio/speech", json={"input": "Hello.", "response_format": "pcm"})
    except httpx.RemoteProtocolError:  # it was cut off in the middle
        return False
    return response.status_code == 200 and len(response.content) > 10_000


def heard(client: httpx.Client, text: str = LONG, at_first: Callable[[], None] = lambda: None) -> tuple[float, str]:
    """Seconds of a stream, and the id of the failure that ended it. `at_first` is called at its first sound."""
    seconds, failed = 0.0, ""
    asked = {"input": text, "response_format": "pcm", "stream_format": "sse"}
    with client.stream("POST", "/v1/audio/speech", json=asked) as response:
        for line in response.iter_lines():
            if not line.startswith("data: "):
                continue
            event = json.loads(line.removeprefix("data: "))
            if event["type"] == "error":
                failed = event["error"]["code"]
            if not seconds and "audio" in event:
                at_first()
            seconds += len(base64.b64decode(event.get("audio", ""))) / 2 / 24_000
    return seconds, failed


def test_it_says_what_speaks_and_how_many_are_ready(client: httpx.Client) -> None:
    state = client.get("/readyz").json()
    assert (state["status"], state["synthesizer"]) == ("ready", "preview")
    assert (state["replicas"], state["replicas_ready"], state["max_streams"]) == (2, 2, 8)
    assert "Ray Serve" in state["why"]
    assert "cosyserve_replicas_ready 2.0" in client.get("/metrics").text


def test_replicas_are_not_starved_by_what_else_runs(server: Server) -> None:
    """Ray gives its workers the niceness 15 unless it is told not to."""
    assert {each.nice() for each in workers(server)} == {server.process.nice()}


def test_a_trace_goes_on_in_the_replica(client: httpx.Client, collector: Collector) -> None:
    trace, root = "5bd66ef5095369c7b0d1f8f4bd33716a", "POST /v1/audio/speech"
    asked = {"input": "Hello.", "response_format": "pcm"}
    client.post("/v1/audio/speech", json=asked, headers={"traceparent": f"00-{trace}-00f067aa0ba902b7-01"})
    spans = collector.wait(lambda spans: {root, "replica"} <= {each.name for each in spans if each.trace == trace})
    (segment,) = (each for each in spans if each.trace == trace and each.name == "segment")
    (replica,) = (each for each in spans if each.trace == trace and each.name == "replica")
    assert (replica.parent, segment.failed, replica.failed) == (segment.id, False, False)


def test_it_has_the_same_page_endpoints_and_voices(client: httpx.Client, server: Server) -> None:
    assert "text/html" in client.get("/").headers["content-type"]
    assert client.get("/v1/audio/voices").json()["voices"][0]["id"] == "mandarin"
    refused = client.post("/v1/audio/speech", json={"input": "Hi.", "voice": "nobody"})
    assert (refused.status_code, refused.json()["error"]["code"]) == (400, "CS-VOICE-001")
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="unused", max_retries=0) as api:
        speech = api.audio.speech.create(model="tts-1", voice="alloy", input=GREETING, response_format="pcm")
        assert is_speech(from_s16le(speech.content))
    classic = client.post("/inference_sft", data={"tts_text": "Hello.", "spk_id": "english"})
    assert is_speech(from_s16le(classic.content))
    with open_socket(server.url) as socket:
        send(socket, "input_text.append", text=GREETING)
        send(socket, "input_text.end")
        assert is_speech(from_s16le(audio_until(socket, "speech.audio.done")[0]))


def test_whatever_of_it_is_reached_from_outside_asks_for_the_token(server: Server) -> None:
    """Loopback, but for a port that Serve opens for each replica, behind which pickles are read."""
    family = [server.process, *server.process.children(recursive=True)]
    bound = [each for process in family for each in process.net_connections("tcp") if each.status == "LISTEN"]
    outside = [each.laddr.port for each in bound if "127.0.0.1" not in each.laddr.ip]
    assert len(bound) > 8
    assert len(outside) == 2
    for port in outside:
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel, pytest.raises(grpc.RpcError) as refused:
            channel.unary_unary("/ray.serve.ASGIService/HandleRequest")(b"", timeout=HANGS)
        assert refused.value.code() is grpc.StatusCode.UNAUTHENTICATED


def test_all_replicas_speak_and_requests_add_up(client: httpx.Client, server: Server) -> None:
    before = [sum(worker.cpu_times()[:2]) for worker in workers(server)]
    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(lambda _: speaks(client), range(40)))
    assert all(sum(worker.cpu_times()[:2]) > was for worker, was in zip(workers(server), before, strict=True))
    counted = client.get("/metrics").text
    assert 'cosyserve_requests_total{endpoint="/v1/audio/speech",outcome="ok"}' in counted
    assert 'cosyserve_key_requests_total{key="main",outcome="ok"}' in counted  # limits are those of the server in front


def test_a_client_that_leaves_stops_the_work_behind_it(client: httpx.Client, server: Server) -> None:
    asked = {"input": LONG, "response_format": "pcm"}
    with client.stream("POST", "/v1/audio/speech", json=asked) as response:
        next(response.iter_raw())
    eventually(lambda: client.get("/readyz").json()["active_streams"] == 0)


@pytest.mark.parametrize("of_each", [replicas, workers], ids=["the actor", "its worker"])
def test_what_is_killed_takes_only_its_own_streams_and_comes_back(
    client: httpx.Client, server: Server, of_each: object
) -> None:
    with (
        ThreadPoolExecutor(8) as pool,
        meanwhile(lambda: speaks(client)) as answers,
        meanwhile(lambda: ready(client)) as known,
    ):
        streams = [pool.submit(heard, client) for _ in range(7)]
        eventually(lambda: client.get("/readyz").json()["active_streams"] >= 7)
        assert callable(of_each)
        os.kill(of_each(server)[0].pid, signal.SIGKILL)
        eventually(lambda: known[-1] == 1)
        ends = [stream.result() for stream in streams]
        eventually(lambda: known[-1] == 2)
    whole = max(seconds for seconds, _ in ends)
    assert whole > 150
    assert {failed for _, failed in ends} <= {"", "CS-RAY-003"}
    assert [seconds for seconds, failed in ends if not failed] == pytest.approx(
        [whole] * sum(not failed for _, failed in ends), abs=0.1
    )
    assert sum(bool(failed) for _, failed in ends) < 7
    assert answers.count(False) <= 1  # one that was being spoken there
    assert all(speaks(client) for _ in range(10))
    assert len(replicas(server)) == 2


def test_at_the_end_streams_are_finished_and_nothing_is_left(tmp_path: Path) -> None:
    another = tmp_path / "python-of-replicas"
    another.write_text(f'#!/bin/sh\necho used >>"$0.log"\nexec {sys.executable} "$@"\n')
    another.chmod(0o755)
    with (
        Scaled(tmp_path, synthesizer="preview", max_streams=4, replica_python=another) as server,
        httpx.Client(base_url=server.url) as client,
    ):
        assert (tmp_path / "python-of-replicas.log").read_text().split() == ["used", "used"]
        family = server.process.children(recursive=True)
        with ThreadPoolExecutor(1) as pool:
            stream = pool.submit(heard, client)
            eventually(lambda: client.get("/readyz").json()["active_streams"] == 1)
            assert server.stop() == 0
            assert stream.result()[0] > 150
            assert stream.result()[1] == ""
        _, alive = psutil.wait_procs(family, timeout=HANGS)
        assert alive == []
        assert "will be retried" not in server.text()  # what Ray says of its own end


def test_each_replica_has_a_card_or_a_share_of_one_and_a_server_that_is_killed_leaves_nothing(tmp_path: Path) -> None:
    """By Ray's own accounting of cards that are declared: there is none here."""

    class Declared(Scaled):
        arguments = ("--replicas", "3")

    before = ("env", 'RAY_OVERRIDE_RESOURCES={"GPU": 2}')
    with Declared(tmp_path, before=before, synthesizer="preview") as server:
        environs = [worker.environ() for worker in workers(server)]
        found = sorted((each["CUDA_VISIBLE_DEVICES"], each["_COSYSERVE_GPU_SHARE"]) for each in environs)
        assert {share for _, share in found} == {"0.5"}
        assert sorted(len([card for card, _ in found if card == each]) for each in "01") == [1, 2]
        family = server.process.children(recursive=True)
        assert len(family) > 8
        server.process.kill()
        _, alive = psutil.wait_procs(family, timeout=HANGS)
        assert alive == []


def test_replicas_that_cannot_start_end_the_server_with_the_reason(tmp_path: Path) -> None:
    server = Scaled(tmp_path, synthesizer="cosyvoice2", models_dir=tmp_path / "nothing")
    try:
        assert server.process.wait(HANGS) == 2
        assert "CS-RAY-002" in server.text()
        assert "CS-FETCH" in server.text()  # what the replica itself said
    finally:
        server.close()
