"""The lexicon's file, `_lexicon.json` in the folder of voices: `{"entries": [{"word", "respelling", …}, …]}`.

People edit it, and so do servers and commands; each of them sees a change at its next look.
"""

import json
import logging
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from cosyserve import errors
from cosyserve.errors import CosyError
from cosyserve.files import locked, stamp, write_atomically
from cosyserve.text.lexicon import NO_WORDS, Pronunciation, Words, plain

NAME = "_lexicon.json"  # which no voice's card can have
MOST_ENTRIES = 2000
_MOST_BYTES = 4 * 1024 * 1024

log = logging.getLogger(__name__)


class _Entry(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")

    word: str
    respelling: str = ""
    pinyin: str = ""
    phonemes: str = ""
    voice: str = ""


class _File(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")

    entries: list[_Entry]


class Lexicon:
    """Threads may share it."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / NAME
        self._lock = threading.Lock()
        self._seen: tuple[int, ...] | None = None
        self._entries: tuple[Pronunciation, ...] = ()
        self._broken: CosyError | None = None
        self._words: dict[tuple[str, bool], Words] = {}

    @property
    def entries(self) -> Sequence[Pronunciation]:
        """In the order of their words; raises `CS-LEX-004`."""
        with self._lock:
            self._look()
            if self._broken is not None:
                raise self._broken
            return self._entries

    def words(self, voice: str, *, pronounced: bool) -> Words:
        """What `voice` says for which words. If the file cannot be used, there are none, and the log says why."""
        with self._lock:
            self._look()
            if not self._entries:
                return NO_WORDS
            # Voices without an entry of their own share one table.
            own = voice if any(entry.voice == voice for entry in self._entries) else ""
            if (own, pronounced) not in self._words:
                self._words[own, pronounced] = Words.of(self._entries, own, pronounced=pronounced)
            return self._words[own, pronounced]

    def find(self, word: str, voice: str = "") -> Pronunciation:
        """Raises `CS-LEX-002`, `CS-LEX-004`."""
        found = next((entry for entry in self.entries if _key(entry) == (plain(word), plain(voice))), None)
        if found is None:
            raise CosyError(errors.LEXICON_ABSENT, param="word")
        return found

    def put(self, entry: Pronunciation) -> Pronunciation:
        """Add an entry, or replace the one of its word and voice; raises `CS-LEX-…`, `CS-VOICE-006`."""
        entry = checked(entry)
        with self._changing() as entries:
            entries[_key(entry)] = entry
            if len(entries) > MOST_ENTRIES:
                raise CosyError(errors.LEXICON_FULL, limit=MOST_ENTRIES)
        return entry

    def remove(self, word: str, voice: str = "") -> None:
        """Raises `CS-LEX-002`, `CS-LEX-004`, `CS-VOICE-006`."""
        with self._changing() as entries:
            if entries.pop((plain(word), plain(voice)), None) is None:
                raise CosyError(errors.LEXICON_ABSENT, param="word")

    @contextmanager
    def _changing(self) -> Iterator[dict[tuple[str, str], Pronunciation]]:
        """The entries, which are written as the body leaves them, one process at a time."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with locked(self.path.parent):
                with self._lock:
                    self._seen = None
                entries = {_key(entry): entry for entry in self.entries}
                yield entries
                write_atomically(self.path, _written(entries.values()))
                with self._lock:
                    self._seen = None
        except OSError as error:
            raise CosyError(errors.VOICES_UNWRITABLE, reason=error.strerror or error) from error

    def _look(self) -> None:
        """Read the file again if it is another one than before."""
        seen = stamp(self.path)
        if seen == self._seen:
            return
        self._seen, self._entries, self._broken, self._words = seen, (), None, {}
        try:
            self._entries = _read(self.path) if seen else ()
        except (OSError, ValueError) as error:
            self._broken = CosyError(errors.LEXICON_BROKEN, path=self.path, reason=_reason(error))
            log.error("%s", self._broken)


def checked(entry: Pronunciation) -> Pronunciation:
    """As it is kept; raises `CS-LEX-001`."""
    said = {name: plain(value).strip() for name, value in asdict(entry).items() if name != "word"}
    entry = Pronunciation(plain(entry.word), **said)
    if (unfit := entry.unfit()) is not None:
        raise CosyError(errors.LEXICON_ENTRY, param="word", reason=unfit.reason, reason_zh=unfit.reason_zh)
    return entry


def _key(entry: Pronunciation) -> tuple[str, str]:
    return entry.word, entry.voice


def _read(path: Path) -> tuple[Pronunciation, ...]:
    """Raises OSError, ValueError."""
    if not path.is_file():  # opening a pipe could take forever
        raise ValueError("it is no file")
    with path.open("rb") as file:
        data = file.read(_MOST_BYTES + 1)
    if len(data) > _MOST_BYTES:
        raise ValueError(f"it is larger than {_MOST_BYTES} bytes")
    found = _File.model_validate_json(data).entries
    if len(found) > MOST_ENTRIES:
        raise ValueError(f"it has more than {MOST_ENTRIES} entries")
    entries = {}
    for each in found:
        entry = Pronunciation(**each.model_dump())
        try:
            entry = checked(entry)
        except CosyError as error:
            raise ValueError(f"{entry.word!r}: {error.facts['reason']}") from None
        entries[_key(entry)] = entry
    return tuple(entries[key] for key in sorted(entries))


def _reason(error: OSError | ValueError) -> str:
    if isinstance(error, ValidationError):
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(map(str, first["loc"]))
        return f"{place}: {first['msg']}" if place else first["msg"]
    return (error.strerror if isinstance(error, OSError) else None) or str(error)


def _written(entries: Iterable[Pronunciation]) -> str:
    """An entry a line, without the fields that are empty."""
    rows = [{name: value for name, value in asdict(entry).items() if value} for entry in sorted(entries, key=_key)]
    lines = ",\n".join(f"  {json.dumps(row, ensure_ascii=False)}" for row in rows)
    return f'{{"entries": [\n{lines}\n]}}\n'
