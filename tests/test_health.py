"""What a container's health check says."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.running import ROOT, Server

sys.path.insert(0, str(ROOT / "docker"))

from health import health

NOWHERE = 9


def processes(folder: Path, *commands: str) -> Path:
    """A /proc with these commands."""
    for number, command in enumerate(commands, start=1):
        (folder / str(number)).mkdir()
        (folder / str(number) / "cmdline").write_text(command.replace(" ", "\0") + "\0")
    return folder


def test_a_server_that_can_speak_is_healthy_wherever_it_listens(server: Server, tmp_path: Path) -> None:
    assert health("127.0.0.1", server.port, tmp_path) == (True, "ready")
    serving = f"/opt/venv/bin/python3 -m cosyserve serve --host 0.0.0.0 --port {server.port}"
    assert health("192.0.2.9", NOWHERE, processes(tmp_path, "tini -- entrypoint.sh", serving)) == (True, "ready")


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("python3 /opt/app/bin/cosyserve fetch --if-wanted", "starting: fetching the model"),
        ("python3 /opt/app/bin/cosyserve build --if-possible", "starting: building the engine"),
        ("python3 /opt/app/bin/cosyserve serve", "starting: loading the voice"),
        ("bash /usr/local/bin/entrypoint.sh serve", "nothing answers on 127.0.0.1 port 9"),
        ("python3 /opt/app/bin/cosyserve", "nothing answers on 127.0.0.1 port 9"),
    ],
)
def test_one_that_builds_is_told_from_one_that_is_dead(tmp_path: Path, command: str, said: str) -> None:
    well, text = health("127.0.0.1", NOWHERE, processes(tmp_path, command))
    assert not well
    assert text.startswith(said)


def test_it_needs_nothing_that_is_installed(tmp_path: Path) -> None:
    """As the image runs it: beside the package, without site-packages."""
    words = re.search(r"^HEALTHCHECK .*?\bCMD (\[.*?\])", (ROOT / "docker/Dockerfile").read_text(), re.S | re.M)
    assert words is not None
    python, *options, program = json.loads(words[1])
    assert (python, program) == ("python3", "/opt/app/health.py")
    shutil.copytree(ROOT / "src/cosyserve", tmp_path / "cosyserve")
    shutil.copy(ROOT / "docker/health.py", tmp_path)
    done = subprocess.run([sys.executable, *options, tmp_path / "health.py"], capture_output=True, text=True)
    assert done.stdout
    assert not done.stderr
