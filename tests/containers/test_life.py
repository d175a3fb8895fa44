"""A container's life: users, a read-only root, mpirun, stops, deaths, health."""

import threading
from typing import Any

import httpx
import pytest

from tests.containers.conftest import Start
from tests.running import HANGS, eventually

pytestmark = pytest.mark.containers


@pytest.mark.parametrize(("user", "read_only"), [("", True), ("0", False), ("54321:54321", True)])
def test_it_speaks_under_mpirun_whoever_it_runs_as(preview: str, run: Start, user: str, read_only: bool) -> None:
    options: dict[str, Any] = {"read_only": True, "tmpfs": {"/tmp": ""}} if read_only else {}
    running = run(preview, user=user, environment={"COSYSERVE_MPI": "always"}, **options)
    running.wait_for("healthy")
    assert running.speaks()
    assert httpx.get(f"{running.url}/readyz").json()["rung"] == "mpirun"
    processes = running.processes()
    assert processes[1].startswith("tini")
    assert sum(command.startswith("mpirun -n 1 ") for command in processes.values()) == 1
    environment = running.runs("cat", f"/proc/{running.server()}/environ").split("\0")
    assert "OMPI_COMM_WORLD_RANK=0" in environment
    owner = running.runs("python3", "-c", f"import os; print(os.stat('/proc/{running.server()}').st_uid)", user="0")
    assert owner.strip() == (user.split(":")[0] or "10001")


def test_a_stop_lets_the_stream_finish(preview: str, run: Start) -> None:
    running = run(preview, environment={"COSYSERVE_GRACE_SECONDS": str(HANGS)})
    running.wait_for("healthy")
    body = {"input": "One two three four five six seven eight nine ten. " * 150, "response_format": "wav"}
    expected = len(httpx.post(f"{running.url}/v1/audio/speech", json=body, timeout=HANGS).content)
    received = 0
    with httpx.stream("POST", f"{running.url}/v1/audio/speech", json=body, timeout=HANGS) as answer:
        chunks = answer.iter_raw(1 << 16)
        received += len(next(chunks))
        stop = threading.Thread(target=lambda: running.container.stop(timeout=HANGS))
        stop.start()
        eventually(lambda: f"have {HANGS} s to finish" in running.logs())
        received += sum(map(len, chunks))
    stop.join()
    # A stream that is cut off raises; eSpeak's pauses differ by some samples from one time to the next.
    assert received == pytest.approx(expected, rel=1e-3)
    assert running.container.wait(timeout=HANGS)["StatusCode"] == 0


@pytest.mark.parametrize("mpi", ["auto", "always"])
def test_a_server_that_is_killed_comes_back(preview: str, run: Start, mpi: str) -> None:
    running = run(preview, environment={"COSYSERVE_MPI": mpi})
    running.wait_for("healthy")
    running.runs("python3", "-c", f"import os; os.kill({running.server()}, 9)", user="0")
    eventually(lambda: running.logs().count("runs with launch method") == 2)
    running.wait_for("healthy")
    assert running.speaks()
    running.container.reload()
    assert running.container.attrs["RestartCount"] == 0  # it was the supervisor's doing
    assert httpx.get(f"{running.url}/readyz").json()["restarts"] == 1


def test_health_tells_how_it_is(preview: str, run: Start) -> None:
    running = run(preview, environment={"COSYSERVE_HEARTBEAT_SECONDS": str(HANGS)})
    assert running.health() == "starting"
    running.wait_for("healthy")
    script = f"import os, signal; os.kill({running.server()}, signal.SIG%s)"
    running.runs("python3", "-c", script % "STOP", user="0")
    running.wait_for("unhealthy")
    running.runs("python3", "-c", script % "CONT", user="0")
    running.wait_for("healthy")
    assert running.speaks()
    running.container.stop(timeout=HANGS)
    assert running.container.wait(timeout=HANGS)["StatusCode"] == 0
