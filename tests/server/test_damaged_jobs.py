"""Jobs whose files were damaged by hand or by a crash: each says so, and the server goes on with the others."""

import json
import os
import shutil
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import settings as profile
from hypothesis import strategies as st

from cosyserve.server.jobs.store import Jobs
from cosyserve.settings import Settings
from cosyserve.speech.captions import unpacked
from tests.conftest import Serving
from tests.running import eventually
from tests.server.test_jobs import JOBS, code_of, ended, job_of, told
from tests.standins import ToneSynthesizer

SECRET = b"A file of somebody else."
DAMAGED = (410, "CS-JOB-008")


def _replaced(make: Callable[[Path], object]) -> Callable[[Path], None]:
    def damage(path: Path) -> None:
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
        make(path)

    return damage


def _huge(path: Path) -> None:
    path.touch()
    os.truncate(path, 1 << 27)  # of which nothing is on the disk


def _link(path: Path) -> None:
    outside = path.parents[3] / "outside"
    outside.write_bytes(SECRET)
    path.symlink_to(outside)


DAMAGES: dict[str, Callable[[Path], None]] = {
    "empty": _replaced(lambda path: path.touch()),
    "truncated": lambda path: os.truncate(path, path.stat().st_size // 2),
    "of wrong types": _replaced(lambda path: path.write_text('{"id": [], "status": 5}')),
    "not UTF-8": _replaced(lambda path: path.write_bytes(b"\xff\xfe\xff")),
    "a folder": _replaced(lambda path: path.mkdir()),
    "missing": _replaced(lambda path: None),
    "huge": _replaced(_huge),
    "a link": _replaced(_link),
    "a pipe": _replaced(os.mkfifo),
}
CARDS: dict[str, Any] = {
    "id": "../../../outside",
    "created": float("inf"),
    "finished": float("nan"),
    "label": "a\r\nb",
    "error": {"code": 1},
    "manner": {},
    "passages": -1,
}


class Folder:
    """The state folder of a server that has done one job, of which there may be damaged copies."""

    def __init__(self, state: Path, job: dict[str, Any]) -> None:
        self._jobs, self._job = state / "jobs", job

    def copy(self, **card: Any) -> dict[str, Any]:
        """Another job like it, whose card says something else."""
        copy = {**self._job, "id": uuid.uuid4().hex}
        shutil.copytree(self._jobs / self._job["id"], self.path(copy))
        told = json.loads(self.path(copy, "job.json").read_text())
        self.path(copy, "job.json").write_text(json.dumps({**told, "id": copy["id"], **card}))
        return copy

    def waiting(self) -> dict[str, Any]:
        """Another one, which is yet to be spoken."""
        copy = self.copy(status="queued", finished=None, seconds=None, size=None)
        for name in ("audio", "captions"):
            self.path(copy, name).unlink()
        self.path(copy, "text").write_text("Hello there.")
        self.path(copy, "passages").mkdir()
        return copy

    def path(self, job: dict[str, Any], name: str = "") -> Path:
        return self._jobs / str(job["id"]) / name


@pytest.fixture(scope="module")
def folder(serving: Serving, tmp_path_factory: pytest.TempPathFactory) -> Folder:
    state = tmp_path_factory.mktemp("damaged") / "state"
    with serving(ToneSynthesizer(), state_dir=state) as url:
        job = job_of(url, "Hello.")
        assert ended(url, job)["status"] == "done"
    return Folder(state, job)


@pytest.fixture(scope="module")
def damaged(folder: Folder) -> dict[tuple[str, str], dict[str, Any]]:
    """A job for each kind of damage of each file, before the server starts."""
    jobs = {}
    for how, damage in DAMAGES.items():
        for name in ("job.json", "audio", "captions"):
            jobs[name, how] = folder.copy()
        for name in ("text", "passages"):
            if how != "truncated":  # which neither a text nor a folder tells
                jobs[name, how] = folder.waiting()
        for name in ("job.json", "audio", "captions", "text", "passages"):
            if (name, how) in jobs:
                damage(folder.path(jobs[name, how], name))
    for field, value in CARDS.items():
        jobs["job.json", field] = folder.copy(**{field: value})
    return jobs


@pytest.fixture(scope="module")
def url(serving: Serving, folder: Folder, damaged: object) -> Iterator[str]:
    with serving(ToneSynthesizer(), state_dir=folder.path({"id": ""}).parent, max_jobs=1000) as url:
        yield url


@pytest.mark.parametrize("how", [*DAMAGES, *CARDS])
def test_a_damaged_card_says_so_and_is_in_no_list(url: str, damaged: Any, how: str) -> None:
    job = damaged["job.json", how]
    expected = (404, "CS-JOB-001") if how == "missing" else DAMAGED
    for path in ("", "/audio", "/captions"):
        assert code_of(httpx.get(f"{url}{JOBS}/{job['id']}{path}")) == expected
    assert job["id"] not in {each["id"] for each in httpx.get(url + JOBS).json()["data"]}


@pytest.mark.parametrize("how", DAMAGES)
def test_a_job_without_a_card_is_removed_after_an_hour(folder: Folder, tmp_path: Path, how: str) -> None:
    job = folder.copy()
    DAMAGES[how](folder.path(job, "job.json"))
    (tmp_path / "state" / "jobs").mkdir(parents=True)
    here = folder.path(job).rename(tmp_path / "state" / "jobs" / job["id"])
    jobs = Jobs(Settings(state_dir=tmp_path / "state"))
    jobs.sweep()
    assert here.exists()
    os.utime(here, (0, 0))
    jobs.sweep()
    assert not here.exists()


def test_a_folder_in_the_place_of_the_lock_is_removed(tmp_path: Path) -> None:
    (tmp_path / "jobs" / ".lock").mkdir(parents=True)
    jobs = Jobs(Settings(state_dir=tmp_path))
    with jobs.alone() as first, jobs.alone() as second:
        assert (first, second) == (False, True)


@pytest.mark.parametrize("how", DAMAGES)
@pytest.mark.parametrize("name", ["audio", "captions"])
def test_a_damaged_result_says_so(url: str, damaged: Any, name: str, how: str) -> None:
    address = f"{url}{JOBS}/{damaged[name, how]['id']}"
    assert httpx.get(address).json()["status"] == "done"
    answer = httpx.get(f"{address}/{name}")
    assert code_of(answer) == DAMAGED
    assert SECRET not in answer.content
    assert httpx.delete(address).status_code == 200


@pytest.mark.parametrize("how", [how for how in DAMAGES if how not in ("truncated", "of wrong types")])
def test_a_job_whose_text_is_damaged_fails_and_says_so(url: str, damaged: Any, folder: Folder, how: str) -> None:
    job = damaged["text", how]
    found = ended(url, job)
    assert (found["status"], found["error"]["code"]) == ("failed", "CS-JOB-008")
    assert found["error"]["message_zh"]
    eventually(lambda: {path.name for path in folder.path(job).iterdir()} == {"job.json"})


@pytest.mark.parametrize("how", [how for how in DAMAGES if how != "truncated"])
def test_what_lies_in_the_way_of_passages_is_removed(url: str, damaged: Any, how: str) -> None:
    job = damaged["passages", how]
    assert ended(url, job)["status"] == "done"
    assert httpx.get(f"{url}{JOBS}/{job['id']}/audio").status_code == 200


def test_the_server_goes_on_with_other_jobs(url: str) -> None:
    job = job_of(url, "Still here.")
    assert ended(url, job)["status"] == "done"
    assert told(url, job)["progress"] == 1


_ANYTHING: st.SearchStrategy[Any] = st.none() | st.text() | st.integers() | st.floats() | st.just([])


@profile(max_examples=50)
@given(st.binary() | st.lists(st.lists(_ANYTHING, min_size=2, max_size=4)).map(json.dumps))
def test_captions_of_any_content_are_read_or_refused(kept: bytes | str) -> None:
    try:
        captions = unpacked(kept.encode() if isinstance(kept, str) else kept)
    except ValueError:
        return
    for each in captions:
        assert (type(each.text), each.begin >= 0, each.end >= 0) == (str, True, True)
