"""Compiled kernels as they lie in the state folder, and what their self-test found at the last start.

    kernels/KEY/    Triton's cache for one card, driver and version of what compiles, and `self-test.json`

Nothing in it but could be made again. Code is loaded from there, so a folder is this user's alone or is not used.
"""

import errno
import json
import os
import re
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from cosyserve import __version__
from cosyserve.files import new_file, temporary_name, write_atomically

FOLDER = "kernels"

_FOUND = "self-test.json"
_PRIVATE = 0o700
_ROOM = 64 << 20  # bytes, several times what all kernels take
_KEPT_SECONDS = 30 * 24 * 3600  # since the last start with it: another server may share the state folder
_LONGEST = 48  # characters of one part of a key: a name has 255 at most


@dataclass(frozen=True)
class SelfTest:
    """`problem` says why no kernel could be used, empty where some can; `replaced` why single ones cannot."""

    problem: str = ""
    replaced: Mapping[str, str] = field(default_factory=dict)
    cosyserve: str = __version__


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


def remember(folder: Path, found: SelfTest) -> None:
    """Raises `OSError`."""
    write_atomically(folder / _FOUND, json.dumps(asdict(found)), mode=0o600)


def recall(folder: Path) -> SelfTest | None:
    """What the last start found with this very version of ours; None where there was none."""
    try:
        found = TypeAdapter(SelfTest).validate_json((folder / _FOUND).read_bytes())
    except (OSError, ValidationError):
        return None
    return found if found.cosyserve == __version__ else None
