"""The five endpoints of CosyVoice's own FastAPI server, with its form fields: raw s16le, mono, 24 kHz.

Its client sends forms with GET, so every endpoint takes GET and POST. Everything but a recording may be in the query.
"""

from typing import Annotated

from fastapi import APIRouter, File, Request, UploadFile

from cosyserve.cosyvoice.frontend.marks import LEAD
from cosyserve.server.bodies import BoundedRoute
from cosyserve.server.failures import RESPONSES
from cosyserve.server.fields import Normalize, Ssml, form_or_query
from cosyserve.server.responses import SpeechResponse
from cosyserve.server.routes.spoken import get_and_post
from cosyserve.server.service import service_of
from cosyserve.speech.encoders import FORMATS
from cosyserve.speech.synthesizer import Options, ReferenceAudio

router = APIRouter(route_class=BoundedRoute, responses=RESPONSES)

Text = Annotated[str, form_or_query("tts_text", required=True, spoken=True)]
Speaker = Annotated[str, form_or_query("spk_id")]
Instructions = Annotated[str, form_or_query("instruct_text", required=True)]
Transcript = Annotated[str, form_or_query("prompt_text", required=True)]
Recording = Annotated[UploadFile, File()]


@get_and_post(router, "/inference_sft", "pcm")
async def inference_sft(
    request: Request, tts_text: Text, spk_id: Speaker, normalize: Normalize, ssml: Ssml
) -> SpeechResponse:
    """Speak in one of the server's own voices."""
    return _spoken(request, tts_text, normalize, ssml, spk_id)


@get_and_post(router, "/inference_zero_shot", "pcm")
async def inference_zero_shot(
    request: Request, tts_text: Text, prompt_text: Transcript, prompt_wav: Recording, normalize: Normalize, ssml: Ssml
) -> SpeechResponse:
    """Speak in the voice of a recording whose words are known."""
    return _spoken(
        request,
        tts_text,
        normalize,
        ssml,
        options=Options(reference=ReferenceAudio(await prompt_wav.read(), prompt_text)),
    )


@get_and_post(router, "/inference_cross_lingual", "pcm")
async def inference_cross_lingual(
    request: Request, tts_text: Text, prompt_wav: Recording, normalize: Normalize, ssml: Ssml
) -> SpeechResponse:
    """Speak in the voice of a recording in another language."""
    return _spoken(
        request, tts_text, normalize, ssml, options=Options(reference=ReferenceAudio(await prompt_wav.read()))
    )


@get_and_post(router, "/inference_instruct", "pcm")
async def inference_instruct(
    request: Request, tts_text: Text, spk_id: Speaker, instruct_text: Instructions, normalize: Normalize, ssml: Ssml
) -> SpeechResponse:
    """Speak in one of the server's voices, in the manner described."""
    return _spoken(request, tts_text, normalize, ssml, spk_id, Options(instructions=instruct_text))


@get_and_post(router, "/inference_instruct2", "pcm")
async def inference_instruct2(
    request: Request,
    tts_text: Text,
    instruct_text: Instructions,
    prompt_wav: Recording,
    normalize: Normalize,
    ssml: Ssml,
) -> SpeechResponse:
    """Speak in the voice of a recording, in the manner described."""
    return _spoken(
        request, tts_text, normalize, ssml, options=Options(instruct_text, ReferenceAudio(await prompt_wav.read()))
    )


def _spoken(
    request: Request, text: str, normalize: bool, ssml: bool, voice: str = "", options: Options = Options()
) -> SpeechResponse:
    text = text.removeprefix(LEAD)  # which its clients of CosyVoice3 write, and the server by itself
    speech = service_of(request).speech(text, voice, options=options, normalize=normalize, ssml=ssml)
    return SpeechResponse(request, speech, FORMATS["pcm"])
