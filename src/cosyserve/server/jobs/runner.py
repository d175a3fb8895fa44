"""Works on the jobs, one after the other, in the streams that requests leave free.

What is spoken is kept passage by passage. So however this process ends, the next one continues behind the last one.
"""

import asyncio
import logging
import time
import uuid
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from functools import partial
from typing import TypeVar

import anyio
from anyio.to_thread import run_sync

from cosyserve import errors
from cosyserve.errors import CosyError
from cosyserve.files import write_atomically
from cosyserve.server.failures import ErrorDetail, as_cosy_error, body_of
from cosyserve.server.jobs.books import book_of, passages_of
from cosyserve.server.jobs.store import Job, JobFiles, Jobs, storage
from cosyserve.server.jobs.turns import in_turn, ranks
from cosyserve.server.service import ServerState, Service
from cosyserve.speech.binding import bind_to_file
from cosyserve.speech.captions import Caption, packed
from cosyserve.speech.encoders import BOOK_FORMATS
from cosyserve.speech.label import label_of
from cosyserve.speech.passages import Passages, speak_all
from cosyserve.speech.reading import Reader
from cosyserve.speech.synthesizer import Options
from cosyserve.text.book import Passage

log = logging.getLogger(__name__)

Result = TypeVar("Result")

_LOOK_SECONDS = 2.0  # between looks for jobs, which another server may have taken in
_START_SECONDS = 0.5  # between looks whether the server is ready
_CHECK_SECONDS = 1.0  # between looks for a reason to stop while the file is written
_TRIES = 3  # of a passage that fails
_TRY_AGAIN_SECONDS = 2.0
_MOST_BEGUN = 5  # ends of servers at the same place, after which a job is given up
_ABLE = (ServerState.READY, ServerState.ASLEEP)
_PASSING = (errors.NO_ROOM_TO_WAKE, errors.WAKING, errors.NO_REPLICA)
_ON_PURPOSE = (ServerState.STOPPING, ServerState.RETIRING, ServerState.IDLE)


class DeletedError(Exception):
    """The job was deleted while it was worked on."""


class GivesWayError(Exception):
    """A job of a higher priority has come."""


