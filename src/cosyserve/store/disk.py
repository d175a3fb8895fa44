"""What a model's folder holds, and what is known of it.

Each file is whole or absent: it is verified beside the folder and renamed into it. `.cosyserve.json` remembers the
digest of every verified file with its size and time, so that a look at a complete folder takes a few `stat` calls.
`.cosyserve-learned.json` has what the manifest does not know of a file and the first hub that gave it did: its size and
digest, to which it is held from then on.
"""

import errno
import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from enum import Enum
from pathlib import Path
from typing import TypeVar

from filelock import FileLock, Timeout
from pydantic import BaseModel, ValidationError

from cosyserve import errors
from cosyserve.errors import CosyError
from cosyserve.files import move, sync, write_atomically
from cosyserve.store.manifest import BASE, File, Model

_RECORD, _LEARNED = ".cosyserve.json", ".cosyserve-learned.json"
_SIZES = "sizes.json"
_BLOCK = 1 << 22
QUARANTINE = ".quarantine"
R = TypeVar("R", bound=BaseModel)


class FileState(str, Enum):
    """`UNVERIFIED` has the right size, and nobody has read it yet; `CHANGED` is not what was verified."""

    WHOLE = "whole"
    UNVERIFIED = "unverified"
    CHANGED = "changed"
    MISSING = "missing"


class Verified(BaseModel):
    size: int
    sha256: str
    mtime_ns: int
    source: str
    at_hub: str | None = None


class Learned(BaseModel):
    size: int
    sha256: str
    source: str


class Folder:
    """The folder of one model, in the `variant` that is there unless another one is asked for."""

    def __init__(self, models_dir: Path, model: Model, variant: str | None = None) -> None:
        self.path = models_dir / model.folder
        self.verified = _read(self.path / _RECORD, Verified)
        self.learned = _read(self.path / _LEARNED, Learned)
        self.variant = variant or self._variant_of(model)
        self.model = model.model_copy(update={"files": tuple(map(self._known, model.varied(self.variant)))})

    def _variant_of(self, model: Model) -> str:
        there = {path: known.at_hub for path, known in self.verified.items()}
        return next((name for name, files in model.variants.items() if files.items() <= there.items()), BASE)

    def _known(self, file: File) -> File:
        """With what was learned of it."""
        learned = self.learned.get(file.source)
        if learned is None:
            return file
        return file.model_copy(
            update={"size": file.size or learned.size, "sha256": file.sha256 or learned.sha256},
        )

    @property
    def exists(self) -> bool:
        """Whether anything has been put here; what may not be looked into counts as nothing."""
        return os.access(self.path, os.F_OK)

    @property
    def of_another_size(self) -> bool:
        """Whether somebody put a model here that the manifest does not know, such as the small ones of tests."""
        return os.access(self.path / _SIZES, os.F_OK) and all(file.path != _SIZES for file in self.model.files)

    def state(self, file: File) -> FileState:
        try:
            found = (self.path / file.path).stat()
        except OSError:
            return FileState.MISSING
        known = self.verified.get(file.path)
        if known is not None:
            same = (found.st_size, found.st_mtime_ns, file.at_hub) == (known.size, known.mtime_ns, known.at_hub)
            return FileState.WHOLE if same and known.sha256 == (file.sha256 or known.sha256) else FileState.CHANGED
        if file.at_hub and file.sha256 is None:  # nothing tells it from the file of another variant
            return FileState.CHANGED
        return FileState.UNVERIFIED if found.st_size == (file.size or found.st_size) else FileState.CHANGED

    def lacking(self) -> list[File]:
        """What is not verified; nothing where all is well."""
        return [file for file in self.model.files if self.state(file) is not FileState.WHOLE]

    @property
    def usable(self) -> bool:
        """Whether every file is there in its size, verified or not: good enough to try and load it."""
        if self.of_another_size:
            return True
        return all(self.state(file) in (FileState.WHOLE, FileState.UNVERIFIED) for file in self.model.files)

    def digest_of(self, file: File) -> str:
        """The digest of a file that is there; it is read where what is remembered is of another time."""
        known = self.verified.get(file.path)
        if known is None or self.state(file) is not FileState.WHOLE:
            sha256 = digest(self.path / file.path)
            self.remember(file, sha256, known.source if known else "found")
            return sha256
        return known.sha256

    def remember(self, file: File, sha256: str, source: str) -> None:
        found = (self.path / file.path).stat()
        self.verified[file.path] = Verified(
            size=found.st_size, sha256=sha256, mtime_ns=found.st_mtime_ns, source=source, at_hub=file.at_hub
        )
        _write(self.path / _RECORD, self.verified)

    def learn(self, file: File, sha256: str, source: str) -> None:
        """What a hub has said of a file that is there now, and that the manifest does not know."""
        if file.sha256 is None:
            size = (self.path / file.path).stat().st_size
            self.learned[file.source] = Learned(size=size, sha256=sha256, source=source)
            _write(self.path / _LEARNED, self.learned)

    def take_in(self, staged: Path, file: File, sha256: str, source: str) -> None:
        """Move a verified file to its place."""
        place = self.path / file.path
        place.parent.mkdir(parents=True, exist_ok=True)
        sync(staged)
        move(staged, place)
        self.remember(file, sha256, source)

    def is_of_another_variant(self, file: File) -> bool:
        """Whether what is there was verified as another file of the hub, or nobody knows as which."""
        known = self.verified.get(file.path)
        return file.at_hub is not None if known is None else known.at_hub != file.at_hub

    def quarantine(self, file: File) -> None:
        """Put a file that is not what it should be where nothing reads it."""
        place = self.path / QUARANTINE / file.path.replace("/", "_")
        place.parent.mkdir(exist_ok=True)
        (self.path / file.path).replace(place)
        self.verified.pop(file.path, None)

    def verify(self, file: File, tell: Callable[[int], None] = lambda read: None) -> bool:
        """Read a file that is there; whether it is the right one, which is then remembered."""
        known = self.verified.get(file.path)
        if file.sha256 is None and self.is_of_another_variant(file):
            return False
        expected = file.sha256 or (known.sha256 if known else None)
        found = digest(self.path / file.path, tell)
        if expected not in (None, found):
            return False
        self.remember(file, found, known.source if known else "found")
        return True


