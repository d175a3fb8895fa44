"""Jobs, as a client sees them; the server of one of them is killed in the middle."""

import asyncio
import io
import json
import math
import shutil
import threading
from collections.abc import AsyncGenerator, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import suppress
from pathlib import Path
from typing import Any

import av
import httpx
import mutagen
import psutil
import pytest
from anyio.lowlevel import checkpoint
from anyio.to_thread import run_sync

from cosyserve import errors
from cosyserve.errors import CosyError
from cosyserve.keys.key import Limits, Priority
from cosyserve.keys.key_file import KeyFile
from cosyserve.server.jobs import runner
from cosyserve.server.jobs.store import JobFiles
from cosyserve.speech.audio import Pcm
from cosyserve.speech.output import SILENCE_SECONDS
from cosyserve.speech.synthesizer import Options
from cosyserve.speech.voices import Voice
from tests.conftest import Serving
from tests.running import HANGS, Server, eventually
from tests.standins import CHUNK_SECONDS, CapableSynthesizer, FailingSynthesizer, GatedSynthesizer, ToneSynthesizer

JOBS = "/v1/audio/jobs"
LONG = "\n\n".join(
    f"Paragraph number {number}. " + "It has some words, and they are spoken. " * 5 for number in range(60)
)
PRIORITY_OF: dict[str, Priority] = {"anna": "normal", "bob": "normal", "high": "high"}
BOOK = "# A book\n\nIt begins.\n\n## One\n\nab\n\n## Two\n\ncd efg\n"


@pytest.fixture
def serve(serving: Serving, tmp_path: Path) -> Any:
    """`serving` with a state folder of its own."""
    return lambda synthesizer, **settings: serving(synthesizer, state_dir=tmp_path / "state", **settings)


@pytest.fixture
def url(serve: Any) -> Iterator[str]:
    with serve(ToneSynthesizer()) as url:
        yield url


def job_of(url: str, text: str, key: str = "", **more: Any) -> dict[str, Any]:
    response = httpx.post(url + JOBS, json={"input": text, **more}, headers=bearer(key))
    assert response.status_code == 202, response.text
    return dict(response.json())


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"} if key else {}


def told(url: str, job: dict[str, Any]) -> dict[str, Any]:
    return dict(httpx.get(f"{url}{JOBS}/{job['id']}").json())


def ended(url: str, job: dict[str, Any]) -> dict[str, Any]:
    eventually(lambda: told(url, job)["status"] in ("done", "failed"))
    return told(url, job)


def audio_of(url: str, job: dict[str, Any]) -> httpx.Response:
    assert ended(url, job)["status"] == "done"
    return httpx.get(f"{url}{JOBS}/{job['id']}/audio")


def code_of(response: httpx.Response) -> tuple[int, str]:
    error = response.json()["error"]
    assert error["message_zh"]
    assert error["remedy_zh"]
    return response.status_code, error["code"]


def kill(server: Server) -> None:
    """The supervisor and the server, as the out-of-memory killer or a power cut would end them."""
    processes = [server.process, *server.process.children(recursive=True)]
    for process in processes:
        with suppress(psutil.NoSuchProcess):  # some end with the server
            process.kill()
    psutil.wait_procs(processes, HANGS)


def test_a_job_goes_on_where_a_killed_server_left_it(tmp_path: Path) -> None:
    """The real server, twice with the same state folder."""
    folders = [tmp_path / name for name in ("first", "second")]
    for folder in folders:
        folder.mkdir()
    state = tmp_path / "state"
    with Server(folders[0], synthesizer="preview", state_dir=state, max_streams=1) as server:
        job = job_of(server.url, LONG, response_format="flac")
        eventually(lambda: told(server.url, job)["passages_done"] > 0)
        kill(server)
    passages = state / "jobs" / job["id"] / "passages"
    kept = {path: path.stat().st_mtime_ns for path in passages.glob("*.flac")}
    assert 0 < len(kept) < job["passages"]
    with Server(folders[1], synthesizer="preview", state_dir=state) as server:
        assert told(server.url, job)["passages_done"] >= len(kept)
        eventually(lambda: told(server.url, job)["passages_done"] == job["passages"])
        unchanged = {path: path.stat().st_mtime_ns for path in kept if path.exists()}
        found = ended(server.url, job)
        audio = audio_of(server.url, job)
        assert server.stop() == 0
    assert unchanged.items() <= kept.items()
    assert (found["status"], found["progress"]) == ("done", 1)
    with av.open(io.BytesIO(audio.content), "r") as container:
        assert container.duration == pytest.approx(1e6 * found["seconds"], rel=1e-3)
    assert not passages.exists()


