"""`make image` and its like where there is no Docker: what to do is said, and no shell's error."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.running import ROOT

TOOLS = ("bash", "make", "dirname", "env")


@pytest.mark.parametrize("target", ["image", "docker-run", "compose-up"])
def test_without_docker_the_remedy_is_told(tmp_path: Path, target: str) -> None:
    for name in TOOLS:
        (tmp_path / name).symlink_to(str(shutil.which(name)))
    environment = {"PATH": str(tmp_path), "HOME": os.environ.get("HOME", "/")}
    made = subprocess.run(["make", target], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert made.returncode != 0
    assert "Docker is not installed" in made.stderr
    assert "make run-local" in made.stderr
    assert "未安装 Docker" in made.stderr
    assert "command not found" not in made.stderr
