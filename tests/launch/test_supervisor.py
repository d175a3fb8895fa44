"""The supervisor with real processes, a real Open MPI, and everything done to them that happens to such processes."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest

from tests.conftest import ROOT, eventually
from tests.host.hosts import HOSTS, mute_listener
from tests.launch.supervised import Supervised, speaks

pytestmark = pytest.mark.mpi

RUNGS = ["direct", "isolated", "mpirun"]


@pytest.mark.parametrize("name", HOSTS)
def test_it_comes_up_with_mpi_on_every_host_and_leaves_nothing(name: str) -> None:
    host = HOSTS[name]
    with mute_listener(host.mute_port) if host.mute_port else contextlib.nullcontext():
        done = subprocess.run(
            [*host.wrap, sys.executable, "-m", "tests.launch.supervised"],
            capture_output=True,
            text=True,
            cwd=ROOT,
            env={**os.environ, **host.environ},
            timeout=120,
        )
    assert done.returncode == 0, done.stdout + done.stderr
    came = json.loads(done.stdout.splitlines()[-1])
    assert came["rung"] in RUNGS  # and not the one without MPI
    assert came["spoken"] is not False
    assert came["status"] == 0
    assert came["left"] == []


@pytest.fixture
def supervised(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Supervised]:
    """On the rung that the test's parameter names, speaking."""
    settings = getattr(request, "param", None)
    running = Supervised(tmp_path, **(settings if isinstance(settings, dict) else {"launch": settings or "auto"}))
    _, url = running.wait_until_it_stands()
    assert speaks(url)
    yield running
    running.close()
    eventually(lambda: running.left() == [])


@pytest.mark.parametrize("supervised", RUNGS, indirect=True)
def test_a_stop_lets_streams_finish_and_ends_well(supervised: Supervised) -> None:
    """mpirun itself kills its child within a second and returns 1."""
    rung, url = supervised.wait_until_it_stands()
    body = {"input": "This is one of many sentences. " * 300, "response_format": "pcm"}
    with httpx.stream("POST", f"{url}/v1/audio/speech", json=body, timeout=30) as response:
        pieces = response.iter_raw()
        received = len(next(pieces))
        supervised.process.send_signal(signal.SIGTERM)
        received += sum(map(len, pieces))  # a cut-off stream raises here
    assert received / 2 / 24_000 > 300
    assert supervised.process.wait(30) == 0
    assert supervised.left() == []
    assert rung in RUNGS


@pytest.mark.parametrize("supervised", RUNGS, indirect=True)
def test_a_killed_server_is_started_again(supervised: Supervised) -> None:
    supervised.server().kill()
    _, url = supervised.wait_until_it_stands(starts=2)
    assert speaks(url)
    assert "is started again" in supervised.text()


@pytest.mark.parametrize("supervised", ["mpirun"], indirect=True)
def test_a_killed_mpirun_takes_nothing_with_it_for_good(supervised: Supervised) -> None:
    supervised.below("mpirun").kill()
    _, url = supervised.wait_until_it_stands(starts=2)
    assert speaks(url)


@pytest.mark.parametrize("supervised", ["direct"], indirect=True)
def test_a_killed_orted_takes_nothing_with_it_for_good(supervised: Supervised) -> None:
    supervised.below("orted").kill()
    _, url = supervised.wait_until_it_stands(starts=2)
    assert speaks(url)


@pytest.mark.parametrize("supervised", RUNGS, indirect=True)
def test_nothing_outlives_a_killed_supervisor(supervised: Supervised) -> None:
    _, url = supervised.wait_until_it_stands()
    supervised.process.kill()
    eventually(lambda: supervised.left() == [])
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{url}/livez")


@pytest.mark.parametrize("supervised", [{"heartbeat_seconds": 1.5}], indirect=True, ids=["auto"])
def test_a_server_that_stands_still_is_started_again(supervised: Supervised) -> None:
    stopped = supervised.server()
    stopped.suspend()
    _, url = supervised.wait_until_it_stands(starts=2)
    assert speaks(url)
    assert "has not been heard of" in supervised.text()
    assert f"[{stopped.pid}]" in supervised.text()  # what it was doing


def test_the_rung_that_worked_is_tried_first_the_next_time(tmp_path: Path) -> None:
    first = Supervised(tmp_path, launch="isolated")
    first.wait_until_it_stands()
    first.process.terminate()
    assert first.process.wait(30) == 0
    first.close()
    second = Supervised(tmp_path)
    assert second.wait_until_it_stands()[0] == "isolated"
    second.process.terminate()
    assert second.process.wait(30) == 0
    second.close()


@pytest.mark.parametrize("supervised", RUNGS, indirect=True)
def test_the_server_has_all_its_cores(supervised: Supervised) -> None:
    """mpirun binds its child to one core unless it is told not to."""
    assert supervised.server().cpu_affinity() == psutil.Process().cpu_affinity()


def test_a_taken_port_ends_the_climb_with_its_own_error(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        supervised = Supervised(tmp_path, port=taken.getsockname()[1])
        assert supervised.process.wait(30) == 2
    assert supervised.text().count("CS-SET-002") == 1
    assert supervised.left() == []
    supervised.close()
