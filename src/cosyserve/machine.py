"""The machine as the checks see it: its files and environment, readable also from a folder in a test."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path, PurePosixPath

# Internal, hence no setting: the tag of the image that a container is of, which the image itself says.
IMAGE = "_COSYSERVE_IMAGE"
_WINDOWS_DISKS = frozenset(("9p", "drvfs", "v9fs"))


class Platform(str, Enum):
    AUTODL = "autodl"
    WSL2 = "wsl2"
    KUBERNETES = "kubernetes"
    CONTAINER = "container"
    BARE = "bare"


@dataclass(frozen=True)
class Machine:
    """The folder that files are read from, and the environment that a server would start with. Never writes."""

    root: Path = Path("/")
    environ: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))

    def path(self, absolute: str) -> Path:
        return self.root / absolute.lstrip("/")

    def exists(self, absolute: str) -> bool:
        try:
            return self.path(absolute).exists()
        except OSError:
            return False

    def read(self, absolute: str) -> str:
        """The text of a file; empty if there is none."""
        try:
            return self.path(absolute).read_text(encoding="utf-8", errors="replace")
        except OSError:
            return ""

    def glob(self, pattern: str) -> list[Path]:
        return sorted(self.root.glob(pattern.lstrip("/")))


def nearest(folder: Path) -> Path:
    """The folder, or the nearest existing one above it; one that may not be read counts as absent."""
    folder = folder.absolute()
    while not os.access(folder, os.F_OK):
        folder = folder.parent
    return folder


def is_wsl(machine: Machine) -> bool:
    return "microsoft" in machine.read("/proc/sys/kernel/osrelease").lower() or "WSL_DISTRO_NAME" in machine.environ


def on_windows_disk(machine: Machine, folder: Path) -> bool:
    """Whether a folder is on a Windows disk, which is many times slower than WSL2's own."""
    kinds = {}
    for line in machine.read("/proc/mounts").splitlines():
        fields = line.split(" ")
        if len(fields) > 2:
            kinds[PurePosixPath(fields[1].replace("\\040", " "))] = fields[2]
    place = PurePosixPath(folder)
    mounted = next((each for each in (place, *place.parents) if each in kinds), None)
    return mounted is not None and kinds[mounted] in _WINDOWS_DISKS


def is_autodl(machine: Machine) -> bool:
    marks = ("/etc/profile.d/autodl.env.sh", "/root/autodl-tmp")
    return "AutoDLContainerUUID" in machine.environ or any(machine.exists(mark) for mark in marks)


def is_container(machine: Machine) -> bool:
    return machine.exists("/.dockerenv") or machine.exists("/run/.containerenv")


def platform_of(machine: Machine) -> Platform:
    """AutoDL first, since its instances are containers too; WSL2 before the containers that run on it."""
    if is_autodl(machine):
        return Platform.AUTODL
    if is_wsl(machine):
        return Platform.WSL2
    if "KUBERNETES_SERVICE_HOST" in machine.environ:
        return Platform.KUBERNETES
    return Platform.CONTAINER if is_container(machine) else Platform.BARE
