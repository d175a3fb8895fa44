"""Clients of the original FastCosyVoice server, of XTTS servers and of CosyVoice's own server move over as they are."""

import io
from pathlib import Path
from typing import Any

import httpx
import pytest
import soundfile

from cosyserve.speech.audio import SAMPLE_RATE
from cosyserve.speech.output import SILENCE_SECONDS
from cosyserve.speech.voices import Library
from tests.conftest import Serving
from tests.running import GREETING
from tests.signals import from_s16le, from_wav, is_speech
from tests.speech.recordings import speech
from tests.standins import CHUNK_SECONDS, CapableSynthesizer

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
    assert len(response.content) == int(response.headers["content-length"])
    assert soundfile.info(io.BytesIO(response.content)).frames == from_wav(response.content).size


def test_sillytaverns_xtts_provider(client: httpx.Client) -> None:
    """What it asks for in order: voices, settings, then a stream by its address."""
    voice = client.get("/speakers").json()[-1]["voice_id"]
    assert voice in client.get("/speakers_list").json()
    settings = {"temperature": 0.75, "speed": 1, "length_penalty": 1.0, "top_k": 50, "enable_text_splitting": True}
    assert client.post("/set_tts_settings", json=settings).json()["message"]
    asked = {"text": GREETING, "speaker_wav": voice, "language": "en"}
    with client.stream("GET", "/tts_stream", params=asked) as response:
        assert response.headers["content-type"] == "audio/wav"
        assert response.headers["transfer-encoding"] == "chunked"
        assert is_speech(from_wav(response.read()))


@pytest.mark.parametrize("streaming", [{}, {"streaming": 1}])
def test_sillytaverns_cosyvoice_provider(client: httpx.Client, streaming: dict[str, int]) -> None:
    """It sends everything to the address itself, where the page is for everybody else."""
    voice = client.get("/speakers").json()[-1]
    response = client.post("/", json={"text": GREETING, "speaker": voice["voice_id"], **streaming})
    assert is_speech(from_wav(response.content))
    assert ("content-length" in response.headers) is not bool(streaming)
    assert "<html" in client.get("/").text
    assert client.delete("/").headers["allow"] == "GET, POST"
    refused = client.post("/", json={"text": "Hi", "speaker": "nobody"})
    assert (refused.status_code, refused.json()["error"]["code"]) == (400, "CS-VOICE-001")


def test_sillytaverns_openai_provider(client: httpx.Client) -> None:
    """It sends any voice from a list that the user types, a speed from a slider, and fields that the user invents."""
    body = {"model": "tts-1", "input": GREETING, "voice": "english", "response_format": "mp3", "speed": 0.85}
    response = client.post("/v1/audio/speech", json={**body, "exaggeration": "0.5"})
    assert response.headers["content-type"] == "audio/mpeg"
    assert len(response.content) > 1000


def test_koboldcpp(client: httpx.Client) -> None:
    """Its page asks either for the voices of XTTS and a whole WAV, or OpenAI's way without saying a format."""
    voice = client.get("/speakers_list").json()[0]
    asked = {"text": GREETING, "speaker_wav": voice, "language": "EN"}
    assert is_speech(from_wav(client.post("/tts_to_audio/", json=asked).content))
    asked = {"model": "tts-1", "input": GREETING, "voice": "alloy"}
    assert client.post("/v1/audio/speech", json=asked).headers["content-type"] == "audio/mpeg"


def test_open_webui(client: httpx.Client) -> None:
    """It offers what these two list, and sends what is chosen."""
    model = client.get("/v1/audio/models").json()["models"][0]
    assert model["name"]
    voice = client.get("/v1/audio/voices").json()["voices"][0]
    body = {"model": model["id"], "input": GREETING, "voice": voice["id"], "response_format": "mp3"}
    assert client.post("/v1/audio/speech", json=body).content


def test_home_assistants_openai_tts(client: httpx.Client) -> None:
    """It asks for the voices beside its address, checks its key with a full stop, and speaks with every option it
    knows."""
    voices = client.get("/v1/audio/voices", params={"limit": 100}).json()["voices"]
    assert all(voice["id"] and voice["name"] for voice in voices)
    check = {"model": "tts-1", "input": ".", "voice": "alloy", "speed": 1.0}
    assert client.post("/v1/audio/speech", json=check).status_code == 200
    body = {"model": "gpt-4o-mini-tts", "input": GREETING, "voice": "shimmer", "response_format": "wav", "speed": 1.0}
    response = client.post("/v1/audio/speech", json={**body, "instructions": None, "stream": True})
    assert is_speech(from_wav(response.content))


