"""The supervisor of a replica, which does not start a server that has stood once again: Ray Serve does."""

import logging
import os
import sys
from pathlib import Path

import pytest

from cosyserve.launch import memory
from cosyserve.launch.ladder import Rung
from cosyserve.launch.supervisor import Supervisor
from cosyserve.settings import Settings

STANDS_AND_FALLS = """
import sys
from pathlib import Path
from cosyserve.launch.heartbeat import to_supervisor
Path(sys.argv[1]).touch()
to_supervisor().send("ready")
sys.exit(9)
"""


def launched(folder: Path) -> tuple[int, list[str]]:
    """Its status, and the rungs that were tried."""
    tried = folder / "tried"
    tried.mkdir(exist_ok=True)
    rungs = [
        Rung(name, (sys.executable, "-c", STANDS_AND_FALLS, str(tried / name)), dict(os.environ), 20, "a test has it")
        for name in ("with-mpi", "without-mpi")
    ]
    settings = Settings(state_dir=folder / "state")
    status = Supervisor(settings, rungs, None, keeps_up=False).run()
    return status, sorted(each.name for each in tried.iterdir())


def test_it_ends_with_its_server_and_goes_without_mpi_after_the_third_time(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.ERROR)
    for _ in range(3):
        assert launched(tmp_path) == (1, ["with-mpi"])
    assert memory.falls(tmp_path / "state", 600) == 3
    assert "status 9" in caplog.text
    assert launched(tmp_path) == (1, ["with-mpi", "without-mpi"])
