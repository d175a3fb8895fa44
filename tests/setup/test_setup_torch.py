"""The real scripts/setup-torch with stand-ins for uv, and for the Python whose pip installs."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.running import ROOT

NO_BUILD = "".join(f"line {number} of what uv says\n" for number in range(1, 10)) + "there is no wheel for this driver"
# What uv says when it is asked (--dry-run), when it installs, and whether each of them works.
UV = """#!/bin/sh
echo "uv $*" >>"$TOLD"
case $* in *--dry-run*) says=$TOLD.asked ;; *) says=$TOLD.installs ;; esac
cat "$says" >&2
test ! -s "$says"
"""
PYTHON = """#!/bin/sh
case $* in *"import sys, torch"*) exit 1 ;; *--version*) exit 0 ;; esac
echo "pip $*" >>"$TOLD"
exit ${PIP_FAILS:-0}
"""


class Machine:
    """An environment without PyTorch, whose uv and Python note what they are asked for."""

    def __init__(self, folder: Path) -> None:
        self.venv, self.told = folder / "venv", folder / "told"
        (self.venv / "bin").mkdir(parents=True)
        for name, script in (("uv", UV), ("python", PYTHON)):
            (self.venv / "bin" / name).write_text(script)
            (self.venv / "bin" / name).chmod(0o755)
        self.uv_says("", "")

    def uv_says(self, asked: str, installs: str) -> None:
        self.told.with_name("told.asked").write_text(asked)
        self.told.with_name("told.installs").write_text(installs)

    def sets_up(self, **environ: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [ROOT / "scripts/setup-torch", str(self.venv), "auto"],
            env={"PATH": "/usr/bin:/bin", "TOLD": str(self.told), **environ},
            capture_output=True,
            text=True,
        )

    @property
    def installed_by(self) -> str:
        return self.told.read_text().splitlines()[-1].split()[0]


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_uv_installs_the_build_for_the_driver_and_a_second_time_nothing_is_done(machine: Machine) -> None:
    done = machine.sets_up()
    assert (done.returncode, machine.installed_by) == (0, "uv"), done.stderr
    assert "--torch-backend auto" in machine.told.read_text()
    machine.told.unlink()
    assert machine.sets_up().returncode == 0
    assert not machine.told.exists()


def test_where_uv_has_no_build_its_last_lines_are_shown_and_pip_installs(machine: Machine) -> None:
    machine.uv_says(NO_BUILD, "")
    done = machine.sets_up()
    assert (done.returncode, machine.installed_by) == (0, "pip"), done.stderr
    assert "  there is no wheel for this driver\n" in done.stderr
    assert "  line 9 of what uv says\n" in done.stderr
    assert "line 1 of" not in done.stderr
    assert "taking the build that pip's configuration offers" in done.stderr


def test_where_uv_breaks_off_its_words_are_shown_and_it_ends(machine: Machine) -> None:
    machine.uv_says("", "the connection broke")
    done = machine.sets_up()
    assert done.returncode != 0
    assert "the connection broke" in done.stderr
    assert "uv could not install torch==" in done.stderr
    assert machine.installed_by == "uv"
    assert not (machine.venv / ".cosyserve-torch").exists()


def test_where_neither_can_both_are_named(machine: Machine) -> None:
    machine.uv_says("no route to the index", "")
    done = machine.sets_up(PIP_FAILS="1")
    assert done.returncode != 0
    assert "no route to the index" in done.stderr
    assert "neither could pip" in done.stderr
    assert not (machine.venv / ".cosyserve-torch").exists()


@pytest.mark.skipif(sys.platform != "linux", reason="the PATH has no uv of the system's")
def test_where_uv_cannot_be_installed_the_reason_is_shown(machine: Machine) -> None:
    (machine.venv / "bin/uv").unlink()
    done = machine.sets_up(PIP_FAILS="1")
    assert done.returncode != 0
    assert "uv, which finds the build for this driver, could not be installed" in done.stderr
