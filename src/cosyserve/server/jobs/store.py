"""Jobs on disk, each a folder in the state folder: its text, what is known of it, its passages, its audio.

The disk is all there is: any server with this state folder sees the same jobs, and after a crash nothing is lost but
the passages that were being spoken. `job.json` is written last and removed first, so a folder without it is no job.
"""

import fcntl
import os
import re
import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ValidationError

from cosyserve import errors
from cosyserve.errors import CosyError
from cosyserve.files import temporaries, write_atomically
from cosyserve.settings import Settings
from cosyserve.speech.passages import is_sound

_ID = re.compile(r"[0-9a-f]{32}")
_CARD, _TEXT, _PASSAGES, _AUDIO, _CAPTIONS, _LOCK = "job.json", "text", "passages", "audio", "captions", ".lock"
_PRIVATE = 0o700  # texts are nobody else's business
_FORSAKEN_SECONDS = 3600  # after which a folder without a card is no job that is just being written

Status = Literal["queued", "running", "done", "failed"]


class Manner(BaseModel):
    """How a job is to be spoken."""

    voice: str
    input_format: str
    instructions: str
    response_format: str
    speed: float
    seed: int | None
    normalize: bool
    title: str


class Job(BaseModel):
    """What is known of a job besides its text."""

    id: str
    owner: str | None  # a digest of the key that it came with; see `caller_of`
    key: str = ""  # the name of that key
    created: float  # seconds since 1970
    characters: int
    passages: int  # that have a sound, each counted once
    manner: Manner
    status: Status = "queued"
    begun: int = 0  # how often servers have begun it since the last passage was kept
    kept: int = 0  # passages that there were when it was begun
    finished: float | None = None
    seconds: float | None = None
    label: str = ""
    error: dict[str, Any] | None = None  # as in an answer


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
        with suppress(FileNotFoundError):
            return sum(is_sound(entry.name) for entry in os.scandir(self.passages))
        return 0

    def clear(self) -> None:
        """Remove what was only needed on the way to the audio, and what killed servers have left."""
        shutil.rmtree(self.passages, ignore_errors=True)
        for path in (self.text, *temporaries(self.folder)):
            path.unlink(missing_ok=True)


class Jobs:
    """Its methods block. Several servers may have the same folder."""

    def __init__(self, settings: Settings) -> None:
        self.folder = settings.state_dir.expanduser() / "jobs"
        self._most, self._bytes, self._seconds = settings.max_jobs, settings.job_bytes, settings.job_hours * 3600

    def files(self, job_id: str) -> JobFiles:
        return JobFiles(self.folder / job_id)

    def add(self, job: Job, text: str) -> None:
        """Raises `CS-JOB-003`, `CS-JOB-004`."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True, mode=_PRIVATE)
            with self._locked():
                if len(self._ids()) >= self._most:
                    raise CosyError(errors.JOBS_FULL, limit=self._most, retry_after=60)
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

    def all(self) -> list[Job]:
        """The oldest first, without those whose time is over."""
        found = [job for each in self._ids() if (job := self._read(each)) and not self._is_over(job)]
        return sorted(found, key=lambda job: (job.created, job.id))

    def find(self, job_id: str, caller: str | None) -> Job:
        """One of the caller's jobs; raises `CS-JOB-001`."""
        job = self._read(job_id) if _ID.fullmatch(job_id) else None
        if job is None or self._is_over(job) or not is_seen(job, caller):
            raise CosyError(errors.JOB_ABSENT, param="id")
        return job

    def remove(self, job_id: str) -> None:
        """Removes it with everything that it has."""
        files = self.files(job_id)
        with self._locked():
            files.card.unlink(missing_ok=True)
        shutil.rmtree(files.folder, ignore_errors=True)

    def sweep(self) -> None:
        """Removes what is over, and what a crash has left."""
        for job_id in self._ids():
            job = self._read(job_id)
            if self._is_over(job) if job else self._is_forsaken(job_id):
                self.remove(job_id)

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
        except OSError:  # nobody has left a job here yet
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
        with suppress(FileNotFoundError):
            return [entry.name for entry in os.scandir(self.folder) if _ID.fullmatch(entry.name)]
        return []

    def _read(self, job_id: str) -> Job | None:
        with suppress(OSError, ValidationError):
            return Job.model_validate_json(self.files(job_id).card.read_bytes())
        return None

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
        return path.stat().st_size
    return 0
