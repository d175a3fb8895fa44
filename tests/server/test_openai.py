"""The real `openai` client against the real server; what it receives is opened by decoders of other makers."""

import base64
import io
import json
from collections.abc import Iterator

import httpx
import miniaudio
import numpy as np
import openai
import pytest
import soundfile

from cosyserve.speech.audio import SAMPLE_RATE, Pcm
from cosyserve.speech.encoders import FORMATS
from cosyserve.speech.output import SILENCE_SECONDS
from tests.running import GREETING, Server
from tests.signals import decoded_by_ffmpeg, from_s16le, from_wav, is_speech


@pytest.fixture
def openai_client(server: Server) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="unused", max_retries=0) as client:
        yield client


def received(client: openai.OpenAI, response_format: str) -> list[bytes]:
    with client.audio.speech.with_streaming_response.create(
        model="gpt-4o-mini-tts",
        voice="alloy",
        input=GREETING,
        response_format=response_format,  # type: ignore[arg-type]
    ) as response:
        assert response.headers["content-type"] == FORMATS[response_format].media_type
        return list(response.iter_bytes())


def decoded(data: bytes, name: str) -> Pcm:
    """Samples at the format's own rate, by a decoder that is not the encoder's library where one can be had."""
    if name == "pcm":
        return from_s16le(data)
    if name == "wav":
        return from_wav(data)
    if name in ("mp3", "flac"):  # dr_libs
        return from_s16le(bytes(miniaudio.decode(data, nchannels=1, sample_rate=SAMPLE_RATE).samples))
    if name == "opus":  # libsndfile and libopus
        samples, rate = soundfile.read(io.BytesIO(data), dtype="float32")
        assert rate == FORMATS["opus"].rate
        return np.asarray(samples)
    return decoded_by_ffmpeg(data)  # tests/browser has Chromium decode AAC, and all the others