def _read(record: Path, kind: type[R]) -> dict[str, R]:
    try:
        return {path: kind.model_validate(each) for path, each in json.loads(record.read_bytes()).items()}
    except (OSError, ValueError, AttributeError, ValidationError):
        return {}


def _write(record: Path, entries: Mapping[str, BaseModel]) -> None:
    try:
        content = {path: each.model_dump() for path, each in sorted(entries.items())}
        write_atomically(record, json.dumps(content, indent=1))
    except OSError as error:
        if error.errno not in (errno.EROFS, errno.EACCES, errno.EPERM):
            raise  # a folder that is read-only is read again the next time


def digest(path: Path, tell: Callable[[int], None] = lambda read: None) -> str:
    """The SHA-256 of a file; `tell` hears of each block that was read."""
    hashed = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            hashed.update(block)
            tell(len(block))
    return hashed.hexdigest()


@contextmanager
def alone(lock: Path, waiting: Callable[[], None]) -> Iterator[None]:
    """Hold `lock`, which the kernel frees when a process ends however it ends. `waiting` is called once if another
    process has it. Raises `CS-FETCH-004` where no lock can be made."""
    try:
        lock.parent.mkdir(parents=True, exist_ok=True)
        held = FileLock(lock)
        try:
            held.acquire(timeout=0)
        except Timeout:
            waiting()
            held.acquire()
    except OSError as error:
        raise CosyError(errors.FOLDER_UNWRITABLE, folder=lock.parent, reason=error.strerror or error) from error
    try:
        yield
    finally:
        held.release()


def human(size: float) -> str:
    """Bytes as people say them, in powers of ten as the hubs do."""
    for unit in ("B", "kB", "MB"):
        if size < 1000:
            return f"{size:.0f} {unit}"
        size /= 1000
    return f"{size:.1f} GB"
