"""The clients that voice agents and pages use, each in its own environment, against a server as a user starts it."""

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.running import GREETING, HANGS, ROOT, Server, leave_out
from tests.signals import from_s16le, is_speech

pytestmark = pytest.mark.slow  # environments of 100 packages are made

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def python() -> Path:
    """The Python of an environment with the clients in it."""
    if sys.version_info < (3, 11):
        leave_out("the newest clients need Python 3.11")
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    subprocess.run([ROOT / "scripts/setup", "--python", version, ".venv-clients", "clients"], check=True)
    return ROOT / ".venv-clients" / "bin" / "python"


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a program and the client it needs."""
    if shutil.which("npm") is None:
        leave_out("there is no npm here")
    folder = tmp_path_factory.mktemp("node") / "client"
    shutil.copytree(HERE / "node", folder)
    subprocess.run(["npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts"], cwd=folder, check=True)
    return folder


def said(*command: str | Path) -> bytes:
    run = subprocess.run(command, capture_output=True, timeout=HANGS)
    assert run.returncode == 0, run.stderr.decode()
    return run.stdout


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One that also takes clients of the Wyoming protocol."""
    with Server(tmp_path_factory.mktemp("server"), wyoming_port=0) as running:
        yield running
        assert "Traceback" not in running.text()


@pytest.mark.parametrize("program", sorted(path.name for path in (HERE / "programs").glob("*.py")))
def test_text_is_spoken_and_silence_is_no_error(server: Server, python: Path, program: str) -> None:
    client, address = HERE / "programs" / program, server.wyoming if program.startswith("wyoming") else server.url
    assert is_speech(from_s16le(said(python, client, address, GREETING)))
    assert not from_s16le(said(python, client, address, ".")).any()


def test_openai_for_node(server: Server, node: Path) -> None:
    assert is_speech(from_s16le(said("node", node / "speak.mjs", server.url, GREETING)))
    assert not from_s16le(said("node", node / "speak.mjs", server.url, "✅")).any()
