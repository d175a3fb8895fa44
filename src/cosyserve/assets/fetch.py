"""Brings a model to disk: from whichever source gives it, resumed, verified, whole or not at all."""

import errno
import hashlib
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from cosyserve import errors
from cosyserve.assets import sources
from cosyserve.assets.download import allocated, download
from cosyserve.assets.download_worker import Arrived, Failed, Order
from cosyserve.assets.progress import Progress
from cosyserve.assets.sources import Name, Source
from cosyserve.errors import CosyError
from cosyserve.machine import Machine, nearest
from cosyserve.store.disk import QUARANTINE, FileState, Folder, alone, digest, human
from cosyserve.store.manifest import DEFAULT, File, model_of

_STAGING = ".fetching"
_MARGIN = 64 << 20  # left free on the disk
_SHA1 = 40  # digits
_TRIES = 20  # of a source whose line breaks, as long as each brings something


@dataclass(frozen=True)
class FetchPlan:
    """What a fetch would do. `order` is empty where no source is needed, or none may be asked."""

    lacking: tuple[tuple[File, FileState], ...]
    order: tuple[Source, ...]
    needed: int  # bytes to be downloaded
    free: int


class Fetch:
    """One model, one folder. `asked` is the only source to try, None for all that there are."""

    def __init__(
        self,
        models_dir: Path,
        machine: Machine,
        progress: Progress,
        *,
        name: str = DEFAULT,
        variant: str | None = None,
        asked: Name | None = None,
        mirror: str,
        stall_seconds: float,
    ) -> None:
        self._models_dir, self._machine, self._progress = models_dir, machine, progress
        self._name, self._model, self._variant = name, model_of(name, variant), variant
        self._stall_seconds = stall_seconds
        found = sources.sources(machine.environ, mirror)
        self._sources = [found[asked]] if asked else list(found.values())
        self._staging = models_dir / _STAGING / self._model.folder
        self._caches = (models_dir / _STAGING / ".caches").absolute()

    @property
    def folder(self) -> Folder:
        return Folder(self._models_dir, self._model, self._variant)

    def plan(self) -> FetchPlan:
        """Looks, and changes nothing."""
        folder = self.folder
        lacking = tuple((file, folder.state(file)) for file in folder.lacking())
        wanted = [file for file, state in lacking if state is not FileState.UNVERIFIED]
        asking = wanted and not sources.offline(self._machine.environ)
        order: tuple[Source, ...] = ()
        if asking:
            with suppress(CosyError):  # which says that none can be reached
                order = tuple(self._in_order(wanted))
        return FetchPlan(lacking, order, self._needed(wanted), _free(self._models_dir))

    def run(self) -> None:
        """Raises `CS-FETCH-…`; whatever has been verified until then is there the next time."""
        folder = self.folder
        if all(self._is_right(folder, file) for file in folder.lacking()):
            return  # without a lock: the folder may be read-only
        waiting = "another fetch is running; waiting for it"
        with alone(self._staging.with_suffix(".lock"), lambda: self._progress.say(waiting)), self._on_disk():
            folder = self.folder
            lacking = [file for file in folder.lacking() if not self._adopted(folder, file)]
            if lacking:
                self._bring(folder, lacking)
            shutil.rmtree(self._staging, ignore_errors=True)
            shutil.rmtree(self._caches, ignore_errors=True)
            shutil.rmtree(folder.path / QUARANTINE, ignore_errors=True)

    def _is_right(self, folder: Folder, file: File) -> bool:
        """Whether a file is there, brought by whomever, and is the right one."""
        if folder.state(file) is FileState.MISSING:
            return False
        with self.reading(file) as tell:
            return folder.verify(file, tell)

    def _adopted(self, folder: Folder, file: File) -> bool:
        """The same; one that is wrong is put away."""
        if self._is_right(folder, file):
            return True
        if folder.is_of_another_variant(file):
            return False  # it stays until the other one is there
        if folder.state(file) is not FileState.MISSING:
            self._progress.say(f"{file.path} is damaged or belongs to another model; it is set aside and fetched again")
            folder.quarantine(file)
        return False

    def _bring(self, folder: Folder, lacking: list[File]) -> None:
        if variable := sources.offline(self._machine.environ):
            names = ", ".join(file.path for file in lacking)
            raise CosyError(errors.OFFLINE, model=self._name, files=names, variable=variable)
        self._check_room(lacking)
        reasons: list[str] = []
        self._progress.say(f"{self._name}: looking for the fastest source")
        for source in self._in_order(lacking):
            self._progress.say(f"{self._name}: {human(self._needed(lacking))} from {source.name} ({source.endpoint})")
            reason = self._patiently_from(source, folder, lacking)
            if not lacking:
                return
            self._progress.say(f"{source.name}: {reason}")
            reasons.append(f"{source.name}: {reason}")
        raise CosyError(errors.NO_SOURCE, model=self._name, count=len(lacking), reasons="; ".join(reasons))

    def _in_order(self, lacking: Sequence[File]) -> list[Source]:
        """Those that answer, the best first; raises `CS-FETCH-007` where none does."""
        among = [source for source in self._sources if source.hub in self._model.hubs]
        speeds = sources.measured(self._model, lacking, among, self._machine)
        if not speeds:
            raise CosyError(errors.NO_HUB, sources=", ".join(source.endpoint for source in among))
        by_name = {source.name: source for source in among}
        return [by_name[name] for name in sources.order(self._machine, speeds)]

    def _patiently_from(self, source: Source, folder: Folder, lacking: list[File]) -> str:
        """Take what `source` gives out of `lacking`, as long as it brings something: a line that breaks is no reason
        to leave a source, and not every client takes a body up again that ended early. Why something is left."""
        reason = ""
        for _ in range(_TRIES):
            before = self._there(lacking)
            reason, may_be_the_line = self._from(source, folder, lacking)
            if not (lacking and may_be_the_line and self._there(lacking) > before):
                break
        return reason

    def _there(self, lacking: Sequence[File]) -> int:
        """Bytes that are here, verified or on the way."""
        staged = allocated(self._staging) if self._staging.exists() else 0
        there = {file.path for file in lacking}
        return staged + sum(file.expected for file in self._model.files if file.path not in there)

    def _from(self, source: Source, folder: Folder, lacking: list[File]) -> tuple[str, bool]:
        """One try: why something is left, and whether another might help."""
        at, into = self._model.hubs[source.hub], self._staging / source.hub
        order = Order(
            hub=source.hub,
            endpoint=source.endpoint,
            own_token=source.own_token,
            repository=at.repository,
            revision=at.revision,
            files=tuple(lacking),
            into=into,
        )
        environ = sources.environment(source, self._machine, self._caches)
        reason, again, total = "it ended early", True, sum(file.expected for file in lacking)
        self._progress.begin(source.name, allocated(into) if into.exists() else 0, total)
        arrived = 0
        with closing(download(order, environ, self._stall_seconds)) as events:
            for event in events:
                if isinstance(event, Arrived):
                    file = next(each for each in lacking if each.path == event.path)
                    staged = into / file.source
                    sha256 = self._verified(staged, file, event.digest)
                    if sha256 is None:
                        reason, again = f"{file.path} is not the file that was released", False
                        continue
                    folder.take_in(staged, file, sha256, source.name)
                    if event.digest is not None:
                        folder.learn(file, sha256, source.name)
                    lacking.remove(file)
                    arrived += file.expected
                elif isinstance(event, Failed):
                    if event.disk is not None:
                        raise OSError(event.disk, os.strerror(event.disk), str(into))
                    reason = f"{event.path}: {event.reason}" if event.path else event.reason
                self._progress.at(arrived + allocated(into))
        return reason, again

    def _verified(self, staged: Path, file: File, said: str | None) -> str | None:
        """The SHA-256 of a file that is what the manifest says, or the hub at first where the manifest does not
        know."""
        sha256 = digest(staged)
        expected = file.sha256 or said
        found = _git_blob(staged) if expected is not None and len(expected) == _SHA1 else sha256
        if expected in (None, found) and file.size in (None, staged.stat().st_size):
            return sha256
        staged.unlink()
        return None

    def _needed(self, files: Sequence[File]) -> int:
        there = allocated(self._staging) if self._staging.exists() else 0
        return max(0, sum(file.expected for file in files) - there)

    def _check_room(self, lacking: Sequence[File]) -> None:
        if self._needed(lacking) + _MARGIN > _free(self._models_dir):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    @contextmanager
    def _on_disk(self) -> Iterator[None]:
        """Says what the disk refuses, and how much is missing."""
        try:
            yield
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                wanted = [file for file in self.folder.lacking() if self.folder.state(file) is not FileState.UNVERIFIED]
                needed, free = self._needed(wanted) + _MARGIN, _free(self._models_dir)
                raise CosyError(
                    errors.DISK_FULL,
                    folder=self._models_dir,
                    free=human(free),
                    needed=human(needed),
                    missing=human(max(0, needed - free)),
                ) from error
            reason = error.strerror or error
            raise CosyError(errors.FOLDER_UNWRITABLE, folder=self._models_dir, reason=reason) from error
        finally:
            self._progress.end()

    @contextmanager
    def reading(self, file: File) -> Iterator[Callable[[int], None]]:
        """Tells how far the reading of a file is."""
        size, read = (self.folder.path / file.path).stat().st_size, 0
        self._progress.begin(f"verifying {file.path}", 0, size)

        def tell(block: int) -> None:
            nonlocal read
            read += block
            self._progress.at(read)

        yield tell
        self._progress.end()


def _git_blob(path: Path) -> str:
    """What a hub calls a small file that lies in git itself."""
    content = path.read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


def _free(folder: Path) -> int:
    return shutil.disk_usage(nearest(folder)).free
