"""Remembers which rung worked and which servers fell, for this host, boot, Python and version. For any other the result
may differ."""

import json
import socket
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from cosyserve import __version__
from cosyserve.files import write_atomically

_FILE = "launch.json"


def _key() -> dict[str, str]:
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        boot = ""
    return {"host": socket.gethostname(), "boot": boot, "python": sys.executable, "version": __version__}


def recall(folder: Path) -> str | None:
    """The rung that worked last time; None if that is unknown or was on another host, boot or version."""
    rung = _kept(folder).get("rung")
    return None if rung is None else str(rung)


def remember(folder: Path, rung: str) -> None:
    _keep(folder, {**_kept(folder), "rung": rung})


def falls(folder: Path, seconds: float) -> int:
    """The number of servers that fell here recently, in any launch."""
    return len(_recent_falls(folder, seconds))


def note_fall(folder: Path, seconds: float) -> None:
    """Notes the fall of a server and forgets falls older than `seconds`."""
    _keep(folder, {**_kept(folder), "falls": [*_recent_falls(folder, seconds), time.time()]})


def _recent_falls(folder: Path, seconds: float) -> list[float]:
    found = _kept(folder).get("falls")
    times = [when for when in found if isinstance(when, float)] if isinstance(found, list) else []
    return [when for when in times if time.time() - when < seconds]


def _kept(folder: Path) -> dict[str, Any]:
    try:
        kept = json.loads((folder.expanduser() / _FILE).read_text(encoding="utf-8"))
        return dict(kept) if kept["key"] == _key() else {}
    except (OSError, ValueError, KeyError, TypeError, RuntimeError):  # the last where there is no home
        return {}


def _keep(folder: Path, known: dict[str, Any]) -> None:
    """Writes the file atomically. If nothing can be written, nothing is remembered."""
    with suppress(OSError, RuntimeError):  # the second where there is no home
        write_atomically(folder.expanduser() / _FILE, json.dumps({**known, "key": _key()}))
