"""Jobs on disk, each a folder in the state folder: its text, what is known of it, its passages, its audio.

The disk is all there is: any server with this state folder sees the same jobs, and after a crash nothing is lost but
the passages that were being spoken. `job.json` is written last and removed first, so a folder without it is no job.
Damage is found when a file is read: links, other kinds of files, and whatever was not written here.
"""

import fcntl
import logging
import os
import re
import secrets
import shutil
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from cosyserve import errors
from cosyserve.errors import CosyError
from cosyserve.files import discard, temporaries, write_atomically
from cosyserve.paths import bytes_of
from cosyserve.server.failures import ErrorDetail
from cosyserve.settings import Settings
from cosyserve.speech.captions import Caption, unpacked
from cosyserve.speech.passages import is_sound
from cosyserve.speech.timestretch import FASTEST, SLOWEST

log = logging.getLogger(__name__)

_ID = re.compile(r"[0-9a-f]{32}")
_CARD, _TEXT, _PASSAGES, _AUDIO, _CAPTIONS, _LOCK = "job.json", "text", "passages", "audio", "captions", ".lock"
_PRIVATE = 0o700  # texts are nobody else's business
_FORSAKEN_SECONDS = 3600  # after which a folder without a card is no job that is just being written

_LONGEST_CARD, _LONGEST = 1 << 20, 1 << 26  # bytes of a card, and of a text or captions

Status = Literal["queued", "running", "done", "failed"]
InputFormat = Literal["text", "markdown", "ssml"]
AudioFormat = Literal["mp3", "opus", "aac", "flac", "wav", "pcm", "m4b"]
Count = Annotated[int, Field(ge=0, lt=2**53)]
Time = Annotated[float, Field(ge=0, lt=2**53)]

Content = TypeVar("Content")


class Manner(BaseModel):
    """How a job is to be spoken."""

    model_config = ConfigDict(allow_inf_nan=False)

    voice: str
    input_format: InputFormat
    instructions: str
    response_format: AudioFormat
    speed: Annotated[float, Field(ge=SLOWEST, le=FASTEST)]
    seed: Annotated[int, Field(ge=0, lt=2**63)] | None
    normalize: bool
    title: str


class Job(BaseModel):
    """What is known of a job besides its text."""

    model_config = ConfigDict(allow_inf_nan=False)

    id: str
    owner: str | None  # a digest of the key that it came with; see `caller_of`
    key: str = ""  # the name of that key
    created: Time  # seconds since 1970
    characters: Count
    passages: Count  # that have a sound, each counted once
    manner: Manner
    status: Status = "queued"
    turn: Count = 0  # see `turns`
    begun: Count = 0  # how often servers have begun it since the last passage was kept
    kept: Count = 0  # passages that there were when it was begun
    finished: Time | None = None
    seconds: Time | None = None
    size: Count | None = None  # bytes of the audio
    label: Annotated[str, Field(pattern=r"^[ -~]*$")] = ""  # which goes into a header
    error: ErrorDetail | None = None


@dataclass(frozen=True)
class JobFiles:
    """The files of a job."""

    folder: Path

    @property
    def passages(self) -> Path:
        return self.folder / _PASSAGES

    @property
    def audio(self) -> Path:
        return self.folder / _AUDIO

    @property
    def captions(self) -> Path:
        return self.folder / _CAPTIONS

    @property
    def text(self) -> Path:
        return self.folder / _TEXT

    @property
    def card(self) -> Path:
        return self.folder / _CARD

    @property
    def kept(self) -> int:
        """The number of passages that have been spoken."""
        with suppress(FileNotFoundError, NotADirectoryError):
            return sum(is_sound(entry.name) for entry in os.scandir(self.passages))
        return 0

    def words(self) -> str:
        """The text; raises `CS-JOB-008`."""
        text = self._read(self.text, bytes.decode)
        if not text.strip():
            raise CosyError(errors.JOB_DAMAGED, name=_TEXT)
        return text

    def what_is_said(self) -> list[Caption]:
        """The captions; raises `CS-JOB-008`."""
        return self._read(self.captions, unpacked)

    def expect_audio(self, size: int | None) -> None:
        """Raises `CS-JOB-008` unless the audio is there, with so many bytes as it had when it was made."""
        with suppress(OSError):
            found = self.audio.lstat()
            if stat.S_ISREG(found.st_mode) and 0 < found.st_size == (size or found.st_size):
                return
        raise CosyError(errors.JOB_DAMAGED, name=_AUDIO)

    def make_way(self) -> None:
        """Remove what is of another kind than what is to be written; raises OSError."""
        for path in (self.audio, self.captions, self.passages):
            if path.is_symlink() or path.is_dir() is not (path == self.passages):
                discard(path)
        self.passages.mkdir(exist_ok=True)

    def clear(self) -> None:
        """Remove what was only needed on the way to the audio, and what killed servers have left."""
        for path in (self.passages, self.text, *temporaries(self.folder)):
            discard(path)

    def _read(self, path: Path, read: Callable[[bytes], Content]) -> Content:
        try:
            return read(bytes_of(path, _LONGEST))
        except (FileNotFoundError, ValueError):
            raise CosyError(errors.JOB_DAMAGED, name=path.name) from None


