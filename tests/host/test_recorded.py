"""What is decided on hosts as they were described: WSL2 in its kinds, AutoDL, bare Ubuntu, Kubernetes.

Each file of `recorded/` has the files and variables by which such a host is known, and what has to come of them.
"""

import json
from pathlib import Path
from typing import Any

import pytest

from cosyserve.assets.sources import order
from cosyserve.host import wsl
from cosyserve.host.surroundings import surroundings_of
from cosyserve.launch.ladder import plan
from cosyserve.machine import Machine, on_windows_disk, platform_of
from cosyserve.settings import Settings
from tests.test_machine import machine

RECORDED = sorted((Path(__file__).parent / "recorded").glob("*.json"))


@pytest.fixture(params=RECORDED, ids=lambda path: path.stem)
def recorded(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Machine, dict[str, Any]]:
    host = json.loads(request.param.read_text(encoding="utf-8"))
    return machine(tmp_path, host["files"], **host["environ"]), host["expected"]


def test_the_platform_and_its_ladder(recorded: tuple[Machine, dict[str, Any]]) -> None:
    host, expected = recorded
    assert platform_of(host).value == expected["platform"]
    rungs = plan(Settings(mpi="always"), platform_of(host), ["server"], host.environ, surroundings_of(host))
    assert [rung.name for rung in rungs] == expected["ladder"]
    for rung in rungs:
        named = rung.environ.get("LD_LIBRARY_PATH", "").split(":")
        assert (wsl.LIBRARIES in named) == bool(expected["driver_folder"])
        given = host.environ.get("LD_LIBRARY_PATH")
        assert given is None or given in named


def test_where_models_come_from_first(recorded: tuple[Machine, dict[str, Any]]) -> None:
    host, expected = recorded
    assert order(host, {"hf-mirror": 9.0, "modelscope": 8.0, "huggingface": 7.0})[0] == expected["first_source"]


def test_what_is_special_on_wsl2(recorded: tuple[Machine, dict[str, Any]]) -> None:
    host, expected = recorded
    assert wsl.driver_folder(host) == expected["driver_folder"]
    assert wsl.windows_address(host, 6008) == expected["windows_address"]
    assert wsl.is_mirrored(host) == expected["mirrored"]
    for folder, slow in expected["on_windows_disk"].items():
        assert on_windows_disk(host, Path(folder)) == slow
    findings = wsl.examine(host, Path("/home/me/models"), 6008)
    assert [finding.id for finding in findings] == expected["findings"]
    assert not any("linux driver" in finding.remedy.lower() for finding in findings)


def test_a_model_on_a_disk_of_windows_is_warned_of(tmp_path: Path) -> None:
    host = json.loads((Path(__file__).parent / "recorded" / "wsl2-nat-gpu.json").read_text(encoding="utf-8"))
    there = machine(tmp_path, host["files"], **host["environ"])
    (_, disk) = wsl.examine(there, Path("/mnt/c/Users/me/models"), 6008)
    assert disk.state.value == "warn"
    assert "COSYSERVE_MODELS_DIR" in disk.remedy
