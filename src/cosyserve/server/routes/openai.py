"""OpenAI's speech API, as its own clients speak it."""

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from cosyserve.server.auth import require_key
from cosyserve.server.delivery import ServerSentEvents, SpeechResponse
from cosyserve.server.failures import RESPONSES
from cosyserve.server.service import PRODUCT_MODEL, service_of
from cosyserve.speech.encoders import FORMATS
from cosyserve.speech.synthesizer import Options
from cosyserve.speech.timestretch import FASTEST, SLOWEST

router = APIRouter(dependencies=[Depends(require_key)], responses=RESPONSES)

Speed = Annotated[float, Field(ge=SLOWEST, le=FASTEST, allow_inf_nan=False)]
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


@router.post("/v1/audio/speech", tags=["speech"], response_class=Response, responses=_AUDIO)
async def create_speech(request: Request, body: SpeechBody) -> SpeechResponse:
    """Speak a text."""
    service = service_of(request)
    service.require_model(body.model)
    voice = body.voice if isinstance(body.voice, str) else body.voice.id
    utterance = service.utterance(body.input, voice, body.speed, Options(instructions=body.instructions))
    framing = ServerSentEvents(len(body.input)) if body.stream_format == "sse" else None
    return SpeechResponse(request, utterance, FORMATS[body.response_format], framing)


@router.get("/v1/models")
async def list_models(request: Request) -> Models:
    """The models this server speaks with."""
    return Models(data=[Model(id=name) for name in service_of(request).models()])


@router.get("/v1/audio/voices")
async def list_voices(request: Request) -> Voices:
    """The voices this server speaks in; the first is the default unless a setting names another."""
    voices = service_of(request).synthesizer.voices.values()
    return Voices(
        voices=[
            VoiceEntry(id=voice.id, name=voice.name, name_zh=voice.name_zh, languages=list(voice.languages))
            for voice in voices
        ]
    )
