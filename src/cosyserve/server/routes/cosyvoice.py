"""The five endpoints of CosyVoice's own FastAPI server, with its form fields: raw s16le, mono, 24 kHz.

Its client sends forms with GET, so every one takes GET and POST.
"""

from collections.abc import Callable
from typing import Any

from fastapi import APIRouter, File, Form, Request, Response, UploadFile

from cosyserve.server.bodies import BoundedRoute
from cosyserve.server.delivery import SpeechResponse
from cosyserve.server.failures import RESPONSES
from cosyserve.server.routes.classic import audio_response
from cosyserve.server.service import service_of
from cosyserve.speech.encoders import FORMATS
from cosyserve.speech.synthesizer import Options, Prompt

router = APIRouter(route_class=BoundedRoute, responses=RESPONSES, tags=["speech"])

Endpoint = Callable[..., Any]


def inference(path: str) -> Callable[[Endpoint], Endpoint]:
    """Register a function for GET and for POST: two routes, so that each has an operation id of its own."""

    def register(endpoint: Endpoint) -> Endpoint:
        for method in ("GET", "POST"):
            router.add_api_route(
                path, endpoint, methods=[method], response_class=Response, responses=audio_response("pcm")
            )
        return endpoint

    return register


@inference("/inference_sft")
async def inference_sft(request: Request, tts_text: str = Form(), spk_id: str = Form("")) -> SpeechResponse:
    """Speak in one of the server's own voices."""
    return _spoken(request, tts_text, spk_id)


@inference("/inference_zero_shot")
async def inference_zero_shot(
    request: Request, tts_text: str = Form(), prompt_text: str = Form(), prompt_wav: UploadFile = File()
) -> SpeechResponse:
    """Speak in the voice of a recording whose words are known."""
    return _spoken(request, tts_text, options=Options(prompt=Prompt(await prompt_wav.read(), prompt_text)))


@inference("/inference_cross_lingual")
async def inference_cross_lingual(
    request: Request, tts_text: str = Form(), prompt_wav: UploadFile = File()
) -> SpeechResponse:
    """Speak in the voice of a recording in another language."""
    return _spoken(request, tts_text, options=Options(prompt=Prompt(await prompt_wav.read())))


@inference("/inference_instruct")
async def inference_instruct(
    request: Request, tts_text: str = Form(), spk_id: str = Form(""), instruct_text: str = Form()
) -> SpeechResponse:
    """Speak in one of the server's voices, in the manner described."""
    return _spoken(request, tts_text, spk_id, Options(instructions=instruct_text))


@inference("/inference_instruct2")
async def inference_instruct2(
    request: Request, tts_text: str = Form(), instruct_text: str = Form(), prompt_wav: UploadFile = File()
) -> SpeechResponse:
    """Speak in the voice of a recording, in the manner described."""
    return _spoken(request, tts_text, options=Options(instruct_text, Prompt(await prompt_wav.read())))


def _spoken(request: Request, text: str, voice: str = "", options: Options = Options()) -> SpeechResponse:
    return SpeechResponse(request, service_of(request).utterance(text, voice, options=options), FORMATS["pcm"])
