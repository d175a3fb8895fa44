"""What fails beside other tests runs once more by itself (scripts/pytest): a fault fails twice."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.running import ROOT

TESTS = """
from pathlib import Path
import pytest

pytestmark = pytest.mark.xdist_group("a/group.py")

def test_that_passes():
    pass

@pytest.mark.parametrize("what", ["a@b"])
def test_that_fails_once(what):
    seen = Path("seen").exists()
    Path("seen").touch()
    assert seen

def test_with_a_fault():
    assert not Path("fault").exists()
"""


def run(folder: Path, *options: str) -> "subprocess.CompletedProcess[str]":
    (folder / "test_some.py").write_text(TESTS)
    command = [str(ROOT / "scripts/pytest"), sys.executable, "-m", "pytest", "-q", *options]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300)


@pytest.mark.parametrize("options", [[], ["--numprocesses", "2", "--dist", "loadgroup"]])
def test_what_passes_by_itself_is_named_and_passes(tmp_path: Path, options: list[str]) -> None:
    done = run(tmp_path, *options)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "FAILED test_some.py::test_that_fails_once" in done.stdout  # the first time
    assert "PASSED test_some.py::test_that_fails_once" in done.stdout
    assert "FAILED ONCE" in done.stdout
    assert "\n1 passed" in done.stdout


def test_a_fault_fails_twice(tmp_path: Path) -> None:
    (tmp_path / "fault").touch()
    done = run(tmp_path)
    assert done.returncode == 1
    assert done.stdout.count("FAILED test_some.py::test_with_a_fault") == 2
    assert "FAILED ONCE" not in done.stdout


def test_what_is_no_failed_test_is_not_tried_again(tmp_path: Path) -> None:
    done = run(tmp_path, "--no-such-option")
    assert done.returncode == 4
    assert "once more" not in done.stdout