def test_a_job_lasts_as_long_as_its_paragraphs_and_the_pauses_between_them(url: str) -> None:
    letters = "a" * 250
    job = job_of(url, f"{letters}\n\n{letters}b", response_format="wav", speed=2.0)
    response = audio_of(url, job)
    assert response.headers["content-type"] == "audio/wav"
    with av.open(io.BytesIO(response.content), "r") as container:
        seconds = (container.duration or 0) / 1e6
    assert seconds == pytest.approx(501 * CHUNK_SECONDS / 2 + 0.4 + 1.5, abs=0.1)
    assert told(url, job)["seconds"] == pytest.approx(seconds, abs=0.01)


def test_an_audiobook_has_chapters_a_title_and_the_label(url: str) -> None:
    job = job_of(url, BOOK, input_format="markdown", response_format="m4b")
    response = audio_of(url, job)
    assert response.headers["content-type"] == "audio/mp4"
    read = mutagen.File(io.BytesIO(response.content))
    assert [chapter.title for chapter in read.chapters] == ["A book", "One", "Two"]
    assert read.tags["©alb"] == ["A book"]
    label = json.loads(response.headers["x-aigc-label"])
    assert json.loads(bytes(read.tags["----:com.apple.iTunes:AIGC"][0])) == label


def test_captions_say_what_is_said_when(url: str) -> None:
    job = job_of(url, BOOK, input_format="markdown", response_format="wav", speed=2.0)
    seconds = ended(url, job)["seconds"]
    address = f"{url}{JOBS}/{job['id']}/captions"
    captions = httpx.get(address).json()["captions"]
    assert [each["text"] for each in captions] == ["A book", "It begins.", "One", "ab", "Two", "cd efg"]
    assert [each["end"] - each["begin"] for each in captions][:2] == pytest.approx([0.25, 0.4], abs=0.001)
    assert captions[1]["begin"] == pytest.approx(captions[0]["end"] + 0.8, abs=0.001)
    assert captions[-1]["end"] == pytest.approx(seconds - 1.5, abs=0.001)
    assert httpx.get(address, params={"format": "vtt"}).text.startswith("WEBVTT")
    assert code_of(httpx.get(address, params={"format": "doc"})) == (400, "CS-CAPTION-001")


def test_part_of_the_audio_can_be_asked_for(url: str) -> None:
    job = job_of(url, "Hello.")
    whole = audio_of(url, job).content

    def part(said: str) -> httpx.Response:
        return httpx.get(f"{url}{JOBS}/{job['id']}/audio", headers={"Range": said})

    for said, content in {"bytes=10-19": whole[10:20], "bytes=10-": whole[10:], "bytes=-5": whole[-5:]}.items():
        assert (part(said).status_code, part(said).content) == (206, content)
    many = "bytes=" + ",".join(f"{place}-{place}" for place in range(0, 8000, 2))
    for said in ("bytes=9-3", "bytes=-", "bytes=a-b", "words=1-2", "bytes=0-1,4-5", many):
        assert (part(said).status_code, part(said).content) == (200, whole)
    for said in (f"bytes={len(whole)}-", "bytes=-0"):
        assert code_of(part(said)) == (416, "CS-JOB-007")


