"""`cosyserve set-up`, which `make run-local` runs: what it has brought for which settings. The clone's scripts are
stand-ins here that tell what they were asked for; test_first_hour.py has the real ones."""

import os
import pty
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.setup.terminal import Terminal

MODEL = "pretrained_models/CosyVoice2-0.5B"
COSYVOICE2 = ["setup main cosyvoice2", "setup-torch auto"]
RAY = ["setup main scale"]


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    for name in ("setup", "setup-torch"):
        script = tmp_path / "scripts" / name
        script.parent.mkdir(exist_ok=True)
        script.write_text(f'#!/bin/sh\nshift\necho "{name} $*" >>asked\n')
        script.chmod(0o755)
    return tmp_path


def environ(clone: Path) -> dict[str, str]:
    own = {name: value for name, value in os.environ.items() if not name.startswith("COSYSERVE_")}
    return {**own, "COSYSERVE_STATE_DIR": str(clone / "state"), "COSYSERVE_PORT": "0"}


def brought(clone: Path) -> list[str]:
    asked = clone / "asked"
    return asked.read_text().splitlines() if asked.exists() else []


@pytest.mark.parametrize(
    ("settings", "there", "expected"),
    [
        ("", False, []),
        ("", True, COSYVOICE2),
        ("COSYSERVE_SYNTHESIZER=preview", True, []),
        ("COSYSERVE_MODELS_DIR=elsewhere", True, []),
        ("COSYSERVE_REPLICAS=2", False, RAY),
        ("OTEL_TRACES_EXPORTER=otlp", False, ["setup main traces"]),
        ("COSYSERVE_REPLICAS=2", True, [*COSYVOICE2, *RAY]),
        (f"COSYSERVE_REPLICAS=2\nCOSYSERVE_REPLICA_PYTHON={sys.executable}", True, RAY),
    ],
)
def test_what_env_asks_for_is_brought(clone: Path, settings: str, there: bool, expected: list[str]) -> None:
    (clone / ".env").write_text(f"{settings}\n")
    if there:
        (clone / MODEL).mkdir(parents=True)
    command = [sys.executable, "-m", "cosyserve", "set-up"]
    done = subprocess.run(command, cwd=clone, env=environ(clone), stdin=subprocess.DEVNULL, capture_output=True)
    assert (done.returncode, brought(clone)) == (0, expected), done.stderr


def test_options_count_as_they_do_for_serve(clone: Path) -> None:
    command = [sys.executable, "-m", "cosyserve", "set-up", "--replicas", "1", "--launch", "direct"]
    subprocess.run(command, cwd=clone, env=environ(clone), stdin=subprocess.DEVNULL, check=True)
    assert brought(clone) == RAY


def test_a_script_that_fails_is_an_error_with_a_remedy(clone: Path) -> None:
    (clone / MODEL).mkdir(parents=True)
    (clone / "scripts/setup").write_text("#!/bin/sh\nexit 1\n")
    command = [sys.executable, "-m", "cosyserve", "set-up"]
    done = subprocess.run(command, cwd=clone, env=environ(clone), stdin=subprocess.DEVNULL, capture_output=True)
    assert done.returncode == 2
    assert "CS-SET-007" in done.stderr.decode()


Leave = Callable[[Terminal], None]


@pytest.mark.parametrize("leave", [Terminal.presses_ctrl_c, lambda terminal: terminal.types("\x04")], ids=["^C", "^D"])
def test_who_leaves_the_question_has_refused_nothing(clone: Path, leave: Leave) -> None:
    for _ in range(2):
        with Terminal(f"{sys.executable} -m cosyserve set-up", clone, environ(clone)) as terminal:
            terminal.until("[y/N]")
            terminal.waits()
            leave(terminal)
            assert terminal.ends() == 1
        assert "Traceback" not in terminal.shown
    assert brought(clone) == []


@pytest.mark.parametrize("language", ["C.UTF-8", "zh_CN.UTF-8"])
def test_the_question_is_in_the_terminals_language(clone: Path, language: str) -> None:
    asked = {**environ(clone), "LANG": language, "LC_ALL": ""}
    with Terminal(f"{sys.executable} -m cosyserve set-up", clone, asked) as terminal:
        terminal.until("[y/N]")
        assert ("现在下载 CosyVoice2 吗" in terminal.shown) == language.startswith("zh")


@pytest.mark.parametrize("piped", ["stdin", "stdout", "stderr"])
def test_nobody_is_asked_who_does_not_see_or_cannot_answer(clone: Path, piped: str) -> None:
    ours, theirs = pty.openpty()
    streams: dict[str, Any] = dict.fromkeys(("stdin", "stdout", "stderr"), theirs) | {piped: subprocess.DEVNULL}
    command = [sys.executable, "-m", "cosyserve", "set-up"]
    done = subprocess.run(command, cwd=clone, env=environ(clone), **streams)
    os.close(theirs)
    os.close(ours)
    assert done.returncode == 0
