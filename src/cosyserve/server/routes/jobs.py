"""Jobs: long texts that are spoken when streams are free, while nobody waits."""

import asyncio
import re
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

from anyio.to_thread import run_sync
from fastapi import APIRouter, Query, Request, Response
from fastapi import Path as InPath
from fastapi.responses import FileResponse
from pydantic import BaseModel, Field
from starlette.types import Receive, Scope, Send

from cosyserve import errors
from cosyserve.errors import CosyError
from cosyserve.server.bodies import BoundedRoute, counted
from cosyserve.server.door import caller_of
from cosyserve.server.failures import RESPONSES, ErrorBody, ErrorDetail
from cosyserve.server.fields import AnyCase, ShortText
from cosyserve.server.jobs.books import book_of, passages_of
from cosyserve.server.jobs.runner import Runner
from cosyserve.server.jobs.store import Job, Jobs, Manner, Status, is_seen, new_id
from cosyserve.server.jobs.turns import ranks, turn_of
from cosyserve.server.routes.captions import CAPTIONS
from cosyserve.server.routes.openai import Deleted, SpokenBody
from cosyserve.server.service import Service, key_of, service_of
from cosyserve.speech.audio import SAMPLE_RATE
from cosyserve.speech.captions import caption_format
from cosyserve.speech.encoders import BOOK_FORMATS
from cosyserve.speech.label import HEADER
from cosyserve.speech.synthesizer import Options
from cosyserve.text.checks import checked
from cosyserve.text.ssml import parsed

PATH = "/v1/audio/jobs"

_DAMAGED: dict[int | str, dict[str, Any]] = {410: {"model": ErrorBody, "description": "A file of the job is damaged"}}
router = APIRouter(route_class=BoundedRoute, responses={**RESPONSES, **_DAMAGED}, tags=["jobs"])

JobId = Annotated[ShortText, InPath(alias="id", description="The id that POST /v1/audio/jobs gave.")]
_RETRY_SECONDS = 5
_RANGE = re.compile(rb"bytes=(\d{0,15})-(\d{0,15})")
# One at a time: a long text may take seconds of the interpreter, which streams need as well.
_CUTTING = ThreadPoolExecutor(1, thread_name_prefix="cut")
_BINARY = {"schema": {"type": "string", "format": "binary"}}
_AUDIO: dict[int | str, dict[str, Any]] = {
    200: {"description": "The audio", "content": {each.media_type: _BINARY for each in BOOK_FORMATS.values()}},
    206: {"description": "The part of the audio that `Range` names"},
    416: {"model": ErrorBody, "description": "There is no such part"},
}


