"""Files of another user in CosyServe's folders, such as in a volume that another user's container wrote to."""

import os
import shlex
from collections.abc import Iterator
from itertools import chain, islice
from pathlib import Path

from cosyserve import errors
from cosyserve.errors import CosyError
from cosyserve.machine import IMAGE, Machine
from cosyserve.settings import Settings
from cosyserve.store.chosen import chosen_folder
from cosyserve.store.engines import Engines

_MOUNTS = "/proc/self/mountinfo"
_MOST = 10_000  # files that are looked at: a folder that a setting names may be anybody's


def expect_ours(settings: Settings) -> None:
    """Raises `CS-SET-006` if the server may not read its model, its engines or a voice."""
    models, voices = settings.models_dir, settings.voices_dir
    model, engines = chosen_folder(settings).path, Engines(models).root
    for place in islice(chain(_within(model), _within(engines), [voices], _inside(voices)), _MOST):
        expect_readable(place)


def expect_readable(place: Path) -> None:
    """Raises `CS-SET-006` if this user may not read a file, or may not list a folder, that exists."""
    if not os.access(place.parent, os.X_OK):
        place = place.parent
    if os.access(place, os.F_OK) and not os.access(place, os.R_OK | (os.X_OK if place.is_dir() else 0)):
        line = mending(place, Machine())
        raise CosyError(errors.ANOTHER_USERS, path=place, owner=place.stat().st_uid, user=os.geteuid(), line=line)


def mending(place: Path, machine: Machine) -> str:
    """The command that gives a place to this user, as typed on the machine that has the files."""
    user, typed = os.geteuid(), shlex.quote(str(place))
    image = machine.environ.get(IMAGE)
    if image is None:
        return f"sudo chown -R {user} {typed}"
    mounted, source = _mount_of(place, machine)
    if mounted == Path("/"):  # nothing is: it lies in the image
        return f"chown -R {user} {typed}"
    if source.parts[-3:-2] == ("volumes",) and source.name == "_data":  # as Docker keeps its own
        return f"docker run --rm --user 0 --volume {source.parts[-2]}:{mounted} {image} chown -R {user} {mounted}"
    return f"sudo chown -R {user} FOLDER  # the one that is mounted on {mounted}"  # its path cannot be known here


def _within(folder: Path) -> Iterator[Path]:
    """A folder and all that is in it."""
    yield folder
    for each in _inside(folder):
        if each.is_dir() and not each.is_symlink():
            yield from _within(each)
        else:
            yield each


def _inside(folder: Path) -> list[Path]:
    """Empty if the folder cannot be read."""
    try:
        return sorted(folder.iterdir())
    except OSError:
        return []


def _mount_of(place: Path, machine: Machine) -> tuple[Path, Path]:
    """Where the file system of a place is mounted, and which folder of its disk that is: proc_pid_mountinfo(5)."""
    rows = [line.split(" ") for line in machine.read(_MOUNTS).splitlines()]
    mounts = {Path(_unescaped(row[4])): Path(_unescaped(row[3])) for row in rows if len(row) > 4}
    found = next((folder for folder in (place, *place.parents) if folder in mounts), Path("/"))
    return found, mounts.get(found, place)


def _unescaped(field: str) -> str:
    return field.encode().decode("unicode_escape")
