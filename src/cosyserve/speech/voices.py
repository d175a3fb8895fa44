"""The library of voices: folders of recordings.

A file `[name]transcript.wav` (any audio format) is a voice as it lies there, the convention of the original server. A
voice that is added through the API or the command is a recording beside `name.json`, which says its words and who
agreed to its use. A voice that came without a recording is `name.safetensors` beside it.
"""

import hashlib
import os
import re
import tempfile
import time
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from cosyserve import errors
from cosyserve.errors import CosyError
from cosyserve.speech import recording

BUNDLED = Path(__file__).parent / "recordings"
FEATURES = ".features"  # the folder of what was worked out of recordings; safe to delete

_NAME = re.compile(r"[^\W_][\w .-]{0,47}")
_CONVENTION = re.compile(rf"\[({_NAME.pattern})\](.+)", re.DOTALL)
_AUDIO = frozenset((".wav", ".mp3", ".flac", ".ogg", ".opus", ".aac", ".m4a", ".webm"))
_LANGUAGES = ("zh", "en", "ja", "ko", "yue")
_SETTLED = 1.0  # seconds after a folder's last change from which its time stamp tells the next one apart


@dataclass(frozen=True)
class Voice:
    """A voice as a client sees it."""

    id: str
    name: str
    name_zh: str
    languages: tuple[str, ...]


@dataclass(frozen=True)
class Entry:
    """One voice of the library: the words of its recording, where known, and the file it is in."""

    name: str
    transcript: str
    file: Path
    consent: str = ""

    @property
    def voice(self) -> Voice:
        return Voice(self.name, self.name, self.name, _LANGUAGES)


class _Card(BaseModel):
    """What `name.json` holds; `file` lies beside it."""

    model_config = ConfigDict(strict=True, extra="forbid")

    transcript: str
    consent: str
    file: str


class Library:
    """The voices of `others`, then those of the folder that can be written to, whose names win. A change on disk, by
    whatever process, is seen at the next look. Threads may share it."""

    def __init__(
        self, folder: Path, learn: Callable[[Entry], object] | None = None, others: Sequence[Path] = (BUNDLED,)
    ) -> None:
        """`learn` is called for a voice that is added, before anybody can see it; where it raises there is none."""
        self.folder, self._learn = folder, learn
        self._folders = (*others, folder)
        self._seen: tuple[int, ...] = ()
        self._entries: dict[str, Entry] = {}

    @property
    def entries(self) -> Mapping[str, Entry]:
        """By name."""
        stamps = tuple(_changed(folder) for folder in self._folders)
        if stamps != self._seen or time.time() - max(stamps) / 1e9 < _SETTLED:
            self._entries = {entry.name: entry for folder in self._folders for entry in _entries_of(folder)}
            self._seen = stamps
        return self._entries

    def add(self, name: str, transcript: str, consent: str, data: bytes) -> Entry:
        """A new voice from an audio file, which may be anything; raises `CS-VOICE-…`. May take seconds."""
        name = checked_name(name)
        if not consent.strip():
            raise CosyError(errors.CONSENT_MISSING, param="consent")
        if name in self.entries:
            raise CosyError(errors.VOICE_TAKEN, param="name")
        audio = recording.written(recording.read(data))
        return self._publish(name, transcript.strip(), consent.strip(), audio, ".flac")

    def learn(self, entry: Entry) -> None:
        """Work out what speaking in that voice needs, whether or not it is there yet; raises `CS-VOICE-…`."""
        if self._learn is not None:
            self._learn(entry)

    def adopt(self, name: str, features: bytes) -> Entry:
        """A new voice from features that were worked out elsewhere (a safetensors file)."""
        name = checked_name(name)
        if name in self.entries:
            raise CosyError(errors.VOICE_TAKEN, param="name")
        return self._publish(name, "", "imported", features, ".safetensors")

    def remove(self, name: str) -> None:
        """Raises `CS-VOICE-007` where there is none, `CS-VOICE-004` where it is not in the own folder."""
        entry = self.entries.get(unicodedata.normalize("NFC", name))
        if entry is None:
            raise CosyError(errors.VOICE_ABSENT, param="name")
        if entry.file.parent != self.folder:
            raise CosyError(errors.VOICE_FIXED, param="name")
        with _written_to():
            digest = digest_of(entry.file)
            (self.folder / f"{entry.name}.json").unlink(missing_ok=True)
            entry.file.unlink(missing_ok=True)
            for features in (self.folder / FEATURES).glob(f"{digest}-*"):
                features.unlink(missing_ok=True)
        self._seen = ()

    def _publish(self, name: str, transcript: str, consent: str, data: bytes, ending: str) -> Entry:
        """The card is written last and never over another one, so a voice is whole or absent."""
        with _written_to():
            self.folder.mkdir(parents=True, exist_ok=True)
            handle, place = tempfile.mkstemp(ending, f"{name}-", self.folder)
            with os.fdopen(handle, "wb") as file:
                file.write(data)
                os.fsync(file.fileno())
            entry = Entry(name, transcript, Path(place), consent)
            card = Path(place).with_suffix(".partial")
            try:
                self.learn(entry)
                written = _Card(transcript=transcript, consent=consent, file=entry.file.name)
                card.write_text(written.model_dump_json(indent=2), encoding="utf-8")
                os.link(card, self.folder / f"{name}.json")
            except BaseException as error:
                entry.file.unlink()
                if isinstance(error, FileExistsError):
                    raise CosyError(errors.VOICE_TAKEN, param="name") from None
                raise
            finally:
                card.unlink(missing_ok=True)
        self._seen = ()
        return entry


def checked_name(name: str) -> str:
    """A name that is a file name on every system; raises `CS-VOICE-002`."""
    name = unicodedata.normalize("NFC", name).strip()
    if not _NAME.fullmatch(name) or name.endswith("."):
        raise CosyError(errors.VOICE_NAME, param="name")
    return name


def digest_of(file: Path) -> str:
    """The first half of a file's SHA-256, by which its features are named."""
    return hashlib.sha256(file.read_bytes()).hexdigest()[:32]


def _entries_of(folder: Path) -> list[Entry]:
    """What is no voice is passed over: people keep other things in folders."""
    try:
        files = sorted(folder.iterdir())
    except OSError:
        return []
    found = []
    for file in files:
        if match := _CONVENTION.fullmatch(unicodedata.normalize("NFC", file.stem)):
            if file.suffix.lower() in _AUDIO:
                found.append(Entry(match[1].strip(), match[2].strip(), file))
        elif file.suffix == ".json" and _NAME.fullmatch(file.stem):
            with suppress(OSError, ValueError):
                card = _Card.model_validate_json(file.read_bytes())
                # Only a file of this very folder: a card may come from anywhere.
                if (named := folder / Path(card.file).name).is_file():
                    found.append(Entry(file.stem, card.transcript, named, card.consent))
    return found


def _changed(folder: Path) -> int:
    try:
        return folder.stat().st_mtime_ns
    except OSError:
        return 0


@contextmanager
def _written_to() -> Iterator[None]:
    """Turns what the system says about a folder into `CS-VOICE-006`."""
    try:
        yield
    except OSError as error:
        raise CosyError(errors.VOICES_UNWRITABLE, reason=error.strerror or error) from error
