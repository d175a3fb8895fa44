"""What lies where on a rented instance's data disk, and which of the installed releases is the one that serves.

releases/VERSION-DIGEST/   a release with an environment of its own; `.complete` is written last
current                    a link to the release that serves
shared/                    what outlives every release: models, engines, voices, settings (.env), state, logs
run/                       who runs, which releases have served, the running installation
tools/, cache/             uv, Pythons, downloads: nothing that could not be fetched again
"""

import json
import os
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

from cosyserve.files import move, temporary_name, write_atomically

KEPT_RELEASES = 3


@dataclass(frozen=True)
class Release:
    folder: Path

    @property
    def name(self) -> str:
        return self.folder.name

    @property
    def complete(self) -> bool:
        return (self.folder / ".complete").is_file()

    @property
    def flavour(self) -> str:
        return str(json.loads((self.folder / "release.json").read_text(encoding="utf-8"))["flavour"])

    @property
    def command(self) -> list[str]:
        """Its own `cosyserve`."""
        return [str(self.folder / "venv/bin/python"), "-m", "cosyserve"]

    def environ(self, **more: str) -> dict[str, str]:
        """The environment of its commands: with its own mpirun, and without settings of the calling shell."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith("COSYSERVE_")}
        return {**kept, "PATH": f"{self.folder / 'venv/bin'}:{kept.get('PATH', os.defpath)}", **more}


@dataclass(frozen=True)
class Home:
    root: Path

    @classmethod
    def of_this_process(cls) -> "Home":
        """A release's environment lies in releases/NAME/venv."""
        return cls(Path(sys.prefix).parents[2])

    @property
    def exists(self) -> bool:
        return any((self.root / "releases").glob("*/release.json"))

    @property
    def shared(self) -> Path:
        return self.root / "shared"

    @property
    def run(self) -> Path:
        return self.root / "run"

    @property
    def log(self) -> Path:
        return self.shared / "logs" / "server.log"

    def release(self, name: str) -> Release:
        return Release(self.root / "releases" / name)

    def releases(self) -> list[Release]:
        """The complete releases, by name."""
        found = (Release(folder) for folder in sorted((self.root / "releases").glob("*")))
        return [release for release in found if release.complete]

    def current(self) -> Release | None:
        try:
            return self.release((self.root / "current").readlink().name)
        except OSError:
            return None

    def make_current(self, release: Release) -> None:
        """Atomic: the link is renamed into its place."""
        with temporary_name(self.root) as link:
            link.symlink_to(Path("releases") / release.name)
            move(link, self.root / "current")
        history = [name for name in self.history() if name != release.name] + [release.name]
        write_atomically(self.run / "history", "".join(f"{name}\n" for name in history))

    def history(self) -> list[str]:
        """The releases that have served, the newest last."""
        try:
            return (self.run / "history").read_text(encoding="utf-8").split()
        except OSError:
            return []

    def previous(self) -> Release | None:
        """The release that a rollback goes to: the one before the current one that is still there."""
        current = self.current()
        earlier = [self.release(name) for name in self.history() if current is None or name != current.name]
        return next((release for release in reversed(earlier) if release.complete), None)

    def prune(self, running: set[str]) -> list[str]:
        """Remove all releases except the newest few that have served, and those that run; returns the removed names."""
        kept = {*self.history()[-KEPT_RELEASES:], *running}
        gone = [folder for folder in (self.root / "releases").glob("*") if folder.name not in kept]
        for folder in gone:
            (folder / ".complete").unlink(missing_ok=True)  # first: what is half removed is no release
            shutil.rmtree(folder, ignore_errors=True)
        return sorted(folder.name for folder in gone)
