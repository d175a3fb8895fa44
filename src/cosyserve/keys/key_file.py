"""The file of named keys, `keys.json` in the state folder: `{"keys": [{"name", "sha256", "priority", …}, …]}`.

The commands change it, and so do people; servers see a change with the next request. It never holds a key itself.
"""

import hashlib
import json
import os
import secrets
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from cosyserve import errors, paths
from cosyserve.errors import CosyError
from cosyserve.files import locked, stamp, write_atomically
from cosyserve.host.ownership import expect_readable
from cosyserve.keys.key import LONGEST_NAME, NO_LIMITS, Limits, NamedKey, Priority, composed, fits

NAME = "keys.json"
MOST = 500  # because the key of each request is compared with all of them
_PREFIX = "cosy-"  # by which people and scanners tell a key that was published by mistake
_BYTES = 32
_UNKNOWN = (0,)  # stamp of a dangling link, and of a file that cannot be examined


class _Kept(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")

    keys: list[NamedKey]


class KeyFile:
    def __init__(self, state_dir: Path) -> None:
        self._folder = state_dir

    @property
    def path(self) -> Path:
        """Raises RuntimeError if the folder lies in a home and there is none."""
        return self._folder.expanduser() / NAME

    @property
    def exists(self) -> bool:
        """Whether there is anything of its name, usable or not, or nobody can tell."""
        try:
            os.lstat(self.path)
        except (FileNotFoundError, NotADirectoryError, RuntimeError):
            return False
        except OSError:
            pass
        return True

    def stamp(self) -> tuple[int, ...]:
        """Differs between two contents; empty if there is no file."""
        try:
            found = stamp(self.path)
        except RuntimeError:
            return ()
        return found or (_UNKNOWN if self.exists else ())

    def read(self) -> Sequence[NamedKey]:
        """The keys in their order, none if there is no file; raises `CS-KEY-001`, `CS-SET-006`."""
        if not self.exists:
            return ()
        expect_readable(self.path)
        try:
            return _parsed(paths.text_of(self.path))
        except ValueError as error:
            raise CosyError(errors.KEYS_BROKEN, path=self.path, reason=_reason(error)) from None

    def add(self, name: str, priority: Priority = "normal", limits: Limits = NO_LIMITS) -> str:
        """Make a key of that name and return it: only its digest is kept. Raises `CS-KEY-…`, `CS-SET-006`."""
        name = composed(name)
        if not fits(name):
            raise CosyError(errors.KEY_NAME, longest=LONGEST_NAME)
        key = _PREFIX + secrets.token_urlsafe(_BYTES)
        sha256 = digest(key.encode()).hex()
        made = NamedKey(name=name, sha256=sha256, priority=priority, limits=limits, created=_today())
        with self._changing() as keys:
            if any(each.name == name for each in keys):
                raise CosyError(errors.KEY_TAKEN, name=name)
            if len(keys) >= MOST:
                raise CosyError(errors.KEYS_FULL, limit=MOST)
            keys.append(made)
        return key

    def change(self, name: str, changed: Callable[[NamedKey], NamedKey]) -> NamedKey:
        """Replace a key's description, not the key; raises `CS-KEY-…`, `CS-SET-006`."""
        with self._changing() as keys:
            place = self._place(keys, name)
            keys[place] = changed(keys[place])
            return keys[place]

    def revoke(self, name: str) -> None:
        """Raises `CS-KEY-…`, `CS-SET-006`."""
        with self._changing() as keys:
            del keys[self._place(keys, name)]

    def _place(self, keys: Sequence[NamedKey], name: str) -> int:
        found = next((place for place, key in enumerate(keys) if key.name == composed(name)), None)
        if found is None:
            raise CosyError(errors.KEY_ABSENT)
        return found

    @contextmanager
    def _changing(self) -> Iterator[list[NamedKey]]:
        """The keys, which are written as the body leaves them, by one process at a time."""
        try:
            folder = self.path.parent
            folder.mkdir(parents=True, exist_ok=True)
            with locked(folder):
                keys = list(self.read())
                yield keys
                write_atomically(self.path, _written(keys), mode=0o600)
        except (OSError, RuntimeError) as error:  # the second where there is no home
            reason = getattr(error, "strerror", None) or error
            raise CosyError(errors.KEYS_UNWRITABLE, folder=self._folder, reason=reason) from error


def digest(key: bytes) -> bytes:
    """What is kept of a key, and compared."""
    return hashlib.sha256(key).digest()


def _parsed(text: str) -> Sequence[NamedKey]:
    """Raises ValueError."""
    keys = _Kept.model_validate_json(text).keys
    if len(keys) > MOST:
        raise ValueError(f"it has more than {MOST} keys")
    for kind in ("name", "sha256"):
        if len({getattr(key, kind) for key in keys}) < len(keys):
            raise ValueError(f"two keys have the same {kind}")
    return keys


def _reason(error: ValueError) -> str:
    """Without the values, which could be keys that were written into it by mistake."""
    if not isinstance(error, ValidationError):
        return str(error)
    first = error.errors(include_url=False, include_input=False, include_context=False)[0]
    if first["type"] == "json_invalid":
        return "it is not JSON"
    place = ".".join(map(str, first["loc"])) if first["type"] != "extra_forbidden" else "an unknown field"
    return f"{place}: {first['msg'].removeprefix('Value error, ')}"


def _written(keys: Sequence[NamedKey]) -> str:
    """A key a line, without what is not set."""
    rows = [json.dumps(key.model_dump(exclude_defaults=True), ensure_ascii=False) for key in keys]
    lines = ",\n".join(f"  {row}" for row in rows)
    return f'{{"keys": [\n{lines}\n]}}\n'


def _today() -> str:
    return datetime.now(timezone.utc).date().isoformat()
