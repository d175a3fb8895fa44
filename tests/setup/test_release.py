"""`make release`: the real script in a repository of its own."""

import datetime
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from cosyserve import __version__
from cosyserve.remote import bundle
from tests.running import ROOT

CHANGES = "# Changelog\n\n## Unreleased\n\n- It speaks louder.\n\n## 0.1.0 (2026-01-02)\n\n- It speaks.\n"
INIT = '"""Speech."""\n\n__version__ = "0.1.0"\n'


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    for name, text in (("CHANGELOG.md", CHANGES), ("src/cosyserve/__init__.py", INIT)):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    (tmp_path / "scripts").mkdir()
    shutil.copy(ROOT / "scripts/release.py", tmp_path / "scripts")
    git(tmp_path, "init", "--quiet")
    git(tmp_path, "config", "user.name", "Somebody")
    git(tmp_path, "config", "user.email", "somebody@example.org")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "--quiet", "--message", "All")
    return tmp_path


def git(clone: Path, *arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=clone, capture_output=True, text=True, check=True).stdout.strip()


def releases(clone: Path, version: str) -> "subprocess.CompletedProcess[str]":
    command: list[str | Path] = [sys.executable, clone / "scripts/release.py"]
    return subprocess.run(command, env={"PATH": "/usr/bin:/bin", "VERSION": version}, capture_output=True, text=True)


def test_a_release_has_one_version_everywhere(clone: Path) -> None:
    done = releases(clone, "0.2.0")
    assert done.returncode == 0, done.stderr
    assert '__version__ = "0.2.0"' in (clone / "src/cosyserve/__init__.py").read_text()
    heading = f"## 0.2.0 ({datetime.date.today()})\n\n- It speaks louder.\n\n## 0.1.0"
    assert heading in (clone / "CHANGELOG.md").read_text()
    assert git(clone, "status", "--porcelain") == ""
    assert git(clone, "describe", "--exact-match") == "v0.2.0"
    assert git(clone, "log", "-1", "--format=%s") == "Release 0.2.0"


@pytest.mark.parametrize("version", ["", "0.1.0", "0.0.9", "0.2", "v0.2.0", "0.2.0rc1"])
def test_a_version_that_does_not_move_on_is_refused(clone: Path, version: str) -> None:
    done = releases(clone, version)
    assert done.returncode != 0
    assert "above 0.1.0" in done.stderr
    assert git(clone, "tag") == ""


def test_nothing_is_released_without_a_line_for_users(clone: Path) -> None:
    (clone / "CHANGELOG.md").write_text(CHANGES.replace("- It speaks louder.\n\n", ""))
    assert "no section" in releases(clone, "0.2.0").stderr


def test_nothing_is_released_that_is_not_committed(clone: Path) -> None:
    (clone / "new").touch()
    assert "not committed" in releases(clone, "0.2.0").stderr
    assert '"0.1.0"' in (clone / "src/cosyserve/__init__.py").read_text()


def test_the_changelog_has_this_version_first_and_each_with_its_date() -> None:
    headings = re.findall(r"^## (.*)$", (ROOT / "CHANGELOG.md").read_text(), flags=re.M)
    released = headings[1:] if headings[0] == "Unreleased" else headings
    versions = [re.fullmatch(r"(\d+\.\d+\.\d+) \((\d{4}-\d\d-\d\d)\)", heading) for heading in released]
    found = [(list(map(int, each[1].split("."))), datetime.date.fromisoformat(each[2])) for each in versions if each]
    assert len(found) == len(released)
    assert found == sorted(found, reverse=True)
    assert released[0].startswith(f"{__version__} ")


def test_a_deployment_is_named_by_this_version() -> None:
    assert bundle.make(ROOT, "preview").name.startswith(f"{__version__}-")
