"""What a container's health check says."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from cosyserve import health
from tests.running import Server

NOWHERE = 9


def test_a_server_that_can_speak_is_healthy(server: Server) -> None:
    done = subprocess.run(
        [sys.executable, "-I", "-S", str(health.__file__)],
        env={**os.environ, "COSYSERVE_PORT": str(server.port)},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout) == (0, "ready\n")


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("python3 /opt/app/bin/cosyserve fetch --if-wanted", "starting: fetching the model"),
        ("python3 /opt/app/bin/cosyserve build --if-possible", "starting: building the engine"),
        ("python3 /opt/app/bin/cosyserve serve", "starting: loading the model"),
        ("bash /usr/local/bin/entrypoint.sh serve", "nothing answers on port 9"),
        ("python3 /opt/app/bin/cosyserve", "nothing answers on port 9"),
    ],
)
def test_one_that_builds_is_told_from_one_that_is_dead(tmp_path: Path, command: str, said: str) -> None:
    (tmp_path / "7").mkdir()
    (tmp_path / "7" / "cmdline").write_text(command.replace(" ", "\0") + "\0")
    well, text = health.health(NOWHERE, tmp_path)
    assert not well
    assert text.startswith(said)
