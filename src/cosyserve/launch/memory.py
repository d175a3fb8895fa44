"""Remembers which rung worked, for this host, boot, Python and version: anything else may need another."""

import json
import os
import socket
import sys
from pathlib import Path

from cosyserve import __version__

_FILE = "launch.json"


def _key() -> dict[str, str]:
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        boot = ""
    return {"host": socket.gethostname(), "boot": boot, "python": sys.executable, "version": __version__}


def recall(folder: Path) -> str | None:
    """The rung that worked last time, None where that is not known, or not of this host, boot and version."""
    try:
        kept = json.loads((folder.expanduser() / _FILE).read_text(encoding="utf-8"))
        return str(kept["rung"]) if kept["key"] == _key() else None
    except (OSError, ValueError, KeyError, TypeError, RuntimeError):  # the last where there is no home
        return None


def remember(folder: Path, rung: str) -> None:
    """Whole or absent; a host where nothing can be written simply remembers nothing."""
    try:
        folder = folder.expanduser()
        folder.mkdir(parents=True, exist_ok=True)
        partial = folder / f"{_FILE}.{os.getpid()}"
        partial.write_text(json.dumps({"rung": rung, "key": _key()}), encoding="utf-8")
        partial.replace(folder / _FILE)
    except (OSError, RuntimeError):
        pass
