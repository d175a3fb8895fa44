"""The doctor on hosts whose MPI is broken in a known way, with a real Open MPI."""

import json
import os
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from cosyserve.host import mpi
from cosyserve.host.causes import explain
from cosyserve.host.probe import Outcome, Result, Stuck
from cosyserve.host.report import Verdict
from cosyserve.machine import Machine
from tests.host.hosts import HOSTS
from tests.running import HANGS, ROOT

TWO_LIBRARIES = "/opt/conda/lib/libmpi.so.12|/usr/lib/libmpi.so.40"  # MPICH and Open MPI


@cache
def doctor(name: str) -> dict[str, dict[str, Any]]:
    """The findings of `cosyserve doctor --json` on that host, by their ids. Each is asked once."""
    host = HOSTS[name]
    done = subprocess.run(
        [*host.wrap, sys.executable, "-m", "cosyserve", "doctor", "--json"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, **host.environ},
        timeout=HANGS,
    )
    assert done.returncode in (0, 1), done.stdout + done.stderr
    report = json.loads(done.stdout)
    assert report["seconds"] < 60  # as README says
    return {finding["id"]: finding for finding in report["findings"]}


@pytest.mark.mpi
@pytest.mark.parametrize("name", HOSTS)
def test_finds_a_way_to_start_and_says_why_the_plain_one_fails(name: str) -> None:
    host = HOSTS[name]
    start = doctor(name)["CS-MPI-007"]
    probes = start["facts"]["probes"]
    assert probes[host.attempt]["outcome"] == "ok", start
    assert list(probes)[-1] == host.attempt
    if host.attempt == "direct":
        assert start["state"] == "ok"
    else:
        assert start["state"] == "warn"
        assert host.says in start["cause"]
        assert start["remedy"]
        assert start["cause_zh"]


def test_a_launcher_and_a_daemon_of_two_installations_are_told(tmp_path: Path) -> None:
    """As where conda is activated over Debian's Open MPI."""
    for folder, tool in (("conda/bin", "mpirun"), ("usr/bin", "orted")):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / tool).touch(0o755)
    path = f"{tmp_path}/conda/bin:{tmp_path}/usr/bin"
    finding = mpi.tools(Machine(environ={"PATH": path}))
    assert finding.state is Verdict.WARN
    assert "different installations" in finding.cause
    assert f"{tmp_path}/conda/bin/mpirun" in finding.remedy
    (tmp_path / "conda/bin/orted").touch(0o755)
    assert mpi.tools(Machine(environ={"PATH": path})).state is Verdict.OK


@pytest.mark.parametrize(("paths", "state"), [("/usr/lib/libmpi.so.40", Verdict.OK), (TWO_LIBRARIES, Verdict.FAIL)])
def test_two_mpi_libraries_in_one_process_are_told(paths: str, state: Verdict) -> None:
    output = f"cosyserve-mpi|Open MPI v4.1.4|{paths}\n"
    finding = mpi.library({"direct": Result(Outcome.OK, 0.4, output, 0)})
    assert finding.state is state
    assert paths.split("|")[0] in finding.cause


@pytest.mark.mpi
def test_a_hung_start_is_shown_with_its_processes_peers_and_stack() -> None:
    start = doctor("something on 6006")["CS-MPI-007"]
    seen = "\n".join(start["facts"]["seen"])
    assert "orted[" in seen
    assert "ESTABLISHED to 127.0.0.1:6006" in seen
    assert 'File "<string>", line 4' in seen  # the import of mpi4py


@pytest.mark.mpi
def test_the_other_checks_point_at_the_cause_before_any_probe() -> None:
    assert doctor("something on 6006")["CS-MPI-002"]["remedy"] == "export HWLOC_COMPONENTS=-gl,-opencl"
    assert doctor("left by Slurm")["CS-MPI-003"]["remedy"].startswith("unset SLURM_")
    assert doctor("TMPDIR read-only")["CS-MPI-004"]["remedy"].startswith("export TMPDIR=")
    assert doctor("no loopback")["CS-MPI-005"]["remedy"] == "ip link set lo up"
    healthy = doctor("healthy")
    assert healthy["CS-MPI-006"]["cause"].startswith("Open MPI")
    assert healthy["CS-MPI-003"]["state"] == healthy["CS-MPI-004"]["state"] == "ok"


def stuck(name: str, wait_channel: str, *peers: str) -> Stuck:
    return Stuck(1, 0, name, "sleeping", wait_channel, peers)


@pytest.mark.parametrize(
    ("processes", "words"),
    [
        ([stuck("python", "anon_pipe_read"), stuck("orted", "poll", "ESTABLISHED to 127.0.0.1:6008")], "port 6008"),
        (
            [stuck("python", "anon_pipe_read"), stuck("orted", "wait", "SYN_SENT to 127.0.0.1:6001")],
            "drops its packets",
        ),
        ([stuck("python", "anon_pipe_read"), stuck("orted", "do_wait")], "orted does not answer"),
        ([stuck("python", "futex_wait_queue")], "a lock of its own"),
        ([stuck("python", "ep_poll", "ESTABLISHED to 10.0.0.1:443")], "not known yet"),
        ([], "not known yet"),
    ],
)
def test_causes_of_hangs(processes: list[Stuck], words: str) -> None:
    cause = explain(Result(Outcome.HUNG, 9, "", stuck=tuple(processes)))
    assert words in cause.en
    assert cause.zh
