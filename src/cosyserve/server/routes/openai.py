"""OpenAI's speech API, as its own clients speak it."""

from typing import Annotated, Any, Literal

from anyio.to_thread import run_sync
from fastapi import APIRouter, File, Form, Request, Response, UploadFile
from pydantic import BaseModel, ConfigDict, Field

from cosyserve.server.bodies import BoundedRoute
from cosyserve.server.delivery import ServerSentEvents, SpeechResponse
from cosyserve.server.failures import RESPONSES
from cosyserve.server.service import PRODUCT_MODEL, service_of
from cosyserve.speech.encoders import FORMATS
from cosyserve.speech.synthesizer import Options
from cosyserve.speech.timestretch import FASTEST, SLOWEST
from cosyserve.speech.voices import Voice

router = APIRouter(route_class=BoundedRoute, responses=RESPONSES)

Speed = Annotated[float, Field(ge=SLOWEST, le=FASTEST, allow_inf_nan=False)]
Seed = Annotated[int, Field(ge=0, lt=2**63)]
FormatName = Literal["mp3", "opus", "aac", "flac", "wav", "pcm"]
_EVENT = {"type": "object", "required": ["data"], "properties": {"data": {"type": "string"}}}
_AUDIO: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The audio, sent while it is made",
        "content": {
            **{each.media_type: {"schema": {"type": "string", "format": "binary"}} for each in FORMATS.values()},
            "text/event-stream": {"schema": _EVENT},
        },
    }
}


class VoiceReference(BaseModel):
    id: str


class SpeechBody(BaseModel):
    """What `client.audio.speech.create` sends. Fields beyond these are ignored."""

    model_config = ConfigDict(strict=True)

    input: str = Field(description="The text to speak.")
    model: str = Field(PRODUCT_MODEL, description="A name from GET /v1/models, or one of OpenAI's.")
    voice: str | VoiceReference = Field("", description="A name from GET /v1/audio/voices.")
    instructions: str = Field("", description="How to speak, where the synthesizer can follow that.")
    response_format: FormatName = "mp3"
    speed: Speed = 1.0
    stream_format: Literal["audio", "sse"] = "audio"
    seed: Seed | None = Field(None, description="The same seed gives the same speech.")


class Model(BaseModel):
    id: str
    object: Literal["model"] = "model"
    created: int = 0
    owned_by: str = "cosyserve"


class Models(BaseModel):
    object: Literal["list"] = "list"
    data: list[Model]


class VoiceEntry(BaseModel):
    id: str
    name: str
    name_zh: str
    languages: list[str]


class Voices(BaseModel):
    voices: list[VoiceEntry]


class Deleted(BaseModel):
    id: str
    deleted: Literal[True] = True


@router.post("/v1/audio/speech", tags=["speech"], response_class=Response, responses=_AUDIO)
async def create_speech(request: Request, body: SpeechBody) -> SpeechResponse:
    """Speak a text."""
    service = service_of(request)
    service.require_model(body.model)
    voice = body.voice if isinstance(body.voice, str) else body.voice.id
    utterance = service.utterance(body.input, voice, body.speed, Options(body.instructions, seed=body.seed))
    framing = ServerSentEvents(len(body.input)) if body.stream_format == "sse" else None
    return SpeechResponse(request, utterance, FORMATS[body.response_format], framing)


@router.get("/v1/models")
async def list_models(request: Request) -> Models:
    """The models this server speaks with."""
    return Models(data=[Model(id=name) for name in service_of(request).models()])


@router.get("/v1/audio/voices")
async def list_voices(request: Request) -> Voices:
    """The voices this server speaks in; the first is the default unless a setting names another."""
    return Voices(voices=[_entry(voice) for voice in service_of(request).synthesizer.voices.values()])


@router.post("/v1/audio/voices", status_code=201)
async def add_voice(
    request: Request,
    name: str = Form(),
    audio: UploadFile = File(),
    consent: str = Form("", description="Who agreed to the use of this voice, and when."),
    transcript: str = Form("", description="The words of the recording. Without them the voice is less alike."),
) -> VoiceEntry:
    """Add a voice from 1 to 30 seconds of recording, in any common format."""
    library = service_of(request).library()
    entry = await run_sync(library.add, name, transcript, consent, await audio.read())
    return _entry(entry.voice)


@router.delete("/v1/audio/voices/{name}")
async def delete_voice(request: Request, name: str) -> Deleted:
    """Delete a voice that was added, its recording included."""
    await run_sync(service_of(request).library().remove, name)
    return Deleted(id=name)


def _entry(voice: Voice) -> VoiceEntry:
    return VoiceEntry(id=voice.id, name=voice.name, name_zh=voice.name_zh, languages=list(voice.languages))
