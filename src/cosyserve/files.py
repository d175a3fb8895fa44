"""Atomic writes: a file is complete or absent, even if the machine stops or other processes write at the same time.

A file is written under a temporary name in the same folder, flushed to the disk, and only then renamed.
"""

import errno
import fcntl
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

_TEMPORARY = ".cosyserve-"


def write_atomically(path: Path, data: bytes | str, mode: int = 0o666) -> None:
    """Leaves the old content or the new one; creates the folder. The umask limits `mode`, as for any new file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with writing_atomically(path, mode) as file:
        file.write(data.encode() if isinstance(data, str) else data)


@contextmanager
def writing_atomically(path: Path, mode: int = 0o666) -> Iterator[BinaryIO]:
    """Yields a file to write. It takes its place at the end of the body, and is removed if the body fails."""
    with temporary_name(path.parent) as temporary:
        with new_file(temporary, mode) as file:
            yield file
        move(temporary, path)


def create_atomically(path: Path, data: bytes | str, mode: int = 0o666) -> None:
    """The same for a file that is created only once; raises `FileExistsError` if it exists."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with temporary_name(path.parent) as temporary:
        with new_file(temporary, mode) as file:
            file.write(data.encode() if isinstance(data, str) else data)
        link(temporary, path)
    sync(path.parent)


@contextmanager
def temporary_name(folder: Path, beginning: str = _TEMPORARY, ending: str = "") -> Iterator[Path]:
    """Yields an unused name; whatever has it at the end is removed. It is random, because process ids are not unique:
    containers that share a volume have the same ones."""
    path = folder / f"{beginning}{secrets.token_hex(6)}{ending}"
    try:
        yield path
    finally:
        path.unlink(missing_ok=True)


def temporaries(folder: Path) -> list[Path]:
    """Files that are being written in a folder, or were when a process was killed."""
    return [*folder.glob(f"{_TEMPORARY}*")]


@contextmanager
def new_file(path: Path, mode: int) -> Iterator[BinaryIO]:
    """Yields a new file to write and to read back, which is flushed to the disk at the end of the body."""
    with open(path, "x+b", opener=lambda name, flags: os.open(name, flags, mode)) as file:
        yield file
        file.flush()
        os.fsync(file.fileno())


def move(source: Path, target: Path) -> None:
    """Renames the file over what is there, and flushes the folder."""
    source.replace(target)
    sync(target.parent)


def link(source: Path, target: Path) -> None:
    """Gives a file a second name, never replacing another file: raises `FileExistsError`. If the file system has no
    hard links (exFAT, many of FUSE), the second name gets a copy."""
    try:
        os.link(source, target)
    except FileExistsError:
        raise
    except OSError:  # EPERM by link(2), and whatever else a file system says: what is really wrong, the copy meets too
        _copy(source, target)


def _copy(source: Path, target: Path) -> None:
    """Two processes are kept apart by a lock, because a rename would replace an existing file."""
    with temporary_name(target.parent) as temporary:
        with source.open("rb") as original, new_file(temporary, source.stat().st_mode & 0o777) as copy:
            shutil.copyfileobj(original, copy)
        with locked(target.parent):
            if os.path.lexists(target):
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(target))
            temporary.replace(target)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep other processes out of the body. The lock is on the folder, so it leaves no file, and the kernel releases it
    however a process ends."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def discard(path: Path) -> None:
    """Removes what is there, of whatever kind, as far as that can be done."""
    with suppress(OSError):
        path.unlink(missing_ok=True)
    shutil.rmtree(path, ignore_errors=True)


def stamp(path: Path) -> tuple[int, ...]:
    """Differs between two contents of a file; empty if there is no file."""
    try:
        found = path.stat()
    except OSError:
        return ()
    return found.st_mtime_ns, found.st_size, found.st_ino


def sync(path: Path) -> None:
    """Flush a file, or the names in a folder, to the disk."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno != errno.EINVAL:  # a file system that cannot do that with a folder: fsync(2)
            raise
    finally:
        os.close(descriptor)
