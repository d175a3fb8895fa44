"""What a benchmark finds: a table that is printed as it grows, and one form of JSON for all of them.

The JSON has `name`, `commit`, `machine`, `device`, `when` (UTC), `parameters` (the options of the run) and `figures`,
each with its `case`, `name`, `value` and `unit`. It is written anew after each case, so a run that is cut has its part.
"""

import json
import os
import platform
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from cosyserve.files import write_atomically

_CASE, _COLUMN = 30, 12  # widths, at the least
_ROOT = Path(__file__).parent.parent.parent


@dataclass(frozen=True)
class Figure:
    """A value in its unit, and how it is printed."""

    value: float | str | None
    unit: str = ""
    form: str = ".2f"

    def __str__(self) -> str:
        if self.value is None:
            return "-"
        return self.value if isinstance(self.value, str) else format(self.value, self.form)


def seconds(value: float, form: str = ".2f") -> Figure:
    return Figure(value, "s", form)


def ms(value: float, form: str = ".1f") -> Figure:
    """Of seconds."""
    return Figure(1000 * value, "ms", form)


def mib(size: float, form: str = ".1f") -> Figure:
    """Of bytes."""
    return Figure(size / 2**20, "MiB", form)


def gib(size: float) -> Figure:
    """Of bytes."""
    return Figure(size / 2**30, "GiB")


def ratio(value: float) -> Figure:
    return Figure(value)


def share(value: float) -> Figure:
    return Figure(100 * value, "%", ".1f")


def distance(value: float) -> Figure:
    """The norm of a difference by that of what it is from, or another number that is near nothing."""
    return Figure(value, "", ".1e")


def count(value: int) -> Figure:
    return Figure(value, "", "d")


def words(value: str) -> Figure:
    return Figure(value)


class Results:
    """`path` is where the JSON goes, if anywhere."""

    def __init__(self, name: str, parameters: Mapping[str, Any], path: Path | None = None) -> None:
        self._path, self._columns = path, list[str]()
        self.figures: list[dict[str, Any]] = []
        self.head = {
            "name": name,
            "commit": _commit(),
            "machine": f"{platform.machine()}, {os.cpu_count()} cores, {platform.system()} {platform.release()}",
            "device": _device(),
            "when": f"{datetime.now(timezone.utc):%Y-%m-%dT%H:%M:%SZ}",
            "parameters": {key: _plain(value) for key, value in parameters.items()},
        }
        print(f"{name}: {self.head['device']}; {self.head['machine']}; commit {self.head['commit']}", flush=True)

    def add(self, case: str, /, **figures: Figure) -> None:
        """Underscores in the names stand for spaces."""
        named = {name.replace("_", " "): figure for name, figure in figures.items()}
        self._print(case, named)
        self.figures += [
            {"case": case, "name": name, "value": figure.value, "unit": figure.unit} for name, figure in named.items()
        ]
        if self._path is not None:
            write_atomically(self._path, json.dumps({**self.head, "figures": self.figures}, indent=2) + "\n")

    def _print(self, case: str, figures: Mapping[str, Figure]) -> None:
        columns = [f"{name}, {figure.unit}" if figure.unit else name for name, figure in figures.items()]
        widths = [max(len(column), _COLUMN) + 2 for column in columns]
        if columns != self._columns:
            self._columns = columns
            print(" " * _CASE + "".join(f"{column:>{width}}" for column, width in zip(columns, widths, strict=True)))
        cells = zip(figures.values(), widths, strict=True)
        print(f"{case:{_CASE}}" + "".join(f" {figure!s:>{width - 1}}" for figure, width in cells), flush=True)


def _plain(value: object) -> object:
    return str(value) if isinstance(value, Path) else value


def _commit() -> str:
    """`-changed` where the clone is not as committed."""
    try:
        name = _git("rev-parse", "--short=12", "HEAD")
        return name + ("-changed" if _git("status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def _git(*arguments: str) -> str:
    return subprocess.check_output(["git", *arguments], cwd=_ROOT, text=True, stderr=subprocess.DEVNULL).strip()  # noqa: S607


def _device() -> str:
    """The card, where this benchmark uses PyTorch and there is one."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_available():
        return "processor"
    return f"{torch.cuda.get_device_name()}, PyTorch {torch.__version__}"