class Jobs:
    """Its methods block. Several servers may have the same folder."""

    def __init__(self, settings: Settings) -> None:
        self.folder = settings.state_dir.expanduser() / "jobs"
        self._most, self._bytes, self._seconds = settings.max_jobs, settings.job_bytes, settings.job_hours * 3600

    def files(self, job_id: str) -> JobFiles:
        return JobFiles(self.folder / job_id)

    def add(self, job: Job, text: str, turn: Callable[[Job, list[Job]], int] = lambda job, waiting: 0) -> None:
        """`turn` says its turn among those that wait. Raises `CS-JOB-003`, `CS-JOB-004`."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True, mode=_PRIVATE)
            with self._locked():
                self.expect_place()
                job.turn = turn(job, self.waiting())
                self.expect_room(len(text.encode()))
                files = self.files(job.id)
                files.folder.mkdir(mode=_PRIVATE)
                write_atomically(files.text, text)
                self.write(job)
        except OSError as error:
            raise storage(error) from error

    def write(self, job: Job) -> None:
        write_atomically(self.files(job.id).card, job.model_dump_json())

    def update(self, job: Job) -> bool:
        """Writes what is known of a job by now; False if it was deleted."""
        with self._locked():
            if not self.files(job.id).card.exists():
                return False
            self.write(job)
            return True

    def end(self, job: Job) -> None:
        """Writes how a job has ended, unless it was deleted, and removes what it needs no more: whoever knows that it
        has ended finds the room that it leaves."""
        with self._locked():
            files = self.files(job.id)
            if files.card.exists():
                self.write(job)
                files.clear()
                if job.status == "failed":
                    discard(files.audio)

    def expect_place(self) -> None:
        """Raises `CS-JOB-003` if there are as many as there may be."""
        if len(self._ids()) >= self._most:
            raise CosyError(errors.JOBS_FULL, limit=self._most, retry_after=60)

    def all(self) -> list[Job]:
        """The oldest first, without those whose time is over, and those of which nothing can be known any more."""
        found = [job for each in self._ids() if (job := self._known(each)) and not self._is_over(job)]
        return sorted(found, key=lambda job: (job.created, job.id))

    def waiting(self) -> list[Job]:
        """Those that are not finished."""
        return [job for job in self.all() if job.finished is None]

    def find(self, job_id: str, caller: str | None) -> Job:
        """One of the caller's jobs; raises `CS-JOB-001`, and `CS-JOB-008` if its card is damaged: whose it was cannot
        be known, but nobody else knows its id."""
        job = self._read(job_id) if _ID.fullmatch(job_id) else None
        if job is None or self._is_over(job) or not is_seen(job, caller):
            raise CosyError(errors.JOB_ABSENT, param="id")
        return job

    def remove(self, job_id: str) -> None:
        """Removes it with everything that it has."""
        files = self.files(job_id)
        with self._locked():
            discard(files.card)
        shutil.rmtree(files.folder, ignore_errors=True)

    def sweep(self) -> None:
        """Removes what is over, and what a crash has left."""
        for job_id in self._ids():
            job = self._known(job_id)
            if self._is_over(job) if job else self._is_forsaken(job_id):
                self.remove(job_id)
                if job is None:
                    log.warning("What was left of job %s is removed: it had no card that could be read", job_id)

    def expect_room(self, more: int = 0) -> None:
        """Raises `CS-JOB-004` unless there is room for so many bytes beside all that there is."""
        used = sum(_size(Path(folder) / name) for folder, _, names in os.walk(self.folder) for name in names)
        if used + more > self._bytes:
            reason, reason_zh = f"they take {used} of {self._bytes} bytes", f"已占用 {used} / {self._bytes} 字节"
            raise CosyError(errors.JOBS_STORAGE, reason=reason, reason_zh=reason_zh)

    @contextmanager
    def alone(self) -> Iterator[bool]:
        """Whether this process is the one that works on the jobs, for as long as the body lasts. However a process
        ends, the kernel lets go of its lock."""
        try:
            lock = os.open(self.folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:  # mostly, nobody has left a job here yet
            if isinstance(error, IsADirectoryError):
                discard(self.folder / _LOCK)
            yield False
            return
        try:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                yield False
            else:
                yield True
        finally:
            os.close(lock)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """While the list of jobs changes."""
        folder = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(folder, fcntl.LOCK_EX)
            yield
        finally:
            os.close(folder)

    def _ids(self) -> list[str]:
        with suppress(FileNotFoundError, NotADirectoryError):
            entries = [*os.scandir(self.folder)]
            return [each.name for each in entries if _ID.fullmatch(each.name) and each.is_dir(follow_symlinks=False)]
        return []

    def _known(self, job_id: str) -> Job | None:
        with suppress(CosyError):
            return self._read(job_id)
        return None

    def _read(self, job_id: str) -> Job | None:
        """None if there is none; raises `CS-JOB-008`."""
        files = self.files(job_id)
        if files.folder.is_symlink():
            return None
        try:
            job = Job.model_validate_json(bytes_of(files.card, _LONGEST_CARD))
        except FileNotFoundError:
            return None
        except ValueError:
            raise CosyError(errors.JOB_DAMAGED, name=_CARD) from None
        if job.id != job_id:  # which other files are found by
            raise CosyError(errors.JOB_DAMAGED, name=_CARD)
        return job

    def _is_over(self, job: Job) -> bool:
        return job.finished is not None and time.time() > job.finished + self._seconds

    def _is_forsaken(self, job_id: str) -> bool:
        with suppress(FileNotFoundError):
            return time.time() > self.files(job_id).folder.stat().st_mtime + _FORSAKEN_SECONDS
        return False


def is_seen(job: Job, caller: str | None) -> bool:
    """Whether a job is one of the caller's: where keys are needed, those that came with the same key."""
    return caller is None or job.owner == caller


def new_id() -> str:
    return secrets.token_hex(16)


def storage(error: OSError) -> CosyError:
    reason = error.strerror or str(error)
    return CosyError(errors.JOBS_STORAGE, reason=reason, reason_zh=reason)


def _size(path: Path) -> int:
    with suppress(FileNotFoundError):
        return path.lstat().st_size
    return 0
