"""What is named as a command can be typed."""

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from cosyserve.command import command
from cosyserve.errors import FOLDER_UNWRITABLE, NOT_FETCHED, CosyError
from cosyserve.machine import IMAGE


@pytest.fixture
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A clone with an environment of its own, as this process were in it."""
    programs = tmp_path / "a clone/.venv/bin"
    programs.mkdir(parents=True)
    program = programs / "cosyserve"
    program.write_text("#!/bin/sh\necho ours\n")
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(programs / "python"))
    monkeypatch.setenv("PATH", os.defpath)
    return programs


def said() -> str:
    return subprocess.run(["sh", "-c", command()], capture_output=True, text=True, check=True).stdout


def test_in_the_clone(environment: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(environment.parent.parent)
    assert command() == ".venv/bin/cosyserve"
    assert said() == "ours\n"


def test_elsewhere_and_with_a_space_in_the_path(environment: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir("/")
    assert said() == "ours\n"


def test_on_the_path(environment: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", f"{environment}:{os.defpath}")
    assert command() == "cosyserve"
    assert said() == "ours\n"


def test_another_one_on_the_path_is_not_named(
    environment: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "cosyserve"
    other.write_text("#!/bin/sh\necho another\n")
    other.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.defpath}")
    assert said() == "ours\n"


def test_without_a_program_the_module_is_named(environment: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (environment / "cosyserve").unlink()
    assert shlex.split(command())[1:] == ["-m", "cosyserve"]


def test_in_a_container_it_is_what_is_typed_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(IMAGE, "cosyserve:slim")
    monkeypatch.setattr("socket.gethostname", lambda: "box")
    assert command() in ("docker exec box cosyserve", "kubectl exec box -- cosyserve")


def test_errors_name_it(environment: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(environment.parent.parent)
    error = CosyError(NOT_FETCHED, model="m", folder="f", files="x")
    assert ".venv/bin/cosyserve fetch" in error.remedy
    assert ".venv/bin/cosyserve fetch" in error.remedy_zh
    assert error.facts == {"model": "m", "folder": "f", "files": "x"}  # what passes to another process stays as it was
    assert "{" not in str(CosyError(FOLDER_UNWRITABLE, folder="f", reason="r"))
