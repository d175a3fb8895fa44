"""What a run of the load protocol finds: written as it becomes known, printed as a table, compared with another run."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bench.common.listening import Figures
from bench.common.results import Figure
from cosyserve.files import write_atomically

_NOT_FOUND = ("machine", "protocol")  # parts of a report that were given
_HEAD = ("first chunk p50", "p95", "audible p50", "p95", "silence", "heard by", "sound", "GPU busy", "text")
_LABEL, _CELL = 36, 16  # widths


class Report:
    """A tree of names: on the disk after each addition, and printed line by line."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.found: dict[str, Any] = {}

    def add(self, value: object, *names: str) -> None:
        at = self.found
        for name in names[:-1]:
            at = at.setdefault(name, {})
        at[names[-1]] = asdict(value) if isinstance(value, Figures) else value
        write_atomically(self._path, json.dumps(self.found, indent=2) + "\n")
        label = ", ".join(names)
        print(_row(label, value) if isinstance(value, Figures) else f"{label}: {_told(value)}", flush=True)


def head() -> str:
    return " " * _LABEL + "".join(f"{title:>{_CELL}}" for title in _HEAD)


def _row(label: str, found: Figures) -> str:
    cells = (
        _shown(found.first_chunk_p50_ms, "ms"),
        _shown(found.first_chunk_p95_ms, "ms"),
        _shown(found.audible_p50_ms, "ms"),
        _shown(found.audible_p95_ms, "ms"),
        f"{found.silence_s:.2f} s",
        f"{found.interrupted} of {found.listeners}",
        f"{found.sound_per_s:.1f} s/s",
        _shown(None if found.gpu_busy is None else 100 * found.gpu_busy, "%"),
        "-" if found.text_s is None else f"{found.text_s:.2f} s",
    )
    lost = "".join(f"  {n} {what}" for n, what in ((found.unfinished, "given up"), (found.failed, "failed")) if n)
    return f"{label:{_LABEL}}" + "".join(f"{cell:>{_CELL}}" for cell in cells) + lost


def _shown(value: float | None, unit: str) -> str:
    return "-" if value is None else f"{value:.0f} {unit}"


def _told(value: object) -> str:
    return ", ".join(f"{name} {each}" for name, each in value.items()) if isinstance(value, dict) else str(value)


def compared(now: Mapping[str, Any], before: Mapping[str, Any]) -> Iterator[str]:
    """Every quantity that both reports have, with the ratio of now to before."""
    earlier = dict(_quantities(before))
    for name, value in _quantities(now):
        if earlier.get(name):
            yield f"{name:72} before {earlier[name]:10.3f}   now {value:10.3f}   ratio {value / earlier[name]:.2f}"
        elif name in earlier and value:
            yield f"{name:72} before {0:10.3f}   now {value:10.3f}"


_UNITS = (("_per_s", "s/s"), ("_ms", "ms"), ("_s", "s"))  # by the end of a name


def by_case(tree: Mapping[str, Any]) -> dict[str, dict[str, Figure]]:
    """The same quantities as figures of the common form."""
    cases: dict[str, dict[str, Figure]] = {}
    for path, value in _quantities(tree):
        case, _, name = path.rpartition(", ")
        end, unit = next((each for each in _UNITS if name.endswith(each[0])), ("", ""))
        cases.setdefault(case, {})[name.removesuffix(end)] = Figure(value, unit)
    return cases


def _quantities(tree: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, float]]:
    for name, value in tree.items():
        if isinstance(value, Mapping):
            if name not in _NOT_FOUND:
                yield from _quantities(value, f"{path}{name}, ")
        elif isinstance(value, float):  # others count something
            yield f"{path}{name}", value
