import subprocess
import tempfile
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from cosyserve.instance import hook


@example("# CosyServe")
@given(st.text(st.characters(codec="utf-8", exclude_characters="\r")))
def test_whatever_stands_there_is_as_it_was_once_we_are_gone(text: str) -> None:
    with tempfile.TemporaryDirectory() as name:
        file, script = Path(name) / "autodl.sh", Path(name) / "boot.sh"
        before = "#!/bin/bash\necho mine\n" + text
        file.write_text(before)
        hook.install(script, file)
        assert hook.installed(script, file)
        once = file.read_bytes()
        hook.install(script, file)
        assert file.read_bytes() == once
        hook.remove(file)
        assert file.read_text() == before


@pytest.mark.parametrize("before", [None, "", "#!/bin/sh", "#!/bin/sh\nexit 0\n", "exit 0", "set -e\nfalse\n"])
def test_the_line_runs_first_and_the_rest_as_ever(tmp_path: Path, before: str | None) -> None:
    file, script = tmp_path / "autodl.sh", tmp_path / "it's here" / "boot.sh"
    script.parent.mkdir()
    script.write_text(f"touch '{tmp_path}/booted'\n")
    if before is not None:
        file.write_text(before)
    alone = subprocess.run(["bash", str(file)], check=False).returncode if before is not None else 0
    hook.install(script, file)
    assert subprocess.run(["bash", str(file)], check=False).returncode == alone
    assert (tmp_path / "booted").exists()


def test_once_the_data_disk_is_gone_the_line_does_nothing(tmp_path: Path) -> None:
    file = tmp_path / "autodl.sh"
    hook.install(tmp_path / "gone" / "boot.sh", file)
    done = subprocess.run(["bash", str(file)], capture_output=True, check=True)
    assert done.stdout + done.stderr == b""


def test_a_file_of_ours_alone_is_removed_and_a_link_stays_one(tmp_path: Path) -> None:
    file, real = tmp_path / "autodl.sh", tmp_path / "real.sh"
    hook.install(tmp_path / "boot.sh", file)
    assert file.stat().st_mode & 0o777 == 0o755
    hook.remove(file)
    assert not file.exists()
    hook.remove(file)
    real.write_text("echo mine\n")
    real.chmod(0o700)
    file.symlink_to(real)
    hook.install(tmp_path / "boot.sh", file)
    assert file.is_symlink()
    assert "echo mine" in real.read_text()
    assert real.stat().st_mode & 0o777 == 0o700


def test_a_new_place_takes_the_place_of_the_old(tmp_path: Path) -> None:
    file = tmp_path / "autodl.sh"
    hook.install(tmp_path / "old" / "boot.sh", file)
    hook.install(tmp_path / "new" / "boot.sh", file)
    assert not hook.installed(tmp_path / "old" / "boot.sh", file)
    assert file.read_text().count("# CosyServe") == 1
