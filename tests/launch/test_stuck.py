"""A start that cannot be ended holds up nobody: the next rung is tried beside it."""

import os
import sys
from pathlib import Path

import pytest

from cosyserve.host import probe
from cosyserve.launch import job
from cosyserve.launch.flag import Flag
from cosyserve.launch.ladder import Rung
from tests.running import HANGS
from tests.stuck_disk import stuck_disk

READY = "from cosyserve.launch.heartbeat import to_supervisor; to_supervisor().send('ready')"


@pytest.mark.mpi  # root, for the disk
def test_the_next_rung_is_tried_where_a_start_cannot_be_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(probe, "END_SECONDS", 1.0)

    with stuck_disk(tmp_path) as disk:
        stuck = Rung("stuck", ("cat", str(disk / "engine")), os.environ, 2, "")
        free = Rung("free", (sys.executable, "-c", READY), os.environ, HANGS, "")
        assert job.run([stuck, free], None, HANGS, Flag()) is None
    assert "cannot be ended, and are left" in caplog.text
    assert "Launch method 'stuck' failed" in caplog.text