ADDRESSES = {
    "/tts": ("text", "speaker"),
    "/inference_sft": ("tts_text", "spk_id"),
    "/tts_to_audio": ("text", "speaker_wav"),
    "/tts_stream": ("text", "speaker_wav"),
}


@pytest.mark.parametrize("path", ADDRESSES)
def test_an_address_alone_speaks(client: httpx.Client, path: str) -> None:
    """`<audio src>` can give nothing else."""
    text, voice = ADDRESSES[path]
    samples = from_s16le if path in ("/tts", "/inference_sft") else from_wav
    assert is_speech(samples(client.get(path, params={text: GREETING, voice: "english"}).content))
    if path != "/tts_stream":
        assert is_speech(samples(client.post(path, params={text: GREETING}).content))
    for params in ({text: ""}, {voice: "english"}, {text: "hi", voice: "nobody"}, {text: "hi", voice: "a" * 1001}, {}):
        refused = client.get(path, params=params)
        assert (refused.status_code, refused.json()["error"]["code"][:3]) == (400, "CS-")


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_form_goes_before_the_query(serving: Serving, method: str) -> None:
    capable = CapableSynthesizer()
    with serving(capable) as url, httpx.Client(base_url=url) as client:
        form, query = {"tts_text": "ab"}, {"tts_text": "abcdef", "instruct_text": "sadly", "prompt_text": "Hello"}
        response = client.request(method, "/inference_instruct", data=form, params=query)
        assert from_s16le(response.content).size / SAMPLE_RATE == pytest.approx(2 * CHUNK_SECONDS)
        assert capable.asked[-1].instructions == "sadly"
        client.request(method, "/inference_zero_shot", params=query, files=RECORDING).raise_for_status()
        assert capable.asked[-1].reference is not None
        assert capable.asked[-1].reference.transcript == "Hello"


@pytest.mark.parametrize(
    ("path", "asked"),
    [
        ("/tts", {"data": {"text": "."}}),
        ("/tts_to_audio", {"json": {"text": "✅"}}),
        ("/tts_stream", {"params": {"text": "---"}}),
        ("/inference_sft", {"data": {"tts_text": "😊"}}),
    ],
)
def test_text_without_sound_is_a_short_silence(client: httpx.Client, path: str, asked: dict[str, Any]) -> None:
    response = client.request("GET" if path == "/tts_stream" else "POST", path, **asked)
    assert response.status_code == 200
    samples = from_s16le if path in ("/tts", "/inference_sft") else from_wav
    assert samples(response.content).size / SAMPLE_RATE == pytest.approx(SILENCE_SECONDS)


def test_null_means_that_a_field_is_not_there(client: httpx.Client) -> None:
    body = {"text": GREETING, "speaker_wav": None, "language": None}
    assert is_speech(from_wav(client.post("/tts_to_audio", json=body).content))


@pytest.mark.parametrize(("audio", "words"), [("audio", "transcript"), ("audio_sample", "ref_text")])
def test_a_voice_is_added_under_either_name_of_its_fields(
    serving: Serving, tmp_path: Path, audio: str, words: str
) -> None:
    synthesizer, library = CapableSynthesizer(), Library(tmp_path)
    synthesizer.library = library  # type: ignore[assignment]
    with serving(synthesizer) as url:
        form = {"name": "anna", "consent": "a machine spoke it", words: "Hello."}
        added = httpx.post(f"{url}/v1/audio/voices", data=form, files={audio: speech()})
    assert added.status_code == 201, added.text
    assert library.entries["anna"].transcript == "Hello."


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("voice", ["mandarin", "中文女"])
def test_cosyvoice_sft_takes_a_form_with_either_method(client: httpx.Client, method: str, voice: str) -> None:
    """`中文女` is what its client asks for unless it is told otherwise."""
    response = client.request(method, "/inference_sft", data={"tts_text": GREETING, "spk_id": voice})
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
    prompts = [
        (options.reference.recording, options.reference.transcript) for options in capable.asked if options.reference
    ]
    assert prompts == [(b"RIFF", "Hello"), (b"RIFF", ""), (b"RIFF", "")]
    assert [options.instructions for options in capable.asked if options.instructions] == ["sadly", "sadly", "gladly"]


def test_instructions_to_the_preview_are_refused(client: httpx.Client) -> None:
    response = client.post("/v1/audio/speech", json={"input": "Hi", "instructions": "whisper"})
    assert response.json()["error"]["code"] == "CS-CAP-002"
