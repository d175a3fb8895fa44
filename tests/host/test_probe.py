"""Real children that end, fail, hang and hide."""

import os
import socket
import sys
from pathlib import Path

import psutil
import pytest

from cosyserve.host import probe
from cosyserve.host.probe import Outcome
from tests.stuck_disk import stuck_disk

PYTHON = sys.executable


def gone(pid: int) -> bool:
    """No such process, or a dead one that its new parent has not collected yet."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def python(code: str, limit: float = 30) -> probe.Result:
    return probe.run([PYTHON, "-c", code], os.environ, limit)


def test_one_that_ends() -> None:
    result = python("print('hello')")
    assert (result.outcome, result.status, result.output) == (Outcome.OK, 0, "hello\n")


def test_one_that_fails_keeps_its_last_words() -> None:
    result = python("import sys; print('x' * 100_000, flush=True); sys.exit('no luck')")
    assert (result.outcome, result.status) == (Outcome.FAILED, 1)
    assert result.output.endswith("no luck\n")


@pytest.mark.parametrize("command", [["/nowhere/mpirun"], ["/etc/passwd"]])
def test_one_that_cannot_be_started(command: list[str]) -> None:
    assert probe.run(command, {}, 5).outcome is Outcome.FAILED


def test_one_that_hangs_is_looked_at_and_ended() -> None:
    """It waits for an answer on a port, as hwloc's gl plugin does."""
    with socket.create_server(("127.0.0.1", 0)) as mute:
        port = mute.getsockname()[1]
        code = f"import socket; socket.create_connection(('127.0.0.1', {port})).recv(1)"
        result = python(code, limit=2)
    assert result.outcome is Outcome.HUNG
    assert result.status is None
    (stuck,) = result.stuck
    assert stuck.peers == (f"ESTABLISHED to 127.0.0.1:{port}",)
    assert stuck.parent == os.getpid()
    assert gone(stuck.pid)


DAEMON = """
import os, subprocess, sys
child = "import os, time; os.setsid(); print(os.getpid(), flush=True); time.sleep(1000)"
daemon = subprocess.Popen([sys.executable, "-c", child], stdout=subprocess.PIPE, text=True)
print(daemon.stdout.readline(), flush=True)
{then}
"""


@pytest.mark.parametrize("then", ["daemon.wait()", ""], ids=["with its parent", "left behind"])
def test_a_daemon_that_left_the_group_is_ended_too(then: str) -> None:
    """As Open MPI's orted does; the one left behind also keeps the output open."""
    result = python(DAEMON.format(then=then), limit=3)
    daemon = int(result.output.split()[0])
    assert gone(daemon)
    assert result.outcome is (Outcome.HUNG if then else Outcome.OK)


def test_one_that_ignores_signals_is_ended() -> None:
    code = "import signal, time; [signal.signal(s, signal.SIG_IGN) for s in (1, 2, 15)]; time.sleep(1000)"
    assert python(code, limit=1.5).outcome is Outcome.HUNG


@pytest.mark.mpi  # root, for the disk
def test_one_that_cannot_be_ended_is_named_and_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(probe, "END_SECONDS", 1.0)
    with stuck_disk(tmp_path) as disk:
        result = probe.run(["cat", str(disk / "engine")], os.environ, 2)
        (stuck,) = result.stuck
        assert (result.outcome, psutil.Process(stuck.pid).status()) == (Outcome.HUNG, psutil.STATUS_DISK_SLEEP)
    assert f"[{stuck.pid}] of {os.getpid()}: disk-sleep in request_wait_answer" in caplog.text


def test_the_stack_is_written_even_where_the_interpreter_is_held() -> None:
    """A C call that keeps the GIL, like MPI_Init inside an import, stops every Python thread."""
    held = "import ctypes; ctypes.PyDLL(None).sleep(1000)"
    code = f"import faulthandler, sys; faulthandler.dump_traceback_later(0.1, file=sys.stdout)\n{held}"
    result = python(code, limit=2)
    assert result.outcome is Outcome.HUNG
    assert 'File "<string>", line 2' in result.output
