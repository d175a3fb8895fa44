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
    assert [event["type"] for event in events[:-1]] == ["speech.audio.delta"] * (len(events) - 1)
    assert len(events) > 2
    data = b"".join(base64.b64decode(event["audio"]) for event in events[:-1])
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


def test_speed_is_heard(openai_client: openai.OpenAI) -> None:
    def seconds(speed: float) -> float:
        speech = openai_client.audio.speech.create(
            model="tts-1", voice="alloy", input=GREETING, speed=speed, response_format="pcm"
        )
        return len(speech.read()) / 2 / SAMPLE_RATE

    assert seconds(2.0) * 2 == pytest.approx(seconds(1.0), rel=0.05)
