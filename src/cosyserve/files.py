"""Files that are whole or absent, whenever the machine stops and whoever else writes at the same time.

A file is written under a temporary name in the same folder, brought to the disk, and only then given its own name.
"""

import errno
import fcntl
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

_TEMPORARY = ".cosyserve-"


def write_atomically(path: Path, data: bytes | str, mode: int = 0o666) -> None:
    """The old content or the new one; the folder is made. The umask bounds `mode`, as of any new file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with writing_atomically(path, mode) as file:
        file.write(data.encode() if isinstance(data, str) else data)


@contextmanager
def writing_atomically(path: Path, mode: int = 0o666) -> Iterator[BinaryIO]:
    """A file to write, which takes its place at the end of the body, and is gone where that fails."""
    with temporary_name(path.parent) as temporary:
        with new_file(temporary, mode) as file:
            yield file
        move(temporary, path)


def create_atomically(path: Path, data: bytes | str, mode: int = 0o666) -> None:
    """The same for a file that is made only once; raises `FileExistsError` where it is there already."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with temporary_name(path.parent) as temporary:
        with new_file(temporary, mode) as file:
            file.write(data.encode() if isinstance(data, str) else data)
        link(temporary, path)
    sync(path.parent)


@contextmanager
def temporary_name(folder: Path, beginning: str = _TEMPORARY, ending: str = "") -> Iterator[Path]:
    """A name that nobody has; whatever has it at the end is removed.

    It is drawn, since process ids are not enough: containers that share a volume have the same ones.
    """
    path = folder / f"{beginning}{secrets.token_hex(6)}{ending}"
    try:
        yield path
    finally:
        path.unlink(missing_ok=True)


@contextmanager
def new_file(path: Path, mode: int) -> Iterator[BinaryIO]:
    """A file that was not there before, to be written; it is on the disk at the end of the body."""
    with open(path, "xb", opener=lambda name, flags: os.open(name, flags, mode)) as file:
        yield file
        file.flush()
        os.fsync(file.fileno())


def move(source: Path, target: Path) -> None:
    """In place of what is there, on the disk too."""
    source.replace(target)
    sync(target.parent)


def link(source: Path, target: Path) -> None:
    """Give a file a second name, never in place of another file: raises `FileExistsError`.

    Where the file system has no hard links (exFAT, many of FUSE), the second name has a copy.
    """
    try:
        os.link(source, target)
    except FileExistsError:
        raise
    except OSError:  # EPERM by link(2), and whatever else a file system says: what is really wrong, the copy meets too
        _copy(source, target)


def _copy(source: Path, target: Path) -> None:
    """A rename takes the place of what is there, so that two processes are kept apart by a lock. It is one of the
    folder's own, which leaves no file and which the kernel frees however a process ends."""
    with temporary_name(target.parent) as temporary:
        with source.open("rb") as original, new_file(temporary, source.stat().st_mode & 0o777) as copy:
            shutil.copyfileobj(original, copy)
        folder = os.open(target.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(folder, fcntl.LOCK_EX)
            if os.path.lexists(target):
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(target))
            temporary.replace(target)
        finally:
            os.close(folder)


def sync(path: Path) -> None:
    """Bring a file, or the names in a folder, to the disk itself."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno != errno.EINVAL:  # a file system that cannot do that with a folder: fsync(2)
            raise
    finally:
        os.close(descriptor)
