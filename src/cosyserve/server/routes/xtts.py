"""What clients of xtts-api-server (SillyTavern, KoboldCpp and others) ask for, and SillyTavern's other provider."""

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, Field

from cosyserve.server.bodies import BoundedRoute
from cosyserve.server.failures import RESPONSES
from cosyserve.server.fields import Body, InputFormat, ShortText
from cosyserve.server.responses import SpeechResponse, WholeSpeechResponse
from cosyserve.server.routes.spoken import spoken
from cosyserve.server.service import service_of
from cosyserve.speech.encoders import FORMATS
from cosyserve.speech.synthesizer import Options

router = APIRouter(route_class=BoundedRoute, responses=RESPONSES)


class Speaker(BaseModel):
    name: str
    voice_id: str
    preview_url: str = ""


class TtsBody(Body):
    """The voices know their languages, so `language` is not needed."""

    text: str
    speaker_wav: ShortText = ""
    language: ShortText = ""
    normalize: bool = True
    input_format: InputFormat = "text"

    @property
    def ssml(self) -> bool:
        return self.input_format == "ssml"


class TtsQuery(TtsBody):
    """The same as part of an address, which is all that `<audio src>` can give."""

    text: str = ""
    normalize: Annotated[bool, Field(strict=False)] = True  # an address has no other yes and no than in words


class TavernBody(Body):
    """What SillyTavern's provider for CosyVoice sends."""

    text: str
    speaker: ShortText = ""
    streaming: Annotated[bool, Field(strict=False)] = False


class Told(BaseModel):
    message: str


@router.get("/speakers")
async def speakers(request: Request) -> list[Speaker]:
    """The voices that `speaker_wav` names."""
    return [Speaker(name=name, voice_id=name) for name in service_of(request).synthesizer.voices]


@router.get("/speakers_list")
async def speakers_list(request: Request) -> list[str]:
    """Their names alone."""
    return list(service_of(request).synthesizer.voices)


@router.post("/set_tts_settings")
async def set_tts_settings(settings: dict[str, Any]) -> Told:
    """Takes the settings of an XTTS model, which this server has not got, and changes nothing."""
    return Told(message="Accepted, but nothing has changed: CosyServe needs none of these settings.")


@router.post("/", **spoken("wav"))
async def tts_of_tavern(request: Request, body: TavernBody) -> SpeechResponse:
    """A WAV for SillyTavern's provider for CosyVoice, whose voices come from `/speakers`."""
    service = service_of(request)
    if body.streaming:
        return SpeechResponse(request, service.speech(body.text, body.speaker), FORMATS["wav"])
    speech = service.speech(body.text, body.speaker, options=Options(whole=True))
    return WholeSpeechResponse(request, speech, FORMATS["wav"])


@router.get("/tts_stream", **spoken("wav"))
async def tts_stream(request: Request, query: Annotated[TtsQuery, Query()]) -> SpeechResponse:
    """A WAV that is sent while it is made."""
    speech = service_of(request).speech(query.text, query.speaker_wav, normalize=query.normalize, ssml=query.ssml)
    return SpeechResponse(request, speech, FORMATS["wav"])


@router.post("/tts_to_audio", **spoken("wav"))
async def tts_to_audio(
    request: Request, query: Annotated[TtsQuery, Query()], body: TtsBody | None = None
) -> WholeSpeechResponse:
    """A WAV as a whole, with its length."""
    asked = body or query
    options = Options(whole=True)
    speech = service_of(request).speech(
        asked.text, asked.speaker_wav, options=options, normalize=asked.normalize, ssml=asked.ssml
    )
    return WholeSpeechResponse(request, speech, FORMATS["wav"])


@router.get("/tts_to_audio", **spoken("wav"))
async def tts_to_audio_by_address(request: Request, query: Annotated[TtsQuery, Query()]) -> WholeSpeechResponse:
    """The same for a page."""
    return await tts_to_audio(request, query)