def test_a_text_that_says_nothing_is_a_short_silence_as_everywhere(url: str) -> None:
    job = job_of(url, "🎉🎉\n\n…", response_format="wav")
    with av.open(io.BytesIO(audio_of(url, job).content), "r") as container:
        assert (container.duration or 0) / 1e6 == pytest.approx(SILENCE_SECONDS)
    assert (told(url, job)["passages"], told(url, job)["progress"]) == (0, 1)


def test_what_a_request_may_ask_for_a_job_may_too(serve: Any) -> None:
    synthesizer = CapableSynthesizer()
    with serve(synthesizer) as url:
        httpx.put(f"{url}/v1/audio/lexicon/CosyServe", json={"respelling": "cozy serve"})
        job = job_of(url, "CosyServe has 3 words.", instructions="slowly", seed=7)
        audio_of(url, job)
        httpx.delete(f"{url}/v1/audio/lexicon/CosyServe")
        audio_of(url, job_of(url, 'a<break time="1s"/>b', input_format="ssml"))
    options, said = synthesizer.asked[-3], synthesizer.said[-3]
    assert (options.instructions, options.seed, options.whole) == ("slowly", 7, True)
    assert said == "cozy serve has three words."


@pytest.mark.parametrize("streams", [1, 2])
def test_a_listener_never_waits_for_a_job(serve: Any, streams: int) -> None:
    synthesizer = GatedSynthesizer()
    with serve(synthesizer, max_streams=streams, max_queue=0) as url, ThreadPoolExecutor(streams) as clients:
        eventually(lambda: bool(httpx.get(f"{url}/readyz").json()["status"] == "ready"))
        synthesizer.budget = 0
        job = job_of(url, "job " * 300)
        eventually(lambda: synthesizer.inside == 1)  # of two streams one is left
        speech = {"input": "abc", "response_format": "pcm"}
        heard = [clients.submit(httpx.post, url + "/v1/audio/speech", json=speech) for _ in range(streams)]
        eventually(lambda: httpx.get(f"{url}/readyz").json()["active_streams"] == streams)
        eventually(lambda: synthesizer.inside == streams)  # the job has given its place back
        synthesizer.budget = math.inf
        assert [each.result().status_code for each in heard] == [200] * streams
        assert audio_of(url, job).status_code == 200


def test_jobs_are_seen_by_their_own_key_alone(serve: Any) -> None:
    with serve(ToneSynthesizer(), api_keys="one,two") as url:
        job = job_of(url, "Hello.", key="one")
        mine, other = bearer("one"), bearer("two")
        assert [each["id"] for each in httpx.get(url + JOBS, headers=mine).json()["data"]] == [job["id"]]
        assert httpx.get(url + JOBS, headers=other).json()["data"] == []
        for method, path in (("GET", ""), ("GET", "/audio"), ("DELETE", "")):
            address = f"{url}{JOBS}/{job['id']}{path}"
            assert code_of(httpx.request(method, address, headers=other)) == (404, "CS-JOB-001")
            assert httpx.request(method, address).status_code == 401
        assert httpx.delete(f"{url}{JOBS}/{job['id']}", headers=mine).status_code == 200


def test_jobs_count_against_the_limits_of_a_named_key(serve: Any, tmp_path: Path) -> None:
    keys = KeyFile(tmp_path / "state")
    mine, other = (keys.add(name, "normal", Limits(characters_per_day=10)) for name in ("mine", "other"))
    with serve(ToneSynthesizer()) as url:
        answer = httpx.post(url + JOBS, json={"input": "Ten chars."}, headers=bearer(mine))
        job = answer.json()
        assert answer.headers["x-ratelimit-remaining-tokens"] == "0"
        for more in ({}, {"input_format": "ssml"}):  # whose text nobody has looked at
            refused = httpx.post(url + JOBS, json={"input": "<a", **more}, headers=bearer(mine))
            assert code_of(refused) == (429, "CS-QUOTA-004")
        assert [each["id"] for each in httpx.get(url + JOBS, headers=bearer(mine)).json()["data"]] == [job["id"]]
        assert httpx.get(url + JOBS, headers=bearer(other)).json()["data"] == []


