"""The original FastCosyVoice server's API, so that its clients move over unchanged. Its page at `/` is ours now."""

from typing import Annotated

from fastapi import APIRouter, Request
from pydantic import BaseModel

from cosyserve.server.bodies import BoundedRoute
from cosyserve.server.failures import RESPONSES
from cosyserve.server.fields import Normalize, Ssml, form_or_query
from cosyserve.server.responses import SpeechResponse
from cosyserve.server.routes.spoken import get_and_post
from cosyserve.server.service import service_of
from cosyserve.speech.encoders import FORMATS

router = APIRouter(route_class=BoundedRoute, responses=RESPONSES)


class Speakers(BaseModel):
    speakers: list[str]


@router.get("/api/speakers")
async def speaker_names(request: Request) -> Speakers:
    """The names that `/tts` takes as `speaker`."""
    return Speakers(speakers=list(service_of(request).synthesizer.voices))


@get_and_post(router, "/tts", "pcm")
async def tts(
    request: Request,
    text: Annotated[str, form_or_query("text", required=True, spoken=True)],
    speaker: Annotated[str, form_or_query("speaker")],
    normalize: Normalize,
    ssml: Ssml,
) -> SpeechResponse:
    """Raw signed 16-bit little-endian samples, mono, 24 kHz."""
    speech = service_of(request).speech(text, speaker, normalize=normalize, ssml=ssml)
    return SpeechResponse(request, speech, FORMATS["pcm"])
