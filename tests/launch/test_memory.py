import json
from pathlib import Path

import pytest

from cosyserve.launch import memory


def test_what_worked_is_known_the_next_time(tmp_path: Path) -> None:
    assert memory.recall(tmp_path) is None
    memory.remember(tmp_path / "state", "isolated")
    assert memory.recall(tmp_path / "state") == "isolated"
    assert [file.name for file in (tmp_path / "state").iterdir()] == ["launch.json"]


@pytest.mark.parametrize("changed", ["host", "boot", "python", "version"])
def test_another_host_boot_python_or_version_starts_anew(tmp_path: Path, changed: str) -> None:
    memory.remember(tmp_path, "mpirun")
    file = tmp_path / "launch.json"
    kept = json.loads(file.read_text())
    kept["key"][changed] = "another"
    file.write_text(json.dumps(kept))
    assert memory.recall(tmp_path) is None


@pytest.mark.parametrize(
    "text", ["", "{}", "[]", "null", "7", "rubbish 7", "[7", '{"rung": 1}', "\0\0", '{"rung": "direct", "key": 3}']
)
def test_a_damaged_file_is_no_memory(tmp_path: Path, text: str) -> None:
    (tmp_path / "launch.json").write_text(text)
    assert memory.recall(tmp_path) is None


def test_falls_are_counted_while_they_are_recent(tmp_path: Path) -> None:
    memory.remember(tmp_path, "mpirun")
    memory.note_fall(tmp_path, 60)
    memory.note_fall(tmp_path, 60)
    assert (memory.falls(tmp_path, 60), memory.falls(tmp_path, 0)) == (2, 0)
    assert memory.recall(tmp_path) == "mpirun"
    memory.note_fall(tmp_path, 0)
    assert memory.falls(tmp_path, 60) == 1


@pytest.mark.parametrize("falls", ["many", 3, None, ["yesterday"], {}])
def test_damaged_falls_are_none(tmp_path: Path, falls: object) -> None:
    memory.remember(tmp_path, "mpirun")
    file = tmp_path / "launch.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "falls": falls}))
    assert memory.falls(tmp_path, 60) == 0


def test_where_nothing_can_be_written_nothing_fails() -> None:
    memory.remember(Path("/proc/nowhere"), "direct")
