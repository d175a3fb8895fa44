"""For operators and orchestrators: is it alive, can it speak, how busy is it."""

from typing import Any, Literal

from fastapi import APIRouter, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from pydantic import BaseModel

from cosyserve import __version__
from cosyserve.keys import MAIN
from cosyserve.server.failures import RESPONSES
from cosyserve.server.fleet import Load
from cosyserve.server.service import ServerState, key_of, service_of
from cosyserve.speech.capacity import Capacity
from cosyserve.speech.kernel_choice import KernelsInUse
from cosyserve.speech.label import LabelKind

router = APIRouter()


class Alive(BaseModel):
    status: Literal["alive"] = "alive"


class Status(BaseModel):
    """What clients without a key may know."""

    status: ServerState
    needs_key: bool


class Readiness(Status):
    """What serves here, and why it was chosen."""

    version: str
    release: str
    start: str
    synthesizer: str
    model: str
    voice: str
    label: LabelKind
    capabilities: list[str]
    longest_text: int
    device: str
    rung: str
    why: str
    why_zh: str
    kernels: KernelsInUse | None
    preparing: str
    restarts: int
    restart_reason: str
    restart_reason_zh: str
    active_streams: int
    max_streams: int
    capacity: Capacity
    waiting: int
    seconds_to_shutdown: float | None
    replicas: int
    replicas_ready: int


@router.get("/livez")
async def livez() -> Alive:
    """The process and its event loop are alive."""
    return Alive()


_NOT_READY: dict[int | str, dict[str, Any]] = {503: {"model": Readiness | Status, "description": "Not ready to speak"}}


@router.get("/readyz", responses=_NOT_READY)
@router.get("/health", responses=_NOT_READY)
async def readyz(request: Request, response: Response) -> Readiness | Status:
    """200 once a warm-up synthesis has succeeded, 503 before that and while shutting down. While asleep, too, it is
    200: the server takes requests, and the first one wakes it.

    Where keys are needed, a request without one is told the status alone.
    """
    service = service_of(request)
    status = service.condition
    response.status_code = 200 if status in (ServerState.READY, ServerState.ASLEEP) else 503
    if not request.state.known:
        return Status(status=status, needs_key=request.state.needs_key)
    admission = service.admission
    load = await service.fleet.load(Load(admission.active, admission.waiting, service.capacity.streams))
    return Readiness(
        status=status,
        needs_key=request.state.needs_key,
        version=__version__,
        release=service.release,
        start=service.start,
        synthesizer=service.synthesizer.name,
        model=service.synthesizer.model,
        voice=service.default_voice.id,
        label=service.settings.label,
        capabilities=sorted(each.value for each in service.synthesizer.capabilities),
        longest_text=service.settings.max_text_chars,
        device=service.synthesizer.device,
        rung=service.rung,
        why=service.choice.why,
        why_zh=service.choice.why_zh,
        kernels=service.synthesizer.kernels,
        preparing=service.synthesizer.preparing,
        restarts=service.restarts,
        restart_reason=service.restart_reason,
        restart_reason_zh=service.restart_reason_zh,
        active_streams=load.active,
        max_streams=load.streams,
        capacity=service.capacity,
        waiting=load.waiting,
        seconds_to_shutdown=service.idleness.seconds_left,
        replicas=service.fleet.wanted,
        replicas_ready=service.fleet.ready if service.state is not ServerState.STARTING else 0,
    )


@router.delete("/v1/idle-shutdown", status_code=204, responses={401: RESPONSES[401]})
async def keep_on(request: Request) -> None:
    """Do not switch this machine off for lack of requests, until the next start."""
    service_of(request).idleness.cancel()


@router.get(
    "/metrics",
    response_class=Response,
    responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}, 401: RESPONSES[401]},
)
async def metrics(request: Request) -> Response:
    """Prometheus text format. What each key has used is for the main keys only."""
    fleet, metrics = service_of(request).fleet, service_of(request).metrics
    text = await fleet.metrics(generate_latest(metrics.registry))
    if key_of(request) is MAIN:
        text += await fleet.metrics_by_key(generate_latest(metrics.registry_by_key))
    return Response(text, media_type=CONTENT_TYPE_LATEST)
