"""Checks files and folders that settings name.

Their kind is checked before they are opened: opening a named pipe may wait forever, and a device has no end.
"""

import os
import shutil
import stat
from pathlib import Path

_LONGEST_TEXT = 1 << 20  # bytes of a file of settings or keys
_KINDS = (
    (stat.S_ISREG, "a file"),
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


def expect_folder(path: Path) -> None:
    """Raises ValueError if there is something at the path that is not a folder."""
    _expect(path, "a folder")


def expect_file(path: Path) -> None:
    """Raises ValueError if there is something at the path that is not a regular file."""
    _expect(path, "a file")


def expect_program(path: Path) -> None:
    """Raises ValueError if it cannot be run, neither as a path nor as a name on the PATH."""
    expect_file(path)
    if shutil.which(path) is None:
        raise ValueError(f"{path} is not a program")


def text_of(path: Path) -> str:
    """Reads a small file of UTF-8 text; raises ValueError that says what is wrong with it."""
    expect_file(path)
    try:
        with open(path.expanduser(), "rb", opener=without_waiting) as file:
            data = file.read(_LONGEST_TEXT + 1)
    except (OSError, RuntimeError) as error:  # the second where there is no home
        raise ValueError(_said(error)) from None
    if len(data) > _LONGEST_TEXT:
        raise ValueError(f"it is longer than {_LONGEST_TEXT} bytes")
    try:
        text = data.decode()
    except UnicodeDecodeError:
        raise ValueError("it is not UTF-8 text") from None
    if "\0" in text:
        raise ValueError("it contains a NUL character")
    return text


def bytes_of(path: Path, most: int) -> bytes:
    """Reads a file that this program has written; raises ValueError that says what has become of it, and
    FileNotFoundError. A link is refused, because it would lead to a file of somebody else."""
    try:
        with open(path, "rb", opener=_without_links) as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise ValueError("it is not a file")
            data = file.read(most + 1)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise ValueError(_said(error)) from None
    if len(data) > most:
        raise ValueError(f"it is longer than {most} bytes")
    return data


def _without_links(path: str, flags: int) -> int:
    return without_waiting(path, flags | os.O_NOFOLLOW)


def without_waiting(path: str, flags: int) -> int:
    """For `open`: if the path turns out to be a pipe, neither opening nor reading waits."""
    return os.open(path, flags | os.O_NONBLOCK | os.O_CLOEXEC, 0o666)


def _expect(path: Path, wanted: str) -> None:
    try:
        path = path.expanduser()
        if path.is_symlink() and not path.exists():
            raise ValueError(f"{path} is a link to nothing")
        mode = path.stat().st_mode
    except (FileNotFoundError, PermissionError):
        return  # nothing of another kind is known to be there; whoever needs it says so
    except RuntimeError as error:  # nobody is called so, or there is no home
        if path.parts[0] == "~":
            return  # a container without a home serves all the same
        raise ValueError(f"{path}: {_said(error)}") from None
    except OSError as error:
        raise ValueError(f"{path}: {_said(error)}") from None
    kind = next((words for is_kind, words in _KINDS if is_kind(mode)), "something else")
    if kind != wanted:
        raise ValueError(f"{path} is {kind}, not {wanted}")


def _said(error: Exception) -> str:
    return error.strerror if isinstance(error, OSError) and error.strerror else str(error)
