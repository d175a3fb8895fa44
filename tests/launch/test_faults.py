"""The fault table of docs/launch.md: what becomes of requests, port, processes and exit status. Every row is real."""

import json
import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import httpx
import psutil
import pytest

from tests.launch.faults import PATH as FAULTS
from tests.launch.rungs import MPI_RUNGS, RUNGS, settings_of
from tests.launch.supervised import Supervised, speaks
from tests.running import HANGS, Server, addresses, eventually, starts, with_longer_limits

pytestmark = pytest.mark.slow

LONG = {"input": "This is one of many sentences. " * 300, "response_format": "pcm"}


@pytest.fixture
def faulty(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    monkeypatch.setenv("PYTHONPATH", str(FAULTS))
    yield monkeypatch


def say(url: str, text: str) -> None:
    """Ask for `text` without waiting for it to be spoken."""
    body = json.dumps({"input": text}).encode()
    host, port = url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as connection:
        head = f"POST /v1/audio/speech HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n"
        connection.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        with suppress(ConnectionResetError):
            assert connection.recv(1) == b""  # it ends without a word


def is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        return probe.connect_ex(("127.0.0.1", port)) != 0


@pytest.mark.parametrize("rung", RUNGS)
def test_a_killed_server_comes_back_and_nothing_outlives_a_killed_supervisor(tmp_path: Path, rung: str) -> None:
    """SIGTERM lets its streams finish; SIGKILL breaks them, in a way no client takes for their end."""
    with Supervised(tmp_path, **settings_of(rung)) as supervised:
        for restarts, sig in enumerate((signal.SIGTERM, signal.SIGKILL), 1):
            with httpx.stream("POST", f"{supervised.url}/v1/audio/speech", json=LONG, timeout=HANGS) as response:
                pieces = response.iter_raw()
                received = len(next(pieces))
                supervised.server().send_signal(sig)
                if sig is signal.SIGKILL:
                    with pytest.raises(httpx.TransportError):
                        list(pieces)
                else:
                    received += sum(map(len, pieces))
                    assert received / 2 / 24_000 > 300
            _, url = supervised.wait_until_it_stands(times=restarts + 1)
            assert speaks(url)
            ready = httpx.get(f"{url}/readyz").json()
            assert ready["restarts"] == restarts
            assert "ended with status" in ready["restart_reason"]
            assert f"cosyserve_restarts_total {restarts}.0" in httpx.get(f"{url}/metrics").text
        port = supervised.port
        supervised.process.kill()
        eventually(lambda: supervised.left() == [])
    eventually(lambda: is_free(port))


@pytest.mark.mpi
@pytest.mark.parametrize(
    ("rung", "name", "sig"),
    [("mpirun", "mpirun", signal.SIGKILL), ("mpirun", "mpirun", signal.SIGTERM), ("direct", "orted", signal.SIGKILL)],
)
def test_a_killed_helper_of_mpi_is_replaced(tmp_path: Path, rung: str, name: str, sig: signal.Signals) -> None:
    with Supervised(tmp_path, launch=rung) as supervised:
        supervised.below(name).send_signal(sig)
        _, url = supervised.wait_until_it_stands(times=2)
        assert speaks(url)
        assert supervised.stop() == 0
    assert supervised.left() == []


def test_a_closed_terminal_stops_it_in_order_but_not_under_nohup(tmp_path: Path) -> None:
    with Supervised(tmp_path, mpi="auto") as supervised:
        with httpx.stream("POST", f"{supervised.url}/v1/audio/speech", json=LONG, timeout=HANGS) as response:
            pieces = response.iter_raw()
            next(pieces)
            supervised.process.send_signal(signal.SIGHUP)
            list(pieces)  # a cut-off stream raises here
        assert supervised.wait() == 0
    with Supervised(tmp_path, before=("nohup",), mpi="auto") as kept:
        kept.wait_until_it_stands(times=2)
        kept.process.send_signal(signal.SIGHUP)
        with pytest.raises(psutil.TimeoutExpired):
            kept.process.wait(1)
        assert speaks(kept.url)


@pytest.mark.mpi
def test_a_daemon_of_mpi_that_ignores_a_signal_changes_nothing(tmp_path: Path) -> None:
    with Supervised(tmp_path, launch="direct") as supervised:
        supervised.below("orted").terminate()
        with pytest.raises(psutil.TimeoutExpired):
            supervised.below("orted").wait(1)
        assert speaks(supervised.url)
        assert "started again" not in supervised.text()


@pytest.mark.parametrize("rung", ["python", pytest.param("mpirun", marks=pytest.mark.mpi)])
@with_longer_limits
def test_a_server_that_stands_still_is_started_again(tmp_path: Path, rung: str) -> None:
    with Supervised(tmp_path, **settings_of(rung), heartbeat_seconds=starts(1)) as supervised:
        stopped = supervised.server()
        stopped.suspend()
        _, url = supervised.wait_until_it_stands(times=2)
        assert speaks(url)
        assert supervised.says("sent no heartbeat")
        assert supervised.says(f"[{stopped.pid}]")  # what it was doing


@with_longer_limits
def test_a_supervisor_that_slept_blames_nobody(tmp_path: Path) -> None:
    """As on a laptop that wakes up: the heartbeats of that time are not missing, nobody was there to hear them."""
    limit = starts(1)
    with Supervised(tmp_path, mpi="auto", heartbeat_seconds=limit) as supervised:
        family = [supervised.process, supervised.server()]
        for each in family:
            each.suspend()
        with pytest.raises(psutil.TimeoutExpired):
            supervised.process.wait(2 * limit)
        for each in family:
            each.resume()
        with pytest.raises(psutil.TimeoutExpired):
            family[1].wait(limit)
        assert "started again" not in supervised.text()
        assert speaks(supervised.url)


@pytest.mark.parametrize(
    ("text", "reason", "reason_zh"),
    [("hang now", "stuck in its synthesis", "合成停滞"), ("block now", "no heartbeat", "没有心跳")],
)
@with_longer_limits
def test_a_hung_synthesis_is_shown_and_the_server_comes_back(
    tmp_path: Path, faulty: pytest.MonkeyPatch, text: str, reason: str, reason_zh: str
) -> None:
    """One awaits forever, the other holds the event loop. The stacks name the line either way."""
    faulty.setenv("STAND_IN_FAULT", "obey")
    with Supervised(tmp_path, mpi="auto", heartbeat_seconds=starts(1), synthesis_seconds=starts(1)) as supervised:
        say(supervised.url, text)
        _, url = supervised.wait_until_it_stands(times=2)
        assert speaks(url)
        ready = httpx.get(f"{url}/readyz").json()
        assert reason in ready["restart_reason"] and reason_zh in ready["restart_reason_zh"]
        assert supervised.says("sitecustomize.py")
        assert supervised.says("in synthesize")


@pytest.mark.mpi
def test_what_keeps_crashing_with_mpi_is_tried_without(tmp_path: Path, faulty: pytest.MonkeyPatch) -> None:
    """As an engine does that takes the whole process with it."""
    faulty.setenv("STAND_IN_FAULT", "obey")
    with Supervised(tmp_path) as supervised:
        for start in range(1, 4):
            rung, url = supervised.wait_until_it_stands(times=start)
            assert rung in MPI_RUNGS
            say(url, "crash now")
        rung, url = supervised.wait_until_it_stands(times=4)
        assert rung == "without-mpi"
        assert speaks(url)


def test_a_crash_loop_ends_with_the_last_words_and_a_remedy(tmp_path: Path, faulty: pytest.MonkeyPatch) -> None:
    """Slow, as the supervisor waits 1, 2, 4, 8 and 16 s between the starts."""
    faulty.setenv("STAND_IN_FAULT", "obey")
    with Supervised(tmp_path, mpi="auto") as supervised:
        for start in range(1, 7):
            supervised.wait_until_it_stands(times=start)
            supervised.server().send_signal(signal.SIGUSR2)
        assert supervised.wait() == 1
    text = supervised.text()
    assert "CS-RUN-003" in text
    assert "5 times" in text
    assert "MemoryError: the stand-in was told to crash" in text.split("CS-RUN-003")[1]
    assert "解决后重新启动" in text
    assert supervised.left() == []
    eventually(lambda: is_free(supervised.port))


def test_requests_that_bring_it_down_never_end_it(tmp_path: Path, faulty: pytest.MonkeyPatch) -> None:
    """More often than a server may fall by itself, which is eight starts; it says whom it was serving.

    Slow, as there have to be so many, a second apart."""
    faulty.setenv("STAND_IN_FAULT", "obey")
    with Supervised(tmp_path, mpi="auto") as supervised:
        for start in range(1, 8):
            _, url = supervised.wait_until_it_stands(times=start)
            say(url, "crash now")
        _, url = supervised.wait_until_it_stands(times=8)
        assert speaks(url)
        ready = httpx.get(f"{url}/readyz").json()
        assert ready["restarts"] == 7
        assert "while it served 1 request" in ready["restart_reason"]
        assert supervised.stop() == 0


@pytest.mark.mpi
@pytest.mark.parametrize("fault", ["hang at import", "hang after import", "hang at bind"])
@with_longer_limits
def test_a_rung_that_hangs_is_left_for_the_next(tmp_path: Path, faulty: pytest.MonkeyPatch, fault: str) -> None:
    faulty.setenv("STAND_IN_FAULT", fault)
    faulty.setenv("STAND_IN_RUNG", "isolated")
    with Supervised(tmp_path, launch="isolated", mpi_seconds=starts(3), ready_seconds=starts(3)) as supervised:
        assert supervised.wait_until_it_stands()[0] == "without-mpi"
        assert speaks(supervised.url)
        assert supervised.says("sitecustomize.py")  # where it hung
        assert "CS-RUN" not in supervised.text()
        assert supervised.stop() == 0
    assert supervised.left() == []


@pytest.mark.parametrize("fault", ["hang after import", "hang at bind"])
@with_longer_limits
def test_what_hangs_on_every_rung_ends_with_an_error(tmp_path: Path, faulty: pytest.MonkeyPatch, fault: str) -> None:
    faulty.setenv("STAND_IN_FAULT", fault)
    supervised = Supervised(tmp_path, mpi="auto", ready_seconds=starts(3))
    assert supervised.wait() == 1
    assert "CS-RUN-002" in supervised.text()
    assert "sitecustomize.py" in supervised.text()
    assert supervised.left() == []


@pytest.mark.parametrize("mpi", ["auto", pytest.param("always", marks=pytest.mark.mpi)])
def test_a_taken_port_ends_the_climb_with_its_own_error(tmp_path: Path, mpi: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        supervised = Supervised(tmp_path, port=taken.getsockname()[1], mpi=mpi)
        assert supervised.wait() == 2
    assert supervised.text().count("CS-SET-002") == 1
    assert supervised.left() == []


def test_of_two_starts_at_once_one_serves_and_the_other_says_why(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    folders = [tmp_path / "one", tmp_path / "two"]
    for folder in folders:
        folder.mkdir()
    servers = [Server(folder, port=port, state_dir=tmp_path / "state") for folder in folders]
    try:
        eventually(lambda: any(server.process.poll() is not None for server in servers))
        loser, winner = sorted(servers, key=lambda server: server.process.poll() is None)
        assert loser.wait() == 2
        assert "CS-SET-002" in loser.text()
        winner.wait_until_it_stands()
        assert speaks(winner.url)
        assert winner.stop() == 0
    finally:
        for server in servers:
            server.close()


def test_a_stale_state_file_naming_another_process_harms_nobody(tmp_path: Path) -> None:
    """What else may stand in such a file is told by test_memory, without a server for each."""
    state = tmp_path / "state"
    state.mkdir()
    with subprocess.Popen(["sleep", "60"]) as stranger:
        contents = {
            "launch.json": '{"rung": "mpirun", "pid": %d, "key": {}}',
            "launch.pid": "%d",
            "cosyserve.pid": "[%d",
        }
        for name, content in contents.items():
            (state / name).write_text(content % stranger.pid)
        with Supervised(tmp_path, mpi="auto") as supervised:
            assert supervised.wait_until_it_stands()[0] == "python"
            assert speaks(supervised.url)
            assert supervised.stop() == 0
        assert stranger.poll() is None
        stranger.kill()


def test_without_a_home_and_with_nothing_open_it_serves_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As `docker run --user 12345` and a careless daemon would start it: root's entry in passwd is hidden."""
    monkeypatch.delenv("HOME", raising=False)
    closed: tuple[str, ...] = ("sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh")
    if os.geteuid() == 0:
        closed = ("unshare", "-m", "sh", "-c", 'mount --bind /dev/null /etc/passwd; exec "$@" <&- >&- 2>&-', "sh")
    file = tmp_path / "server.json"
    server = Server(tmp_path, before=closed, log_file=file, state_dir="~/state")
    try:
        eventually(lambda: file.exists() and bool(addresses(file.read_text())))
        assert speaks(addresses(file.read_text())[-1])
        assert server.stop() == 0
    finally:
        server.close()
    assert "Traceback" not in file.read_text()


@pytest.mark.mpi
def test_a_full_disk_under_the_log_file_costs_the_log_alone(tmp_path: Path) -> None:
    full = ("unshare", "-m", "sh", "-ec", 'mkdir -p log; mount -t tmpfs -o size=4k none log; exec "$@"', "sh")
    with Supervised(tmp_path, before=full, mpi="auto", log_file=tmp_path / "log" / "server.log") as supervised:
        for _ in range(30):
            assert speaks(supervised.url)
        assert supervised.stop() == 0
    assert supervised.text().count("cannot be written: [Errno 28]") == 1
    assert "Traceback" not in supervised.text()


def test_a_full_disk_under_the_stream_costs_the_log_alone(tmp_path: Path) -> None:
    full = ("sh", "-c", 'exec "$@" 2>/dev/full', "sh")
    file = tmp_path / "kept.log"
    server = Server(tmp_path, before=full, log_file=file)
    try:
        eventually(lambda: file.exists() and bool(addresses(file.read_text())))
        url = addresses(file.read_text())[-1]
        eventually(lambda: httpx.get(f"{url}/readyz").status_code == 200)
        assert speaks(url)
        assert server.stop() == 0
    finally:
        server.close()
