"""What each key has used today, kept in `usage.json` in the state folder, so that a restart does not forget it.

Servers that share the folder add to the same file. Each knows what the others have counted since its own last save, at
most a second before its last request.
"""

import logging
import threading
import time
from asyncio import Event
from collections.abc import Callable, Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Annotated, NamedTuple

import anyio
from anyio.to_thread import run_sync
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from cosyserve import errors, paths
from cosyserve.errors import CosyError
from cosyserve.files import locked, write_atomically

log = logging.getLogger(__name__)

NAME = "usage.json"
_PAUSE = 1.0  # seconds between two saves
_Count = Annotated[int, Field(ge=0)]
_SECONDS_OF_DAY = 24 * 60 * 60


class Amount(NamedTuple):
    requests: int = 0
    characters: int = 0

    def plus(self, other: "Amount") -> "Amount":
        return Amount(self.requests + other.requests, self.characters + other.characters)


NOTHING, ONE_REQUEST = Amount(), Amount(requests=1)
Amounts = Mapping[str, Amount]


class _Used(BaseModel):
    model_config = ConfigDict(strict=True)

    requests: _Count
    characters: _Count


class _Kept(BaseModel):
    model_config = ConfigDict(strict=True)

    day: str
    keys: dict[str, _Used]


class Usage:
    """Counts by day of UTC. `add`, `of` and `keep` are for the event loop, `save` for any thread."""

    def __init__(self, folder: Path, wall: Callable[[], float] = time.time) -> None:
        self._folder, self._wall = folder, wall
        self._lock, self._saves = threading.Lock(), threading.Lock()
        self._day = ""
        self._kept: Amounts = {}
        self._saving: Amounts = {}  # what is being added to the file, and is no part of `_kept` yet
        self._unsaved: dict[str, Amount] = {}
        self._changed = Event()
        self._complained = False

    def today(self) -> str:
        """The day, of which all counts are from now on."""
        day = datetime.fromtimestamp(self._wall(), timezone.utc).date().isoformat()
        with self._lock:
            if day != self._day:
                self._day, self._kept, self._saving, self._unsaved = day, self._read(day) or {}, {}, {}
        return day

    def seconds_left(self) -> float:
        """Until the next day begins."""
        return _SECONDS_OF_DAY - self._wall() % _SECONDS_OF_DAY

    def of(self, name: str) -> Amount:
        self.today()
        with self._lock:
            kept, saving, unsaved = (each.get(name, NOTHING) for each in (self._kept, self._saving, self._unsaved))
        return kept.plus(saving).plus(unsaved)

    def add(self, name: str, amount: Amount, *, keep: bool) -> None:
        """Count it; it may be negative. `keep` says whether it is worth a save of its own."""
        self.today()
        with self._lock:
            self._unsaved[name] = self._unsaved.get(name, NOTHING).plus(amount)
        if keep:
            self._changed.set()

    async def keep(self) -> None:
        """Save what changes until this is cancelled, the last of it included."""
        try:
            while True:
                await self._changed.wait()
                self._changed.clear()
                if not await run_sync(self.save):
                    self._changed.set()
                await anyio.sleep(_PAUSE)
        finally:
            if self._changed.is_set():
                self.save()

    def save(self) -> bool:
        """Add what has changed to the file, and return whether that succeeded; if not, the log says so."""
        with self._saves:
            return self._save()

    def _save(self) -> bool:
        with self._lock:
            day, self._saving, self._unsaved = self._day, self._unsaved, {}
        if not self._saving:
            return True
        try:
            folder = self._folder.expanduser()
            folder.mkdir(parents=True, exist_ok=True)
            with locked(folder):
                kept = self._read(day)
                together = _sum(self._kept if kept is None else kept, self._saving)
                write_atomically(folder / NAME, _written(day, together), mode=0o600)
        except (OSError, RuntimeError) as error:
            self._complain(getattr(error, "strerror", None) or error)
            together = None
        else:
            self._complained = False
        with self._lock:
            if day != self._day:  # it is past, and so is what was counted
                return True
            if together is None:
                self._saving, self._unsaved = {}, dict(_sum(self._saving, self._unsaved))
                return False
            self._kept, self._saving = together, {}
        return True

    def _read(self, day: str) -> Amounts | None:
        """What the file has of that day; None if it cannot be used."""
        try:
            path = self._folder.expanduser() / NAME
            if not path.exists():
                return {}
            kept = _Kept.model_validate_json(paths.text_of(path))
        except (OSError, RuntimeError, ValueError) as error:
            self._complain("it is damaged" if isinstance(error, ValidationError) else error)
            return None
        if kept.day != day:
            return {}
        return {name: Amount(used.requests, used.characters) for name, used in kept.keys.items()}

    def _complain(self, reason: object) -> None:
        """Once for each time that it begins to fail."""
        if self._complained:
            return
        self._complained = True
        log.error("%s", CosyError(errors.USAGE_UNKEPT, path=self._folder / NAME, reason=reason))


def _sum(one: Amounts, other: Amounts) -> Amounts:
    return {name: one.get(name, NOTHING).plus(other.get(name, NOTHING)) for name in {**one, **other}}


def _written(day: str, amounts: Amounts) -> str:
    used = {name: _Used(requests=max(0, of.requests), characters=max(0, of.characters)) for name, of in amounts.items()}
    return _Kept(day=day, keys=used).model_dump_json(indent=1) + "\n"
