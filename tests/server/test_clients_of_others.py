"""Clients of the original FastCosyVoice server, of XTTS servers and of CosyVoice's own server move over as they are."""

import httpx
import pytest

from tests.conftest import Serving
from tests.running import GREETING
from tests.signals import from_s16le, from_wav, is_speech
from tests.standins import CapableSynthesizer

RECORDING = {"prompt_wav": ("prompt.wav", b"RIFF", "audio/wav")}


def test_original_server_tts(client: httpx.Client) -> None:
    speakers = client.get("/api/speakers").json()["speakers"]
    for form in ({"text": GREETING}, {"text": GREETING, "speaker": ""}, {"text": GREETING, "speaker": speakers[-1]}):
        with client.stream("POST", "/tts", data=form) as response:
            assert response.headers["transfer-encoding"] == "chunked"
            assert is_speech(from_s16le(response.read()))


@pytest.mark.parametrize("path", ["/tts_to_audio", "/tts_to_audio/"])
def test_xtts_shape(client: httpx.Client, path: str) -> None:
    speaker = client.get("/speakers").json()[0]
    assert speaker["name"] == speaker["voice_id"]
    body = {"text": GREETING, "speaker_wav": speaker["voice_id"], "language": "zh-cn"}
    response = client.post(path, json=body)
    assert is_speech(from_wav(response.content))


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_cosyvoice_sft_takes_a_form_with_either_method(client: httpx.Client, method: str) -> None:
    response = client.request(method, "/inference_sft", data={"tts_text": GREETING, "spk_id": "mandarin"})
    assert is_speech(from_s16le(response.content))


CASES = {
    "/inference_zero_shot": ({"tts_text": "Hi", "prompt_text": "Hello"}, RECORDING, "CS-CAP-001"),
    "/inference_cross_lingual": ({"tts_text": "Hi"}, RECORDING, "CS-CAP-001"),
    "/inference_instruct": ({"tts_text": "Hi", "spk_id": "", "instruct_text": "sadly"}, None, "CS-CAP-002"),
    "/inference_instruct2": ({"tts_text": "Hi", "instruct_text": "sadly"}, RECORDING, "CS-CAP-00"),
}


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("path", CASES)
def test_what_the_preview_cannot_do_is_a_clear_refusal(client: httpx.Client, path: str, method: str) -> None:
    form, files, code = CASES[path]
    response = client.request(method, path, data=form, files=files)
    assert response.status_code == 400
    error = response.json()["error"]
    assert error["code"].startswith(code)
    assert "preview" in error["message"]
    assert "CosyVoice2" in error["remedy"]
    assert error["remedy_zh"]


def test_what_a_synthesizer_can_do_reaches_it_whole(serving: Serving) -> None:
    capable = CapableSynthesizer()
    with serving(capable) as url, httpx.Client(base_url=url) as client:
        for path, (form, files, _) in CASES.items():
            assert client.post(path, data=form, files=files).status_code == 200
        client.post("/v1/audio/speech", json={"input": "Hi", "instructions": "gladly"}).raise_for_status()
    prompts = [(options.prompt.recording, options.prompt.transcript) for options in capable.asked if options.prompt]
    assert prompts == [(b"RIFF", "Hello"), (b"RIFF", ""), (b"RIFF", "")]
    assert [options.instructions for options in capable.asked if options.instructions] == ["sadly", "sadly", "gladly"]


def test_instructions_to_the_preview_are_refused(client: httpx.Client) -> None:
    response = client.post("/v1/audio/speech", json={"input": "Hi", "instructions": "whisper"})
    assert response.json()["error"]["code"] == "CS-CAP-002"
