"""The original FastCosyVoice server's API, so that its clients move over unchanged.

Its page at `/` is ours now. `/tts_to_audio` is the shape that XTTS clients (SillyTavern and others) speak.
"""

from typing import Any

from fastapi import APIRouter, Form, Request, Response
from pydantic import BaseModel, ConfigDict

from cosyserve.server.bodies import BoundedRoute
from cosyserve.server.delivery import SpeechResponse
from cosyserve.server.failures import RESPONSES
from cosyserve.server.service import service_of
from cosyserve.speech.encoders import FORMATS

router = APIRouter(route_class=BoundedRoute, responses=RESPONSES)


def audio_response(name: str) -> dict[int | str, dict[str, Any]]:
    content = {FORMATS[name].media_type: {"schema": {"type": "string", "format": "binary"}}}
    return {200: {"description": "The audio, sent while it is made", "content": content}}


class Speakers(BaseModel):
    speakers: list[str]


class Speaker(BaseModel):
    name: str
    voice_id: str
    preview_url: str = ""


class TtsToAudioBody(BaseModel):
    model_config = ConfigDict(strict=True)

    text: str
    speaker_wav: str = ""
    language: str = ""


@router.get("/api/speakers")
async def speaker_names(request: Request) -> Speakers:
    """The names that `/tts` takes as `speaker`."""
    return Speakers(speakers=list(service_of(request).synthesizer.voices))


@router.get("/speakers")
async def speakers(request: Request) -> list[Speaker]:
    """The same as a list of objects, as XTTS clients read it."""
    return [Speaker(name=name, voice_id=name) for name in service_of(request).synthesizer.voices]


@router.post("/tts", tags=["speech"], response_class=Response, responses=audio_response("pcm"))
async def tts(request: Request, text: str = Form(), speaker: str = Form("")) -> SpeechResponse:
    """Raw signed 16-bit little-endian samples, mono, 24 kHz."""
    return SpeechResponse(request, service_of(request).utterance(text, speaker), FORMATS["pcm"])


@router.post("/tts_to_audio", tags=["speech"], response_class=Response, responses=audio_response("wav"))
@router.post("/tts_to_audio/", include_in_schema=False, tags=["speech"], response_class=Response)
async def tts_to_audio(request: Request, body: TtsToAudioBody) -> SpeechResponse:
    """A WAV stream. The voices know their languages, so `language` is not needed."""
    return SpeechResponse(request, service_of(request).utterance(body.text, body.speaker_wav), FORMATS["wav"])
