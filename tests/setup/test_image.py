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


@pytest.mark.parametrize(
    ("settings", "options"),
    [
        ({}, ""),
        (
            {"WYOMING_PORT": "10200"},
            "--publish 127.0.0.1:10200:10200 --env COSYSERVE_WYOMING_PORT=10200 --env COSYSERVE_WYOMING_HOST=0.0.0.0 "
            "--env COSYSERVE_WYOMING_CLIENTS=gateway",
        ),
        (
            {"WYOMING_PORT": "10200", "WYOMING_HOST": "0.0.0.0", "WYOMING_CLIENTS": "10.0.0.0/8"},  # noqa: S104
            "--publish 0.0.0.0:10200:10200 --env COSYSERVE_WYOMING_PORT=10200 --env COSYSERVE_WYOMING_HOST=0.0.0.0 "
            "--env COSYSERVE_WYOMING_CLIENTS=10.0.0.0/8",
        ),
    ],
)
def test_the_port_for_the_wyoming_protocol_is_published(tmp_path: Path, settings: dict[str, str], options: str) -> None:
    """With a stand-in for Docker that says what it is asked for."""
    docker = tmp_path / "docker"
    docker.write_text('#!/bin/sh\n[ "$1" != run ] || echo "$@"\n')
    docker.chmod(0o755)
    environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "FLAVOUR": "preview", "COSYSERVE_PORT": "0"}
    environment |= {f"COSYSERVE_{name}": value for name, value in settings.items()}
    asked = subprocess.check_output([ROOT / "scripts/image", "run"], env=environment, text=True)
    assert ("WYOMING" in asked) is bool(options)
    assert options in asked
    assert asked.count("WYOMING_HOST") <= 1
