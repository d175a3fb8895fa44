"""What a model's folder holds, and what is known of it.

Each file is whole or absent: it is verified beside the folder and renamed into it. `.cosyserve.json` remembers the
digest of every verified file with its size and time, so that a look at a complete folder takes a few `stat` calls.
"""

import errno
import hashlib
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import Enum
from pathlib import Path

from filelock import FileLock, Timeout
from pydantic import BaseModel, ValidationError

from cosyserve import errors
from cosyserve.errors import CosyError
from cosyserve.files import move, sync, write_atomically
from cosyserve.store.manifest import File, Model

_RECORD = ".cosyserve.json"
_SIZES = "sizes.json"
_BLOCK = 1 << 22
QUARANTINE = ".quarantine"


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


class Folder:
    """The folder of one model."""

    def __init__(self, models_dir: Path, model: Model) -> None:
        self.model, self.path = model, models_dir / model.folder
        self.verified = _read(self.path / _RECORD)

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
            same = (found.st_size, found.st_mtime_ns) == (known.size, known.mtime_ns)
            return FileState.WHOLE if same and known.sha256 == (file.sha256 or known.sha256) else FileState.CHANGED
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
            size=found.st_size, sha256=sha256, mtime_ns=found.st_mtime_ns, source=source
        )
        record = {path: each.model_dump() for path, each in sorted(self.verified.items())}
        try:
            write_atomically(self.path / _RECORD, json.dumps(record, indent=1))
        except OSError as error:
            if error.errno not in (errno.EROFS, errno.EACCES, errno.EPERM):
                raise  # a folder that is read-only is read again the next time

    def take_in(self, staged: Path, file: File, sha256: str, source: str) -> None:
        """Move a verified file to its place."""
        place = self.path / file.path
        place.parent.mkdir(parents=True, exist_ok=True)
        sync(staged)
        move(staged, place)
        self.remember(file, sha256, source)

    def quarantine(self, file: File) -> None:
        """Put a file that is not what it should be where nothing reads it."""
        place = self.path / QUARANTINE / file.path.replace("/", "_")
        place.parent.mkdir(exist_ok=True)
        (self.path / file.path).replace(place)
        self.verified.pop(file.path, None)

    def verify(self, file: File, tell: Callable[[int], None] = lambda read: None) -> bool:
        """Read a file that is there; whether it is the right one, which is then remembered."""
        known = self.verified.get(file.path)
        expected = file.sha256 or (known.sha256 if known else None)
        found = digest(self.path / file.path, tell)
        if expected not in (None, found):
            return False
        self.remember(file, found, known.source if known else "found")
        return True


def _read(record: Path) -> dict[str, Verified]:
    try:
        return {path: Verified.model_validate(each) for path, each in json.loads(record.read_bytes()).items()}
    except (OSError, ValueError, AttributeError, ValidationError):
        return {}


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
