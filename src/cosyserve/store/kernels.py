"""Compiled kernels as they lie in the state folder.

    kernels/KEY/    Triton's cache for one card, driver and version of what compiles, beside what its self-test found

Nothing in it but could be made again. Code is loaded from there, so a folder is this user's alone or is not used.
"""

import errno
import os
import re
import shutil
import time
from collections.abc import Sequence
from pathlib import Path

from cosyserve.files import new_file, temporary_name

FOLDER = "kernels"

_PRIVATE = 0o700
_ROOM = 64 << 20  # bytes, several times what all kernels take
_KEPT_SECONDS = 30 * 24 * 3600  # since the last start with it: another server may share the state folder
_LONGEST = 48  # characters of one part of a key: a name has 255 at most


def folder_of(state_dir: Path, key: Sequence[str]) -> Path:
    """Raises `RuntimeError` where there is no home for a state folder that begins with `~`."""
    parts = (re.sub(r"[^A-Za-z0-9.+]+", "-", part)[:_LONGEST] for part in key)
    return state_dir.expanduser() / FOLDER / "_".join(parts)


def open_folder(folder: Path) -> None:
    """Make it, or take it into use again; raises `OSError` where it is not this user's, or has no room."""
    folder.parent.parent.mkdir(parents=True, exist_ok=True)
    for each in (folder.parent, folder):
        _make_private(each)
    if shutil.disk_usage(folder).free < _ROOM:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder))
    with temporary_name(folder) as trial, new_file(trial, 0o600) as file:  # a read-only disk, a quota
        file.write(bytes(1 << 20))
    os.utime(folder)
    _remove_old(folder)


def _make_private(folder: Path) -> None:
    folder.mkdir(mode=_PRIVATE, exist_ok=True)
    if folder.stat().st_uid != os.geteuid():
        raise PermissionError(errno.EPERM, "it belongs to another user", str(folder))
    folder.chmod(_PRIVATE)


def _remove_old(current: Path) -> None:
    for other in current.parent.iterdir():
        if other != current and time.time() - other.stat().st_mtime > _KEPT_SECONDS:
            shutil.rmtree(other, ignore_errors=True)
