"""The folder of compiled kernels: one for each key, this user's alone, and gone when nobody has used it for a month."""

import os
import shutil
import stat
import time
from pathlib import Path
from typing import NamedTuple

import pytest

from cosyserve.store.kernels import folder_of, open_folder

KEY = ("NVIDIA GeForce RTX 4090 (D)", "8.9", "driver-550.54.14", "triton-3.3.1", "torch-2.7.1+cu128")


def test_another_card_driver_or_version_has_a_folder_of_its_own(tmp_path: Path) -> None:
    folders = {folder_of(tmp_path, KEY)}
    for number in range(len(KEY)):
        folders.add(folder_of(tmp_path, (*KEY[:number], "other", *KEY[number + 1 :])))
    assert len(folders) == 1 + len(KEY)


@pytest.mark.parametrize("part", ["../../etc", "..", "/", "a b\n\0", "显卡", "x" * 500, ""])
def test_whatever_a_card_is_called_its_folder_lies_where_it_should(tmp_path: Path, part: str) -> None:
    folder = folder_of(tmp_path, (part,) * len(KEY))
    open_folder(folder)
    assert [each.resolve() for each in (tmp_path / "kernels").iterdir()] == [folder.resolve()]


def test_it_is_this_users_alone(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "state", KEY)
    folder.mkdir(parents=True)
    for each in (folder, folder.parent):
        each.chmod(0o777)
    open_folder(folder)
    assert [stat.S_IMODE(each.stat().st_mode) for each in (folder, folder.parent)] == [0o700, 0o700]
    assert list(folder.iterdir()) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="nobody but root gives a folder away")
def test_one_of_another_user_is_not_used(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, KEY)
    open_folder(folder)
    os.chown(folder, 12345, 12345)
    with pytest.raises(PermissionError, match="another user"):
        open_folder(folder)


class Usage(NamedTuple):
    free: int


def test_a_full_disk_is_told_before_anything_is_compiled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(free=1 << 20))
    with pytest.raises(OSError, match="No space left"):
        open_folder(folder_of(tmp_path, KEY))


def test_what_nobody_has_used_for_a_month_goes(tmp_path: Path) -> None:
    old, recent, current = (folder_of(tmp_path, (name,)) for name in ("old", "recent", "current"))
    for days, folder in ((31, old), (29, recent), (31, current)):
        open_folder(folder)
        (folder / "compiled").write_text("")
        os.utime(folder, (time.time() - days * 86400,) * 2)
    open_folder(current)
    assert sorted(each.name for each in (tmp_path / "kernels").iterdir()) == ["current", "recent"]
    assert (current / "compiled").exists()
