"""OpenAI's speech API, as its own clients speak it."""

from typing import Annotated, Any, Literal

from anyio.to_thread import run_sync
from fastapi import APIRouter, File, Form, Path, Request, Response, UploadFile
from pydantic import BaseModel, Discriminator, Field, Tag

from cosyserve import errors
from cosyserve.errors import CosyError
from cosyserve.server.bodies import BoundedRoute, counted
from cosyserve.server.failures import RESPONSES
from cosyserve.server.fields import AnyCase, Body, InputFormat, ShortText, one_of
from cosyserve.server.responses import ServerSentEvents, SpeechResponse, WholeSpeechResponse
from cosyserve.server.service import PRODUCT_MODEL, key_of, service_of
from cosyserve.speech.captions import CAPTION_FORMATS, caption_format
from cosyserve.speech.encoders import FORMATS
from cosyserve.speech.synthesizer import Options
from cosyserve.speech.timestretch import FASTEST, SLOWEST
from cosyserve.speech.voices import Library, Voice

router = APIRouter(route_class=BoundedRoute, responses=RESPONSES)

Speed = Annotated[float, Field(ge=SLOWEST, le=FASTEST, allow_inf_nan=False)]
Seed = Annotated[int, Field(ge=0, lt=2**63)]
# "" is what a client with an empty input field sends: it means the default, as null does.
FormatName = Annotated[Literal["mp3", "opus", "aac", "flac", "wav", "pcm", ""], AnyCase]
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


class VoiceReference(Body):
    id: ShortText


VoiceName = Annotated[
    Annotated[ShortText, Tag("name")] | Annotated[VoiceReference, Tag("reference")],
    Discriminator(lambda value: "reference" if isinstance(value, dict | VoiceReference) else "name"),
]


class SpokenBody(Body):
    """How a text is to be spoken."""

    model: ShortText = Field(PRODUCT_MODEL, description="A name from GET /v1/models, or one of OpenAI's.")
    voice: VoiceName = Field("", description="A name from GET /v1/audio/voices.")
    instructions: ShortText = Field(
        "", description="How to speak, in words, if the synthesizer can follow instructions."
    )
    speed: Speed = 1.0
    seed: Seed | None = Field(None, description="The same seed gives the same speech.")
    normalize: bool = Field(
        True, description="Whether to write out numbers and signs, or to pass the text on unchanged."
    )

    @property
    def voice_name(self) -> str:
        return self.voice if isinstance(self.voice, str) else self.voice.id


class SpeechBody(SpokenBody):
    """What `client.audio.speech.create` sends. Fields beyond these are ignored."""

    input: str = Field(description="The text to speak.")
    input_format: InputFormat = Field("text", description="`ssml` if the text is written in SSML (docs/text.md).")
    response_format: FormatName = "mp3"
    stream_format: Annotated[Literal["audio", "sse", ""], AnyCase] = "audio"
    stream: bool = Field(
        True,
        description="Whether audio is sent while it is made. If false, the text is spoken as a whole, WAV and FLAC "
        "state their true length, and only events are sent one by one.",
    )
    captions: ShortText = Field(
        "",
        description="`srt`, `vtt` or `json`: keeps captions, which GET /v1/audio/captions/ID gives. The header "
        "`X-Captions-Id` has the ID (docs/captions.md).",
        json_schema_extra={"enum": [*CAPTION_FORMATS, ""]},
    )


class Model(BaseModel):
    id: str
    object: Literal["model"] = "model"
    created: int = 0
    owned_by: str = "cosyserve"


class Models(BaseModel):
    object: Literal["list"] = "list"
    data: list[Model]


class NamedModel(BaseModel):
    id: str
    name: str


class SpeechModels(Models):
    """`models` is what Open WebUI reads, `data` OpenAI's shape."""

    models: list[NamedModel]


class VoiceEntry(BaseModel):
    id: str
    name: str
    name_zh: str
    languages: list[str]
    deletable: bool
    has_transcript: bool


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
    events = body.stream_format == "sse"  # which are sent one by one, also of a text that is spoken as a whole
    options = Options(body.instructions, seed=body.seed, whole=not body.stream)
    ssml = body.input_format == "ssml"
    speech = service.speech(body.input, body.voice_name, body.speed, options, normalize=body.normalize, ssml=ssml)
    fmt = FORMATS[body.response_format or "mp3"]
    captions = caption_format(body.captions) if body.captions else None
    if options.whole and not events:
        return WholeSpeechResponse(request, speech, fmt, captions=captions)
    return SpeechResponse(request, speech, fmt, ServerSentEvents(len(body.input)) if events else None, captions)


@router.get("/v1/models")
async def list_models(request: Request) -> Models:
    """The models this server speaks with."""
    return Models(data=[Model(id=name) for name in service_of(request).models()])


@router.get("/v1/models/{model:path}")
async def get_model(request: Request, model: Annotated[ShortText, Path()]) -> Model:
    """Whether this server takes a name, which may be one of OpenAI's, as `model`."""
    service_of(request).require_model(model)
    return Model(id=model)


@router.get("/v1/audio/models")
async def list_speech_models(request: Request) -> SpeechModels:
    """The same models, as Open WebUI asks for them."""
    names = service_of(request).models()
    return SpeechModels(data=[Model(id=name) for name in names], models=[NamedModel(id=n, name=n) for n in names])


@router.get("/v1/audio/voices")
async def list_voices(request: Request) -> Voices:
    """The voices this server speaks in; the first is the default unless a setting names another."""
    synthesizer = service_of(request).synthesizer
    return Voices(voices=[_entry(voice, synthesizer.library) for voice in synthesizer.voices.values()])


@router.post("/v1/audio/voices", status_code=201)
@counted
async def add_voice(
    request: Request,
    response: Response,
    name: Annotated[ShortText, Form()],
    audio: Annotated[UploadFile | None, File(description="The recording.")] = None,
    audio_sample: Annotated[UploadFile | None, File(description="Another name for `audio`.")] = None,
    consent: Annotated[ShortText, Form(description="Who agreed to the use of this voice, and when.")] = "",
    transcript: Annotated[
        ShortText, Form(description="Exact words of the recording. Without them the voice sounds less like it.")
    ] = "",
    ref_text: Annotated[ShortText, Form(description="Another name for `transcript`.")] = "",
) -> VoiceEntry:
    """Add a voice from 1 to 30 seconds of recording, in any common format."""
    service = service_of(request)
    library = service.library()
    words = one_of(transcript=transcript, ref_text=ref_text) or ""
    recording = one_of(audio=audio, audio_sample=audio_sample)
    if recording is None:
        raise CosyError(errors.REQUEST_INVALID, param="audio", details="audio: Field required")
    key = key_of(request)
    with service.quotas.take(key, 0):
        async with service.uploads.place(key.rank):
            entry = await run_sync(library.add, name, words, consent, await recording.read())
    response.headers.update(service.quotas.headers(key))
    return _entry(entry.voice, library)


@router.delete("/v1/audio/voices/{name}")
async def delete_voice(request: Request, name: Annotated[ShortText, Path()]) -> Deleted:
    """Delete a voice that was added, its recording included."""
    await run_sync(service_of(request).library().remove, name)
    return Deleted(id=name)


def _entry(voice: Voice, library: Library | None) -> VoiceEntry:
    kept = library.entries.get(voice.id) if library else None
    return VoiceEntry(
        id=voice.id,
        name=voice.name,
        name_zh=voice.name_zh,
        languages=list(voice.languages),
        deletable=bool(library and kept and library.owns(kept)),
        has_transcript=bool(kept and kept.transcript),
    )