class Runner:
    def __init__(self, service: Service, jobs: Jobs) -> None:
        self._service, self._jobs = service, jobs
        self._added = asyncio.Event()
        self._current: Job | None = None  # the job that is worked on
        self._gives_way = False
        self._working: asyncio.Task[None] | None = None
        self._begun: set[str] = set()  # jobs that this server has begun

    def added(self, job: Job) -> None:
        """There is a new job. One of a lower priority waits for it from its next passage on."""
        rank = ranks(self._service.keyring.named)
        self._gives_way |= self._current is not None and rank(job) < rank(self._current)
        self._added.set()

    def deleted(self, job_id: str) -> None:
        """It was removed: stop working on it."""
        if self._current is not None and job_id == self._current.id and self._working is not None:
            self._working.cancel()

    async def run(self) -> None:
        """Works until it is cancelled, or the server stops."""
        while self._service.state in (ServerState.STARTING, ServerState.READY):
            with self._jobs.alone() as alone:
                while alone and await self._one():
                    pass
            self._added.clear()
            starts = self._service.state is ServerState.STARTING
            with anyio.move_on_after(_START_SECONDS if starts else _LOOK_SECONDS):
                await self._added.wait()

    async def _one(self) -> bool:
        """Work on the job whose turn it is; False if there is none, or the server cannot speak now."""
        try:
            await run_sync(self._jobs.sweep)
            await self._drop_revoked()
            waiting = in_turn(await run_sync(self._jobs.waiting), ranks(self._service.keyring.named))
        except OSError as error:
            log.error("The jobs cannot be read: %s", error)
            return False
        if not waiting or self._service.condition not in _ABLE:
            return False
        job = waiting[0]
        self._current, self._gives_way = job, False
        self._working = asyncio.create_task(self._finish(job))
        try:
            await asyncio.wait({self._working})
        finally:
            self._working.cancel()
            self._current = None
        if not self._jobs.files(job.id).card.exists():
            with suppress(OSError):  # the folder of all jobs may be gone as well
                await run_sync(self._jobs.remove, job.id)  # what was still written when it was deleted
        if not self._working.cancelled() and (problem := self._working.exception()):
            log.error("A job cannot go on", exc_info=problem)
            return False
        return self._service.condition in _ABLE

    async def _drop_revoked(self) -> None:
        """Remove the jobs of keys that have been revoked, as nobody could see or delete them."""
        for job in await run_sync(self._jobs.all):
            if self._is_revoked(job):
                await run_sync(self._jobs.remove, job.id)

    def _is_revoked(self, job: Job) -> bool:
        return job.owner is not None and self._service.keyring.is_revoked(job.key, job.owner)

    async def _finish(self, job: Job) -> None:
        """Take a job to its end: it is done, failed or deleted, or the server cannot go on."""
        files = self._jobs.files(job.id)
        try:
            await self._begin(job, files)
            await self._speak(job, files)
        except DeletedError:
            return
        except GivesWayError:
            job.status = "queued"
            await run_sync(self._jobs.update, job)
            return
        except Exception as problem:
            if not files.card.exists():  # it was deleted, and its files were missed before that was noticed
                return
            if self._service.condition not in _ABLE:
                await self._pause(job)
                return
            error = as_cosy_error(problem)
            job.status, job.finished = "failed", time.time()
            job.error = ErrorDetail.model_validate(body_of(error)["error"])
            log.warning("Job %s failed: %s", job.id, error)
        await run_sync(self._jobs.end, job)

    async def _begin(self, job: Job, files: JobFiles) -> None:
        """Raises `CS-JOB-006` if servers have ended too often at the same passage, which is hardly by chance."""
        kept = await run_sync(lambda: files.kept)
        if job.id not in self._begun:
            job.begun = job.begun + 1 if kept == job.kept else 1
        self._begun.add(job.id)
        job.kept, job.status = kept, "running"
        if job.begun > _MOST_BEGUN:
            raise CosyError(errors.JOB_ENDS_SERVER, times=_MOST_BEGUN)
        await self._update(job)

    async def _pause(self, job: Job) -> None:
        """The job continues when a server is ready again. If this one stops on purpose, the job did not end it."""
        if self._service.state in _ON_PURPOSE:
            job.begun = 0
            await run_sync(self._jobs.update, job)

    async def _update(self, job: Job) -> None:
        if not await run_sync(self._jobs.update, job):
            raise DeletedError

    async def _speak(self, job: Job, files: JobFiles) -> None:
        text = await run_sync(files.words)
        book = await run_sync(book_of, text, job.manner)
        passages = passages_of(files, job.manner)
        await _stored(files.make_way)
        missing = await run_sync(passages.missing, book.passages)
        at_once = min(self._service.capacity.streams, self._service.settings.job_streams)
        await speak_all(missing, at_once, partial(self._keep, job, passages))
        fmt, label = BOOK_FORMATS[job.manner.response_format], label_of(self._service.settings)
        looked = time.monotonic()
        with closing(bind_to_file(files.audio, book, passages, fmt, job.manner.speed, label)) as binding:
            captions: Sequence[Caption] = ()
            while (so_far := await _stored(partial(next, binding, None))) is not None:
                job.seconds, captions = so_far.seconds, so_far.captions
                if time.monotonic() > looked + _CHECK_SECONDS:
                    await self._go_on(job)
                    looked = time.monotonic()
        await self._go_on(job)
        await _stored(partial(write_atomically, files.captions, packed(captions)))
        job.status, job.finished, job.label = "done", time.time(), label.entry if label else ""
        job.size = files.audio.stat().st_size
        self._service.metrics.audio_seconds.inc(job.seconds or 0)
        log.info(
            "Job %s done: %.2f s of %s, content %s",
            *(job.id, job.seconds, fmt.name, label.content_id if label else "without a label"),
        )

    async def _keep(self, job: Job, passages: Passages, passage: Passage) -> None:
        """Speak a passage and keep it. A failure is tried a few times; one that passes by itself is waited out."""
        tries = 0
        while True:
            await self._go_on(job)
            if self._gives_way:
                raise GivesWayError
            try:
                parts = await self._reader(job).read(passage)
                break
            except Exception as problem:
                error = as_cosy_error(problem)
                tries += error.fault not in _PASSING
                if tries == _TRIES or error.fault.status < 500 or self._service.condition not in _ABLE:
                    raise error from problem
                await anyio.sleep(error.retry_after or _TRY_AGAIN_SECONDS)
        await _stored(partial(passages.keep, passage, parts))

    async def _go_on(self, job: Job) -> None:
        """Raises the reason to stop, if there is one."""
        if self._service.condition not in _ABLE:
            raise CosyError(errors.STOPPING)
        if self._is_revoked(job) or not self._jobs.files(job.id).card.exists():
            raise DeletedError
        self._service.idleness.touch()
        await run_sync(self._jobs.expect_room)

    def _reader(self, job: Job) -> Reader:
        """Reads each segment in a borrowed place. Raises what keeps the voice from speaking now."""
        manner, service = job.manner, self._service
        options = Options(manner.instructions, seed=manner.seed, whole=True, stream=uuid.uuid4().hex)
        return Reader(
            service.synthesizer,
            service.require_ready(manner.voice, options),
            service.words(manner.voice),
            options,
            service.settings.max_audio_seconds,
            speed=manner.speed,
            normalize=manner.normalize,
            ssml=manner.input_format == "ssml",
            turn=service.admission.borrow,
        )


async def _stored(work: Callable[[], Result]) -> Result:
    """Does work on the disk in a thread; raises `CS-JOB-004` if the disk does not take it. A thread cannot be
    cancelled, so whoever is cancelled meanwhile waits for it: nothing that it uses may be closed before."""
    working = asyncio.ensure_future(run_sync(work))
    working.add_done_callback(lambda done: done.cancelled() or done.exception())  # which may have no other listener
    try:
        return await asyncio.shield(working)
    except asyncio.CancelledError:
        await asyncio.wait({working})
        raise
    except OSError as error:
        raise storage(error) from error
