"""The supervisor with real processes, a real Open MPI, and everything done to them that happens to such processes."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import httpx
import psutil
import pytest

from tests.host.hosts import HOSTS, namespace
from tests.launch.rungs import MPI_RUNGS, RUNGS, settings_of
from tests.launch.supervised import Supervised, speaks
from tests.running import HANGS, ROOT, asked, eventually, starts, with_longer_limits


@pytest.mark.mpi
@pytest.mark.parametrize("name", HOSTS)
@with_longer_limits
def test_it_comes_up_with_mpi_on_every_host_and_leaves_nothing(name: str) -> None:
    host = HOSTS[name]
    done = subprocess.run(
        [*host.wrap, sys.executable, "-m", "tests.launch.supervised", str(starts(4))],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, **host.environ},
        timeout=HANGS,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    came = json.loads(done.stdout.splitlines()[-1])
    assert came["rung"] in (*MPI_RUNGS, "bare")  # and not the one without MPI
    assert came["spoken"] is not False
    assert came["status"] == 0
    assert came["left"] == []


@pytest.mark.mpi
@with_longer_limits
def test_a_second_start_beside_tensorboard_ssh_and_our_own_server() -> None:
    done = subprocess.run(
        [*namespace("-n", "ip link set lo up"), sys.executable, "-m", "tests.launch.crowded", str(starts(4))],
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=HANGS,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == {
        "plain python": "hung",  # what all this is about
        "as an engine build starts": "ok",
        "direct": ["direct", True, 0],
        "isolated": ["isolated", True, 0],
        "mpirun": ["mpirun", True, 0],
        "first": [True, 0],
    }


@pytest.mark.parametrize("rung", RUNGS)
def test_it_has_all_its_cores_and_a_stop_lets_streams_finish(tmp_path: Path, rung: str) -> None:
    """mpirun binds its child to one core unless it is told not to, kills it within a second of a stop and returns 1."""
    body = {"input": "This is one of many sentences. " * 300, "response_format": "pcm"}
    with Supervised(tmp_path, **settings_of(rung)) as supervised:
        assert supervised.server().cpu_affinity() == psutil.Process().cpu_affinity()
        with httpx.stream("POST", f"{supervised.url}/v1/audio/speech", json=body, timeout=HANGS) as response:
            pieces = response.iter_raw()
            received = len(next(pieces))
            for _ in range(2):  # as make passes on what its group was sent
                supervised.process.send_signal(signal.SIGTERM)
            received += sum(map(len, pieces))  # a cut-off stream raises here
        assert received / 2 / 24_000 > 300
        assert supervised.wait() == 0
    assert supervised.left() == []


@pytest.mark.mpi
def test_the_rung_that_worked_is_tried_first_the_next_time(tmp_path: Path) -> None:
    with Supervised(tmp_path, launch="isolated") as first:
        assert first.stop() == 0
    with Supervised(tmp_path) as second:
        assert second.wait_until_it_stands(times=2)[0] == "isolated"


@pytest.mark.mpi
def test_a_rung_that_is_not_there_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))  # on which there is no mpirun
    with Supervised(tmp_path, launch="mpirun") as supervised:
        rung, url = supervised.wait_until_it_stands()
        assert rung == "without-mpi"
        assert speaks(url)
    assert "Launch method 'mpirun' cannot be tried" in supervised.text()


@pytest.mark.mpi
def test_as_process_1_it_collects_orphans(tmp_path: Path) -> None:
    """In a container of its own every orphan becomes its child, and stays a zombie unless it is collected."""
    container = ("unshare", "--pid", "--fork", "--kill-child", "--mount-proc")
    with Supervised(tmp_path, before=container, mpi="auto") as supervised:
        (first,) = supervised.process.children()  # process 1 of the new namespace
        orphan = ["nsenter", "--target", str(first.pid), "--pid", "sh", "-c", "(exec sleep 1000) >&- 2>&- & echo made"]
        subprocess.run(orphan, check=True, capture_output=True)
        eventually(lambda: any(asked(child.name) == "sleep" for child in first.children()))
        next(child for child in first.children() if child.name() == "sleep").kill()
        eventually(lambda: all(asked(child.name) != "sleep" for child in first.children()))
        assert speaks(supervised.url)
        first.terminate()
        assert supervised.wait() == 0
