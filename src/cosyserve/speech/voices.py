"""The library of voices: folders of recordings.

A file `[name]transcript.wav` (any audio format) is a voice as it lies there, the convention of the original server. A
voice that is added through the API or the command is a recording beside `name.json`, which says its words and who
agreed to its use. A voice that came without a recording is `name.safetensors` beside it.
"""

import hashlib
import re
import time
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from cosyserve import errors
from cosyserve.errors import CosyError
from cosyserve.files import link, new_file, sync, temporary_name
from cosyserve.speech import names, recording
from cosyserve.text.checks import checked_field

BUNDLED = Path(__file__).parent / "recordings"
FEATURES = ".features"  # the folder of what was worked out of recordings; safe to delete

_CONVENTION = re.compile(r"\[([^\]]+)\](.+)", re.DOTALL)
_AUDIO = frozenset((".wav", ".mp3", ".flac", ".ogg", ".opus", ".aac", ".m4a", ".webm"))
_LANGUAGES = ("zh", "en", "ja", "ko", "yue")
_ADDING = ".adding-"  # what begins so is being added, or was when a process ended
_ABANDONED = 3600.0  # seconds after which it was
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
    """One voice of the library: the words of its recording, where known, and the file it is in.

    `card` is the file that says so, where it is not the recording's own name.
    """

    name: str
    transcript: str
    file: Path
    consent: str = ""
    card: Path | None = None

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
        """A new voice from an audio file, which may be anything; raises `CS-VOICE-…`, `CS-TEXT-…`. May take seconds."""
        name = self._free(name)
        transcript = checked_field("transcript", transcript).strip()
        consent = checked_field("consent", consent).strip()
        if not consent:
            raise CosyError(errors.CONSENT_MISSING, param="consent")
        return self._publish(name, transcript, consent, recording.written(recording.read(data)), ".flac")

    def learn(self, entry: Entry) -> None:
        """Work out what speaking in that voice needs, whether or not it is there yet; raises `CS-VOICE-…`."""
        if self._learn is not None:
            self._learn(entry)

    def adopt(self, name: str, features: bytes) -> Entry:
        """A new voice from features that were worked out elsewhere (a safetensors file)."""
        return self._publish(self._free(name), "", "imported", features, ".safetensors")

    def remove(self, name: str) -> None:
        """Raises `CS-VOICE-007` where there is none, `CS-VOICE-004` where it is not in the own folder."""
        entry = names.found(self.entries, name)
        if entry is None:
            raise CosyError(errors.VOICE_ABSENT, param="name")
        if not self.owns(entry):
            raise CosyError(errors.VOICE_FIXED, param="name")
        with _written_to():
            for each in _entries_of(self.folder):  # the same name may be written in more than one form
                if each.name == entry.name:
                    self._delete(each)
        self._seen = ()

    def owns(self, entry: Entry) -> bool:
        """Whether it lies in the folder that can be written to, so that it can be deleted."""
        return entry.file.parent == self.folder

    def _delete(self, entry: Entry) -> None:
        """The card first, so that there is no voice without its recording."""
        with suppress(FileNotFoundError):  # somebody else deletes it
            self._forget(entry.file)
        if entry.card is not None:
            entry.card.unlink(missing_ok=True)
        entry.file.unlink(missing_ok=True)

    def _forget(self, file: Path) -> None:
        """What was worked out of it."""
        for features in (self.folder / FEATURES).glob(f"{digest_of(file.read_bytes())}-*"):
            features.unlink(missing_ok=True)

    def _free(self, name: str) -> str:
        """The name as it is kept; raises where it cannot be given to another voice."""
        name = names.checked(name)
        if any(names.are_alike(name, other) for other in self.entries):
            raise CosyError(errors.VOICE_TAKEN, param="name")
        return name

    def _publish(self, name: str, transcript: str, consent: str, data: bytes, ending: str) -> Entry:
        """The card is written last and never over another one, so a voice is whole or absent."""
        with _written_to():
            self.folder.mkdir(parents=True, exist_ok=True)
            _sweep(self.folder)
            with _beginning(self.folder, data, ending) as audio:
                # What is worked out of it is named after its content, and stays right when it gets its name.
                self.learn(Entry(name, transcript, audio, consent))
                entry = Entry(
                    name,
                    transcript,
                    file=self.folder / f"{name}-{audio.name.removeprefix(_ADDING)}",
                    consent=consent,
                    card=self.folder / f"{name}.json",
                )
                try:
                    _put(entry, audio)
                except BaseException:
                    self._forget(audio)
                    raise
            sync(self.folder)
        self._seen = ()
        return entry


def _put(entry: Entry, audio: Path) -> None:
    """Give a recording the name of its voice, and the voice its card; both or neither."""
    assert entry.card is not None  # noqa: S101 - of a voice that is added
    card = _Card(transcript=entry.transcript, consent=entry.consent, file=entry.file.name)
    with _beginning(audio.parent, card.model_dump_json(indent=2).encode(), ".json") as written:
        link(audio, entry.file)
        try:
            link(written, entry.card)
        except BaseException as error:
            entry.file.unlink()
            if isinstance(error, FileExistsError):
                raise CosyError(errors.VOICE_TAKEN, param="name") from None
            raise


@contextmanager
def _beginning(folder: Path, data: bytes, ending: str) -> Iterator[Path]:
    """A file that only its owner can read, all of it on the disk. It is gone afterwards; a link to it stays."""
    with temporary_name(folder, _ADDING, ending) as path:
        with new_file(path, 0o600) as file:
            file.write(data)
        yield path


def _sweep(folder: Path) -> None:
    """Take away what processes that ended in between have left."""
    used = {entry.file for entry in _entries_of(folder)}
    for file in folder.glob(f"{_ADDING}*"):
        with suppress(OSError):
            if time.time() - file.stat().st_mtime > _ABANDONED:
                # It may have got its name already, and not yet its card.
                for each in folder.glob(f"*-{file.name.removeprefix(_ADDING)}"):
                    if each not in used:
                        each.unlink()


def digest_of(data: bytes) -> str:
    """The first half of a recording's SHA-256, by which its features are named."""
    return hashlib.sha256(data).hexdigest()[:32]


def _entries_of(folder: Path) -> list[Entry]:
    """What is no voice is passed over: people keep other things in folders."""
    try:
        files = sorted(file for file in folder.iterdir() if file.is_file())  # opening a pipe could take forever
    except OSError:
        return []
    found = []
    for file in files:
        if match := _CONVENTION.fullmatch(unicodedata.normalize("NFC", file.stem)):
            name = names.plain(match[1])
            if file.suffix.lower() in _AUDIO and names.is_name(name):
                found.append(Entry(name, match[2].strip(), file))
        elif file.suffix == ".json" and names.is_name(name := names.plain(file.stem)):
            with suppress(OSError, ValueError):
                card = _Card.model_validate_json(file.read_bytes())
                # Only a file of this very folder: a card may come from anywhere.
                if (named := folder / Path(card.file).name).is_file():
                    found.append(Entry(name, card.transcript, named, card.consent, file))
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
