"""A server whose successor comes before it is ready itself."""

import os
import sys
from pathlib import Path

import pytest

from cosyserve.launch.ladder import Rung
from cosyserve.launch.supervisor import Supervisor
from cosyserve.settings import Settings

LEAVES = "from cosyserve.launch.heartbeat import to_supervisor; to_supervisor().send('retiring')"


def test_one_that_leaves_to_a_successor_while_it_warms_up_has_not_failed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rungs = [Rung(name, (sys.executable, "-c", LEAVES), dict(os.environ), 20, "") for name in ("first", "second")]
    assert Supervisor(Settings(state_dir=tmp_path), rungs, None).run() == 0
    assert "CS-RUN-002" not in caplog.text
    assert "second" not in caplog.text