class _Audio(FileResponse):
    """A file, or one part of it. The library's own reading of several parts takes the square of their number in some of
    its versions, and answers nonsense in a format that is not ours; here nonsense is ignored, as HTTP has it."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        given = [value for name, value in scope["headers"] if name == b"range"]
        headers = scope["headers"]
        if not (len(given) == 1 and self._is_part(given[0])):
            headers = [(name, value) for name, value in headers if name != b"range"]
        await super().__call__({**scope, "headers": headers}, receive, send)

    def _is_part(self, given: bytes) -> bool:
        """Raises `CS-JOB-007` for a part that is not there."""
        match = _RANGE.fullmatch(given.strip())
        if match is None or (match[1] == match[2] == b""):
            return False
        size = Path(self.path).stat().st_size
        begin = int(match[1]) if match[1] else 0
        if begin >= size or (not match[1] and not int(match[2])):
            raise CosyError(errors.RANGE_OUTSIDE, size=size)
        return not match[1] or not match[2] or begin <= int(match[2])


class JobBody(SpokenBody):
    """A long text. Fields beyond these are ignored."""

    input: str = Field(description="The text to speak; COSYSERVE_MAX_JOB_CHARS limits its length.")
    input_format: Annotated[Literal["text", "markdown", "ssml", ""], AnyCase] = Field(
        "text",
        description="`markdown` makes chapters of headings. A text in `ssml` may be as long as a speech request's.",
    )
    response_format: Annotated[Literal["mp3", "opus", "aac", "flac", "wav", "pcm", "m4b", ""], AnyCase] = "mp3"
    title: ShortText = Field("", description="Title for the metadata. Without it, that of the text, if it has one.")


class JobEntry(BaseModel):
    """A job as its owner sees it. Times are seconds since 1970."""

    id: str
    object: Literal["audio.job"] = "audio.job"
    status: Status = Field(description="`queued`, `running`, `done` or `failed`.")
    progress: float = Field(description="The part of the passages that has been spoken, from 0 to 1.")
    passages: int
    passages_done: int
    characters: int
    title: str
    voice: str
    response_format: str
    created_at: int
    finished_at: int | None
    expires_at: int | None = Field(description="When a finished job is removed.")
    seconds: float | None = Field(description="The length of the finished audio.")
    error: ErrorDetail | None


class JobEntries(BaseModel):
    object: Literal["list"] = "list"
    data: list[JobEntry]


@router.post(PATH, status_code=202)
@counted
async def create_job(request: Request, response: Response, body: JobBody) -> JobEntry:
    """Have a long text spoken. The audio is at `/v1/audio/jobs/{id}/audio` once the status is `done`."""
    service = service_of(request)
    service.require_model(body.model)
    service.require_ready(body.voice_name, Options(body.instructions, seed=body.seed))
    _expect_length(body, service.settings.max_job_chars)
    jobs, key = _jobs(request), key_of(request)
    with service.quotas.take(key, len(body.input)):  # before any work on the text, which may take seconds
        await run_sync(jobs.expect_place)
        making = partial(_made, service, body, caller_of(request), key.name)
        job, text = await asyncio.get_running_loop().run_in_executor(_CUTTING, making)
        await run_sync(jobs.add, job, text, partial(turn_of, rank=ranks(service.keyring.named)))
    runner: Runner = request.app.state.runner
    runner.added(job)
    response.headers.update(service.quotas.headers(key))
    response.headers["Location"] = f"{request.scope.get('root_path', '')}{PATH}/{job.id}"
    return await _shown(request, job)


@router.get(PATH)
async def list_jobs(request: Request) -> JobEntries:
    """Your jobs, the oldest first. Where keys are needed, they are those that came with the same key."""
    caller = caller_of(request)
    found = [job for job in await run_sync(_jobs(request).all) if is_seen(job, caller)]
    return JobEntries(data=[await _shown(request, job) for job in found])


@router.get(f"{PATH}/{{id}}")
async def get_job(request: Request, job_id: JobId) -> JobEntry:
    """How far a job is."""
    return await _shown(request, await _found(request, job_id))


@router.get(f"{PATH}/{{id}}/audio", response_class=Response, responses=_AUDIO)
async def get_job_audio(request: Request, job_id: JobId) -> FileResponse:
    """The audio of a job that is done."""
    job = await _found(request, job_id)
    files = _jobs(request).files(_done(job).id)
    await run_sync(files.expect_audio, job.size)
    headers = {"Cache-Control": "no-store", "X-Sample-Rate": str(SAMPLE_RATE)}
    if job.label:
        headers[HEADER] = job.label
    name = f"{job.id}.{job.manner.response_format}"
    media_type = BOOK_FORMATS[job.manner.response_format].media_type
    return _Audio(files.audio, headers=headers, media_type=media_type, filename=name)


@router.get(f"{PATH}/{{id}}/captions", response_class=Response, responses=CAPTIONS)
async def get_job_captions(
    request: Request,
    job_id: JobId,
    fmt: Annotated[ShortText, Query(alias="format", description="`srt`, `vtt` or `json`.")] = "json",
) -> Response:
    """What is said when in the audio of a job that is done."""
    kind = caption_format(fmt)
    job = _done(await _found(request, job_id))
    files = _jobs(request).files(job.id)
    content = await run_sync(lambda: kind.written(files.what_is_said()))
    return Response(content, headers={"Cache-Control": "no-store"}, media_type=f"{kind.media_type}; charset=utf-8")


@router.delete(f"{PATH}/{{id}}")
async def delete_job(request: Request, job_id: JobId) -> Deleted:
    """Delete a job with its audio. If it is being spoken, that ends."""
    job = await _found(request, job_id)
    await run_sync(_jobs(request).remove, job.id)
    runner: Runner = request.app.state.runner
    runner.deleted(job.id)
    return Deleted(id=job.id)


def _done(job: Job) -> Job:
    """The job, if it is done; raises `CS-JOB-002`."""
    if job.status != "done":
        raise CosyError(errors.JOB_UNFINISHED, status=job.status, retry_after=_RETRY_SECONDS)
    return job


def _jobs(request: Request) -> Jobs:
    jobs: Jobs = request.app.state.jobs
    return jobs


async def _found(request: Request, job_id: str) -> Job:
    return await run_sync(_jobs(request).find, job_id, caller_of(request))


def _expect_length(body: JobBody, most: int) -> None:
    if len(body.input) > most:
        raise CosyError(errors.JOB_TOO_LONG, param="input", length=len(body.input), limit=most)


def _made(service: Service, body: JobBody, owner: str | None, key: str) -> tuple[Job, str]:
    """A job and its text, checked. Blocks."""
    kind = body.input_format or "text"
    most = service.settings.max_job_chars
    text = checked(body.input, service.settings.max_text_chars if kind == "ssml" else most)
    if kind == "ssml":
        parsed(text)
    manner = Manner(
        voice=service.voice(body.voice_name).id,
        input_format=kind,
        instructions=body.instructions,
        response_format=body.response_format or "mp3",
        speed=body.speed,
        seed=body.seed,
        normalize=body.normalize,
        title=body.title.strip(),
    )
    job = Job(id=new_id(), owner=owner, key=key, created=time.time(), characters=len(text), passages=0, manner=manner)
    passages = passages_of(Jobs(service.settings).files(job.id), manner)
    return job.model_copy(update={"passages": len(passages.missing(book_of(text, manner).passages))}), text


async def _shown(request: Request, job: Job) -> JobEntry:
    jobs, keep = _jobs(request), service_of(request).settings.job_hours * 3600
    done = job.passages if job.status == "done" else await run_sync(lambda: jobs.files(job.id).kept)
    return JobEntry(
        id=job.id,
        status=job.status,
        progress=round(min(1.0, done / job.passages), 4) if job.passages else float(job.status == "done"),
        passages=job.passages,
        passages_done=done,
        characters=job.characters,
        title=job.manner.title,
        voice=job.manner.voice,
        response_format=job.manner.response_format,
        created_at=int(job.created),
        finished_at=None if job.finished is None else int(job.finished),
        expires_at=None if job.finished is None else int(job.finished + keep),
        seconds=job.seconds if job.status == "done" else None,
        error=job.error,
    )
