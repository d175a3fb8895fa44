"""A rented machine is switched off when nobody needs it, and never while somebody does."""

import os
from pathlib import Path

import httpx
import pytest

from cosyserve.server.admission import Admission
from cosyserve.server.idleness import Idleness
from tests.running import Server, eventually


@pytest.fixture
def switched_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A stand-in for `shutdown`, and the file it leaves."""
    mark, folder = tmp_path / "switched-off", tmp_path / "bin"
    folder.mkdir()
    (folder / "shutdown").write_text(f"#!/bin/sh\necho \"$#\" > '{mark}'\n")
    (folder / "shutdown").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    return mark


def test_after_so_long_without_a_request_it_ends_and_switches_the_machine_off(
    tmp_path: Path, switched_off: Path
) -> None:
    server = Server(tmp_path, idle_shutdown_minutes=0.02)
    assert server.wait() == 0
    assert "runs with launch method" in server.text()
    assert switched_off.read_text() == "0\n"  # at once: no argument
    assert "Traceback" not in server.text()


def test_it_can_be_called_off(tmp_path: Path, switched_off: Path) -> None:
    with Server(tmp_path, idle_shutdown_minutes=10) as server:
        assert httpx.delete(f"{server.url}/v1/idle-shutdown").status_code == 204
        state = httpx.get(f"{server.url}/readyz").json()
        assert (state["status"], state["seconds_to_shutdown"]) == ("ready", None)
        assert server.stop() == 0
    assert not switched_off.exists()


def test_it_is_off_unless_asked_for(tmp_path: Path, switched_off: Path) -> None:
    with Server(tmp_path) as server:
        assert httpx.get(f"{server.url}/readyz").json()["seconds_to_shutdown"] is None


def test_a_machine_that_cannot_be_switched_off_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    server = Server(tmp_path, idle_shutdown_minutes=0.01)
    assert server.wait() == 1
    assert "CS-SET-003" in server.text()


@pytest.mark.anyio
async def test_a_stream_and_its_end_begin_the_time_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr("cosyserve.server.idleness.time.monotonic", lambda: now[0])
    admission = Admission(lambda: 1, 0, 1)
    idleness = Idleness(1, admission)
    now[0] += 50
    assert idleness.seconds_left == 10
    async with admission.place():
        now[0] += 500
        assert idleness.seconds_left == 60
        now[0] += 500
    assert idleness.seconds_left == 60
    now[0] += 60
    assert idleness.seconds_left == 0


def test_the_page_is_told_in_time(tmp_path: Path) -> None:
    with Server(tmp_path, idle_shutdown_minutes=10) as server:

        def told() -> bool:
            return bool(0 < httpx.get(f"{server.url}/readyz").json()["seconds_to_shutdown"] < 600)

        eventually(told)