@pytest.mark.parametrize("name", FORMATS)
def test_streams_a_format_that_decodes_to_the_same_speech(openai_client: openai.OpenAI, name: str) -> None:
    pieces = received(openai_client, name)
    assert len(pieces) > 1
    fmt = FORMATS[name]
    audio = decoded(b"".join(pieces), name)
    expected = decoded(b"".join(received(openai_client, "pcm")), "pcm").size / SAMPLE_RATE
    assert is_speech(audio[:: fmt.rate // SAMPLE_RATE])
    # eSpeak's own length varies by a pitch period from one request to the next.
    extra = (audio.size - fmt.delay) / fmt.rate - expected
    assert -0.02 < extra < fmt.frame / fmt.rate + 0.02


def test_lists_models_and_voices(openai_client: openai.OpenAI, client: httpx.Client) -> None:
    models = [model.id for model in openai_client.models.list()]
    assert "cosyvoice2-0.5b" in models
    voices = client.get("/v1/audio/voices").json()["voices"]
    for model, voice in zip(models, voices, strict=False):
        speech = openai_client.audio.speech.create(
            model=model, voice=voice["id"], input="Hello.", response_format="pcm"
        )
        assert is_speech(decoded(speech.read(), "pcm"))


def test_a_voice_object_names_a_voice(openai_client: openai.OpenAI) -> None:
    speech = openai_client.audio.speech.create(model="tts-1", voice={"id": "english"}, input="Hello.")
    assert speech.read()


def test_server_sent_events_carry_the_same_audio(client: httpx.Client) -> None:
    body = {"model": "tts-1", "voice": "alloy", "input": GREETING, "response_format": "wav", "stream_format": "sse"}
    with client.stream("POST", "/v1/audio/speech", json=body) as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        events = [json.loads(line.removeprefix("data: ")) for line in response.iter_lines() if line]
    assert events[0]["type"] == "speech.audio.segment"
    deltas = [event for event in events if event["type"] == "speech.audio.delta"]
    assert len(deltas) > 1
    data = b"".join(base64.b64decode(event["audio"]) for event in deltas)
    audio = decoded(data, "wav")
    assert is_speech(audio)
    assert events[-1]["type"] == "speech.audio.done"
    usage = events[-1]["usage"]
    assert usage["input_tokens"] == len(GREETING)
    assert usage["output_tokens"] == pytest.approx(25 * audio.size / SAMPLE_RATE, abs=1)
    assert usage["total_tokens"] == usage["input_tokens"] + usage["output_tokens"]


def test_errors_arrive_as_openai_errors(openai_client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        openai_client.audio.speech.create(model="tts-1", voice="nobody", input="Hello.")
    assert refused.value.code == "CS-VOICE-001"
    assert refused.value.param == "voice"
    assert refused.value.type == "invalid_request_error"
    with pytest.raises(openai.NotFoundError) as unknown:
        openai_client.audio.speech.create(model="nothing", voice="alloy", input="Hello.")
    assert unknown.value.code == "CS-REQ-003"


SILENT = [".", "😊", "---", "✅", "。。。", "?!", "( )", "\u200b"]


@pytest.mark.parametrize("text", SILENT)
def test_text_without_sound_is_a_short_silence(openai_client: openai.OpenAI, text: str) -> None:
    speech = openai_client.audio.speech.create(model="tts-1", voice="alloy", input=text, response_format="wav")
    audio = from_wav(speech.read())
    assert audio.size / SAMPLE_RATE == pytest.approx(SILENCE_SECONDS)
    assert not audio.any()


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("more", [{}, {"stream": False}, {"speed": 0.25}, {"speed": 4.0}])
def test_a_short_silence_in_every_format(client: httpx.Client, name: str, more: dict[str, object]) -> None:
    response = client.post("/v1/audio/speech", json={"input": ".", "response_format": name, **more})
    assert response.status_code == 200
    fmt, audio = FORMATS[name], decoded(response.content, name)
    delay = 0 if more.get("stream") is False and name == "mp3" else fmt.delay  # a whole mp3 tells its delay
    assert -0.02 < (audio.size - delay) / fmt.rate - SILENCE_SECONDS < fmt.frame / fmt.rate + 0.02


def test_a_short_silence_as_server_sent_events(client: httpx.Client) -> None:
    body = {"input": "😊", "response_format": "pcm", "stream_format": "sse"}
    lines = [line for line in client.post("/v1/audio/speech", json=body).text.split("\n\n") if line]
    events = [json.loads(line.removeprefix("data: ")) for line in lines]
    assert [event["type"] for event in events] == ["speech.audio.delta", "speech.audio.done"]
    assert len(base64.b64decode(events[0]["audio"])) / 2 / SAMPLE_RATE == pytest.approx(SILENCE_SECONDS)


OPTIONAL = ("model", "voice", "instructions", "response_format", "speed", "stream_format", "stream", "seed")


@pytest.mark.parametrize("names", [OPTIONAL, *((name,) for name in OPTIONAL)], ids=lambda names: "-".join(names))
def test_null_means_that_a_field_is_not_there(client: httpx.Client, names: tuple[str, ...]) -> None:
    response = client.post("/v1/audio/speech", json={"input": "Hi.", **dict.fromkeys(names)})
    assert response.headers["content-type"] == "audio/mpeg"
    assert response.headers["transfer-encoding"] == "chunked"


def test_an_empty_input_field_of_a_client_is_the_default(client: httpx.Client) -> None:
    empty = dict.fromkeys(("model", "voice", "instructions", "response_format", "stream_format"), "")
    assert client.post("/v1/audio/speech", json={"input": "Hi.", **empty}).headers["content-type"] == "audio/mpeg"


@pytest.mark.parametrize(
    "model",
    ["gpt-4o-mini-tts-2025-12-15", "gpt-4o-mini-tts-2025-03-20", "tts-1-1106", "tts-1-hd-1106", "TTS-1-HD", " tts-1 "]
    + ["GPT-4o-mini-tts", "gpt-4o-mini-tts-latest", "CosyVoice2-0.5B"],
)
def test_models_of_openai_go_by_dated_names_and_any_case(openai_client: openai.OpenAI, model: str) -> None:
    assert openai_client.audio.speech.create(model=model, voice="alloy", input=".").read()
    assert openai_client.models.retrieve(model.strip()).id == model.strip()


@pytest.mark.parametrize("model", ["gpt-4o", "tts", "whisper-1", "tts-1-1106-extra", "gpt-4o-mini-tts/../x"])
def test_other_models_are_not_found(openai_client: openai.OpenAI, model: str) -> None:
    for ask in (
        lambda: openai_client.models.retrieve(model),
        lambda: openai_client.audio.speech.create(model=model, voice="alloy", input="."),
    ):
        with pytest.raises(openai.NotFoundError) as unknown:
            ask()
        assert (unknown.value.code, unknown.value.param) == ("CS-REQ-003", "model")


@pytest.mark.parametrize("voice", ["Alloy", "ALLOY", " nova ", "Marin"])
@pytest.mark.parametrize("fmt", ["WAV", "Wav"])
def test_names_are_taken_in_any_case(client: httpx.Client, voice: str, fmt: str) -> None:
    body = {"input": "Hi.", "voice": voice, "response_format": fmt, "stream_format": "AUDIO"}
    assert client.post("/v1/audio/speech", json=body).headers["content-type"] == "audio/wav"


def test_speed_is_heard(openai_client: openai.OpenAI) -> None:
    def seconds(speed: float) -> float:
        speech = openai_client.audio.speech.create(
            model="tts-1", voice="alloy", input=GREETING, speed=speed, response_format="pcm"
        )
        return len(speech.read()) / 2 / SAMPLE_RATE

    assert seconds(2.0) * 2 == pytest.approx(seconds(1.0), rel=0.05)