def test_keys_take_turns_within_their_priority_also_after_a_restart(serve: Any, tmp_path: Path) -> None:
    keys = KeyFile(tmp_path / "state")
    anna, bob, high = (keys.add(name, priority, Limits()) for name, priority in PRIORITY_OF.items())
    synthesizer = GatedSynthesizer()
    with serve(synthesizer, grace_seconds=0) as url:
        eventually(lambda: bool(httpx.get(f"{url}/readyz").json()["status"] == "ready"))
        synthesizer.budget = 0
        jobs = [job_of(url, "Hello.", key=key) for key in (anna, anna, anna, bob, high)]
    first, second, third, other, urgent = (each["id"] for each in jobs)
    cards = [tmp_path / "state" / "jobs" / each["id"] / "job.json" for each in jobs]
    with serve(ToneSynthesizer()):
        eventually(lambda: all(json.loads(card.read_text())["finished"] for card in cards))
    told = sorted((json.loads(card.read_text()) for card in cards), key=lambda card: card["finished"])
    assert [card["id"] for card in told] == [urgent, first, other, second, third]


def test_a_job_waits_behind_its_next_passage_for_one_of_a_higher_priority(serve: Any, tmp_path: Path) -> None:
    keys = KeyFile(tmp_path / "state")
    low, high = (keys.add(name, name, Limits()) for name in ("low", "high"))
    synthesizer = GatedSynthesizer()
    with serve(synthesizer, max_streams=1) as url:
        eventually(lambda: bool(httpx.get(f"{url}/readyz").json()["status"] == "ready"))
        synthesizer.budget = 0
        jobs = [job_of(url, "a " * 150 + "\n\n" + "b " * 150, key=low)]
        eventually(lambda: synthesizer.inside == 1)
        jobs.append(job_of(url, "Hello.", key=high))
        synthesizer.budget = math.inf
        cards = [tmp_path / "state" / "jobs" / each["id"] / "job.json" for each in jobs]
        eventually(lambda: all(json.loads(card.read_text())["finished"] for card in cards))
    late, soon = (json.loads(card.read_text()) for card in cards)
    assert soon["finished"] < late["finished"]
    assert (late["status"], soon["status"]) == ("done", "done")


def test_the_jobs_of_a_revoked_key_are_removed(serve: Any, tmp_path: Path) -> None:
    keys, folder = KeyFile(tmp_path / "state"), tmp_path / "state" / "jobs"
    mine, other = (keys.add(name, "normal", Limits()) for name in ("mine", "other"))
    synthesizer = GatedSynthesizer()
    with serve(synthesizer) as url:
        eventually(lambda: bool(httpx.get(f"{url}/readyz").json()["status"] == "ready"))
        synthesizer.budget = 0
        spoken, waiting = job_of(url, "One.", key=mine), job_of(url, "Two.", key=mine)
        last = job_of(url, "Three.", key=other)
        eventually(lambda: synthesizer.inside == 1)
        keys.revoke("mine")
        synthesizer.budget = math.inf
        eventually(lambda: not any((folder / each["id"]).exists() for each in (spoken, waiting)))
        address = f"{url}{JOBS}/{last['id']}"
        eventually(lambda: bool(httpx.get(address, headers=bearer(other)).json()["status"] == "done"))


def test_nobody_reads_a_key_or_a_text_in_the_state_folder(serve: Any, tmp_path: Path) -> None:
    with serve(ToneSynthesizer(), api_keys="sesame-open") as url:
        job_of(url, "Hello.", key="sesame-open")
        folder = tmp_path / "state" / "jobs"
        assert folder.stat().st_mode & 0o077 == 0
        assert not any(b"sesame" in path.read_bytes() for path in folder.rglob("*.json"))


def test_a_deleted_job_is_gone_and_the_next_one_is_spoken(serve: Any, tmp_path: Path) -> None:
    synthesizer = GatedSynthesizer()
    with serve(synthesizer) as url:
        eventually(lambda: bool(httpx.get(f"{url}/readyz").json()["status"] == "ready"))
        synthesizer.budget = 0
        first, second = job_of(url, "first"), job_of(url, "second")
        eventually(lambda: synthesizer.inside == 1)
        assert httpx.delete(f"{url}{JOBS}/{first['id']}").json() == {"id": first["id"], "deleted": True}
        assert code_of(httpx.get(f"{url}{JOBS}/{first['id']}")) == (404, "CS-JOB-001")
        synthesizer.budget = math.inf
        assert audio_of(url, second).status_code == 200
    assert not (tmp_path / "state" / "jobs" / first["id"]).exists()


def test_the_next_job_is_spoken_after_the_folder_of_all_was_removed(
    serve: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    synthesizer = GatedSynthesizer()
    with serve(synthesizer) as url:
        eventually(lambda: bool(httpx.get(f"{url}/readyz").json()["status"] == "ready"))
        synthesizer.budget = 0
        job_of(url, "first")
        eventually(lambda: synthesizer.inside == 1)
        shutil.rmtree(tmp_path / "state" / "jobs")
        synthesizer.budget = math.inf
        assert audio_of(url, job_of(url, "second")).status_code == 200
    assert not [each for each in caplog.records if each.exc_info]


@pytest.mark.anyio
async def test_who_is_cancelled_waits_for_the_thread_that_uses_the_file() -> None:
    begun, may_end = threading.Event(), threading.Event()

    def work() -> None:
        begun.set()
        may_end.wait(HANGS)

    storing = asyncio.ensure_future(runner._stored(work))
    await run_sync(begun.wait, HANGS)
    storing.cancel()
    for _ in range(10):
        await checkpoint()
    assert not storing.done()
    may_end.set()
    with pytest.raises(asyncio.CancelledError):
        await storing


class SleepyVoice(ToneSynthesizer):
    """Takes longer to wake than who asks will wait, more often than a passage that fails is tried."""

    asked = 0

    async def synthesize(self, segment: str, voice: Voice, options: Options) -> AsyncGenerator[Pcm, None]:
        if segment.startswith("long"):
            self.asked += 1
            if self.asked <= 4:
                raise CosyError(errors.WAKING, retry_after=0, seconds=0)
        async for chunk in super().synthesize(segment, voice, options):
            yield chunk


def test_a_job_waits_for_a_voice_that_wakes_slowly(serve: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "_TRY_AGAIN_SECONDS", 0)
    with serve(SleepyVoice()) as url:
        assert audio_of(url, job_of(url, "long")).status_code == 200


def test_nothing_is_left_of_a_file_that_a_killed_server_was_writing(serve: Any, tmp_path: Path) -> None:
    synthesizer = GatedSynthesizer()
    with serve(synthesizer) as url:
        eventually(lambda: bool(httpx.get(f"{url}/readyz").json()["status"] == "ready"))
        synthesizer.budget = 0
        job = job_of(url, "first")
        folder = tmp_path / "state" / "jobs" / job["id"]
        (folder / ".cosyserve-0123456789ab").touch()
        synthesizer.budget = math.inf
        assert audio_of(url, job).status_code == 200
        eventually(lambda: {path.name for path in folder.iterdir()} == {"audio", "captions", "job.json"})


def test_a_job_that_fails_says_why_and_the_next_one_is_spoken(serve: Any) -> None:
    with serve(FailingSynthesizer()) as url:
        first, second = job_of(url, "fail"), job_of(url, "good")
        found = ended(url, first)
        assert (found["status"], found["error"]["code"]) == ("failed", "CS-SRV-003")
        assert code_of(httpx.get(f"{url}{JOBS}/{first['id']}/audio")) == (409, "CS-JOB-002")
        assert audio_of(url, second).status_code == 200


def test_the_number_of_jobs_their_length_and_their_bytes_are_bounded(serve: Any) -> None:
    with serve(ToneSynthesizer(), max_jobs=2, max_job_chars=30_000, max_text_chars=10, job_bytes=60_000) as url:
        assert code_of(httpx.post(url + JOBS, json={"input": "a" * 30_001})) == (400, "CS-JOB-005")
        assert code_of(httpx.post(url + JOBS, json={"input": "好" * 29_999})) == (507, "CS-JOB-004")
        found = ended(url, job_of(url, "a b c " * 200))  # two minutes, which need more room than there is
        assert (found["status"], found["error"]["code"]) == ("failed", "CS-JOB-004")
        job_of(url, "Hello.")
        refused = httpx.post(url + JOBS, json={"input": "Hello."})
        assert code_of(refused) == (429, "CS-JOB-003")
        assert refused.headers["retry-after"]


def test_who_sees_that_a_job_has_failed_finds_its_room(serve: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next job waits until what the failed one had is removed, however long that takes."""
    may, clear = threading.Event(), JobFiles.clear
    monkeypatch.setattr(JobFiles, "clear", lambda files: may.wait(HANGS) and clear(files))
    with serve(ToneSynthesizer(), max_text_chars=10, job_bytes=60_000) as url, ThreadPoolExecutor(1) as next_one:
        assert ended(url, job_of(url, "a b c " * 200))["status"] == "failed"
        added = next_one.submit(job_of, url, "Hello.")
        assert not wait([added], timeout=0.5).done
        may.set()
        assert ended(url, added.result())["status"] == "done"


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"input": " \n "},
        {"input": "a\0"},
        {"input": "<speak><break time='x'/></speak>", "input_format": "ssml"},
        {"input": "a", "input_format": "html"},
        {"input": "a", "response_format": "ogg"},
        {"input": "a", "voice": "nobody"},
        {"input": "a", "speed": 9},
        {"input": "a", "instructions": "slowly"},
        {"input": "a", "title": "t" * 2000},
    ],
)
def test_a_job_that_cannot_be_is_refused_at_once(url: str, body: dict[str, Any]) -> None:
    assert code_of(httpx.post(url + JOBS, json=body))[0] == 400
    assert httpx.get(url + JOBS).json()["data"] == []


@pytest.mark.parametrize("name", ["0" * 32, "x", "..", "..%2f..%2fjobs", "%00", "a" * 900])
def test_an_id_is_looked_up_and_never_a_path(url: str, name: str) -> None:
    for path in ("", "/audio"):
        assert httpx.get(f"{url}{JOBS}/{name}{path}").status_code in (400, 404)


def test_a_finished_job_is_kept_for_its_time(serve: Any, tmp_path: Path) -> None:
    with serve(ToneSynthesizer()) as url:
        job = job_of(url, "Hello.")
        found = ended(url, job)
        assert found["expires_at"] == pytest.approx(found["finished_at"] + 86_400, abs=1)
        card = tmp_path / "state" / "jobs" / job["id"] / "job.json"
        aged = json.loads(card.read_text())
        card.write_text(json.dumps({**aged, "finished": aged["finished"] - 86_401}))
        assert code_of(httpx.get(f"{url}{JOBS}/{job['id']}")) == (404, "CS-JOB-001")
        eventually(lambda: not card.exists())


def test_a_job_that_ends_servers_is_given_up(serve: Any, tmp_path: Path) -> None:
    with serve(GatedSynthesizer(), max_streams=1) as url:
        job = job_of(url, "Hello.")
        ended(url, job)
    card = tmp_path / "state" / "jobs" / job["id"] / "job.json"
    tried = {**json.loads(card.read_text()), "status": "running", "finished": None, "begun": 5}
    (card.parent / "text").write_text("Hello.")
    card.write_text(json.dumps(tried))
    with serve(ToneSynthesizer()) as url:
        assert ended(url, job)["error"]["code"] == "CS-JOB-006"
