"""The server with either model, as a user starts it: every endpoint, voices that come and go, and bad models."""

import json
import os
import pickle
import re
import shutil
import subprocess
import sys
import unicodedata
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import numpy as np
import onnx
import openai
import pytest
import torch
from safetensors.torch import save_file

from cosyserve import errors
from cosyserve.errors import CosyError
from cosyserve.settings import Settings
from cosyserve.speech.choice import choose
from cosyserve.store.manifest import MODEL_FOLDER
from tests.cosyvoice.folder import speaker_encoder, speech_tokenizer
from tests.running import GREETING, HANGS, Server
from tests.server.test_socket import audio_until, event, open_socket, send
from tests.signals import from_s16le, from_wav
from tests.speech.recordings import REFUSED, TAKEN, speech

CONSENT = "a machine spoke it"


@pytest.fixture(scope="module", params=["cosyvoice2", "cosyvoice3"])
def edition(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def server(edition: str, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp(edition)
    models = request.getfixturevalue("models3" if edition == "cosyvoice3" else "models")
    with Server(folder, synthesizer="cosyvoice", models_dir=models, dtype="float32") as running:
        yield running
        assert running.stop() == 0
        assert "Traceback" not in running.text()


@pytest.fixture(scope="module")
def recording() -> bytes:
    return speech()


def prompt(recording: bytes) -> dict[str, tuple[str, bytes, str]]:
    return {"prompt_wav": ("prompt.wav", recording, "audio/wav")}


def spoken(client: httpx.Client, voice: str = "", seed: int = 7, **more: object) -> bytes:
    body = {"input": "Hi.", "voice": voice, "response_format": "pcm", "seed": seed, **more}
    response = client.post("/v1/audio/speech", json=body)
    assert response.status_code == 200, response.text
    return response.content


def test_it_says_who_speaks_and_why(client: httpx.Client, edition: str) -> None:
    state = client.get("/readyz").json()
    assert (state["synthesizer"], state["model"], state["device"]) == (edition, f"{edition}-0.5b", "cpu")
    assert state["capabilities"] == ["clone", "instruct", "interleave"] + ["pronounce"] * (edition == "cosyvoice3")
    folder = MODEL_FOLDER if edition == "cosyvoice2" else "Fun-CosyVoice3-0.5B"
    assert re.search(rf"^CosyVoice{edition[-1]} from .*/{folder}, by PyTorch on cpu in float32\. ", state["why"])
    assert [model["id"] for model in client.get("/v1/models").json()["data"]] == [f"{edition}-0.5b"]
    assert client.get("/v1/models/cosyvoice2-0.5b").status_code == 200  # what a client was set up for
    assert client.post("/v1/audio/speech", json={"input": "Hi."}).headers["X-CosyServe-Synthesizer"] == edition


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize(
    ("path", "form", "clones"),
    [
        ("/inference_sft", {"tts_text": "Hi.", "spk_id": "cosy"}, False),
        ("/inference_zero_shot", {"tts_text": "Hi.", "prompt_text": "你好"}, True),
        ("/inference_cross_lingual", {"tts_text": "Hi."}, True),
        ("/inference_instruct", {"tts_text": "Hi.", "spk_id": "", "instruct_text": "sadly"}, False),
        ("/inference_instruct2", {"tts_text": "Hi.", "instruct_text": "sadly"}, True),
    ],
)
def test_upstreams_endpoints_speak(
    client: httpx.Client, recording: bytes, path: str, form: dict[str, str], clones: bool, method: str
) -> None:
    response = client.request(method, path, data=form, files=prompt(recording) if clones else None)
    assert response.status_code == 200, response.text
    assert np.abs(from_s16le(response.content)).max() > 0.01


def test_the_other_endpoints_speak(client: httpx.Client) -> None:
    assert from_s16le(client.post("/tts", data={"text": "Hi.", "speaker": "cosy"}).content).size > 0
    assert from_wav(client.post("/tts_to_audio", json={"text": "Hi.", "speaker_wav": "cosy"}).content).size > 0
    assert client.get("/api/speakers").json()["speakers"] == ["cosy"]
    assert client.get("/speakers").json()[0]["name"] == "cosy"


def test_a_voice_is_uploaded_spoken_with_and_deleted(server: Server, client: httpx.Client, recording: bytes) -> None:
    form = {"name": "小明", "transcript": "你好，很高兴认识你。", "consent": CONSENT}
    answer = client.post("/v1/audio/voices", data=form, files={"audio": ("me.wav", recording)})
    assert answer.status_code == 201, answer.text
    assert answer.json()["id"] == "小明"
    assert "小明" in [voice["id"] for voice in client.get("/v1/audio/voices").json()["voices"]]
    api = openai.OpenAI(base_url=f"{server.url}/v1", api_key="none")
    with api.audio.speech.with_streaming_response.create(
        model="cosyvoice2-0.5b", voice="小明", input=GREETING, response_format="wav"
    ) as response:
        pieces = list(response.iter_bytes())
    assert len(pieces) > 1
    assert from_wav(b"".join(pieces)).size > 24_000
    assert spoken(client, "小明") != spoken(client, "cosy")
    assert (
        client.post("/v1/audio/voices", data=form, files={"audio": recording}).json()["error"]["code"] == "CS-VOICE-003"
    )
    deleted = client.delete("/v1/audio/voices/小明")
    assert (deleted.status_code, deleted.json()) == (200, {"id": "小明", "deleted": True})
    assert client.post("/tts", data={"text": "Hi.", "speaker": "小明"}).json()["error"]["code"] == "CS-VOICE-001"
    assert client.delete("/v1/audio/voices/小明").status_code == 404
    voices = server.log.parent / "voices"
    assert [path for path in voices.rglob("*") if path.is_file() and "小明" in path.name] == []


def test_a_voice_needs_consent_and_a_name(client: httpx.Client, recording: bytes) -> None:
    for form, code in (({"name": "a"}, "CS-VOICE-005"), ({"name": "../a", "consent": CONSENT}, "CS-VOICE-002")):
        answer = client.post("/v1/audio/voices", data=form, files={"audio": recording})
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, code)
    assert client.delete("/v1/audio/voices/cosy").json()["error"]["code"] == "CS-VOICE-004"


@pytest.mark.parametrize("name", REFUSED)
def test_a_bad_recording_is_a_clear_refusal(client: httpx.Client, name: str) -> None:
    data, code = REFUSED[name]
    form = {"name": "bad", "consent": CONSENT}
    uploaded = client.post("/v1/audio/voices", data=form, files={"audio": ("bad.wav", data)})
    cloned = client.post("/inference_cross_lingual", data={"tts_text": "Hi."}, files=prompt(data))
    for answer in (uploaded, cloned):
        # A part of nothing is no file to the framework, and a tone of ten minutes is over the limit of a body.
        assert answer.json()["error"]["code"] in (code, "CS-REQ-001", "CS-REQ-002")
        assert 400 <= answer.status_code < 500
    assert "bad" not in [voice["id"] for voice in client.get("/v1/audio/voices").json()["voices"]]


def test_odd_recordings_of_good_sound_are_taken(client: httpx.Client) -> None:
    for data in TAKEN.values():
        response = client.post("/inference_cross_lingual", data={"tts_text": "Hi."}, files=prompt(data))
        assert response.status_code == 200, response.text


def test_the_same_seed_gives_the_same_speech_and_another_does_not(client: httpx.Client) -> None:
    assert spoken(client, seed=1) == spoken(client, seed=1) != spoken(client, seed=2)
    assert client.post("/v1/audio/speech", json={"input": "Hi.", "seed": -1}).status_code == 400


def test_a_whole_is_not_the_sum_of_a_stream_and_repeatable(client: httpx.Client) -> None:
    whole = spoken(client, stream=False)
    assert whole == spoken(client, stream=False) != spoken(client)
    assert len(whole) == len(spoken(client))


def test_a_socket_takes_instructions_and_a_seed(server: Server, client: httpx.Client) -> None:
    def said(**session: object) -> bytes:
        with open_socket(server.url) as socket:
            send(socket, "session.update", **session)
            send(socket, "input_text.append", text="Hi.")
            send(socket, "input_text.flush")
            return audio_until(socket, "speech.audio.done")[0]

    assert said(seed=7) == said(seed=7) == spoken(client, seed=7)
    assert said(seed=7, instructions="sadly") == spoken(client, seed=7, instructions="sadly") != said(seed=7)


def test_instructions_and_marks_are_part_of_what_is_said(client: httpx.Client) -> None:
    plain = spoken(client)
    assert spoken(client, instructions="happily") != plain
    assert spoken(client, instructions="happily <|endofprompt|>\n") == spoken(client, instructions="happily")
    assert spoken(client, instructions="<|endofprompt|>") == plain
    assert spoken(client, instructions="as at 5") != spoken(client, instructions="as at five")  # as it was written
    assert spoken(client, input="[laughter]Hi.") != plain
    for long, code in (("好" * 1000, "CS-TEXT-005"), ("very " * 1000, "CS-TEXT-006")):
        answer = client.post("/v1/audio/speech", json={"input": "Hi.", "instructions": long})
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, code)


def test_a_voice_is_meant_by_every_spelling_of_its_name(client: httpx.Client, recording: bytes) -> None:
    composed, decomposed = (unicodedata.normalize(form, "José") for form in ("NFC", "NFD"))
    form = {"name": f" {decomposed}", "consent": CONSENT}
    answer = client.post("/v1/audio/voices", data=form, files={"audio": recording})
    assert (answer.status_code, answer.json()["id"]) == (201, composed)
    assert len({spoken(client, name) for name in (composed, decomposed, f"{composed} ", composed.upper())}) == 1
    assert client.delete(f"/v1/audio/voices/{decomposed}").status_code == 200
    assert composed not in [voice["id"] for voice in client.get("/v1/audio/voices").json()["voices"]]


def test_words_of_a_recording_have_a_bound_wherever_they_come_from(
    server: Server, client: httpx.Client, recording: bytes
) -> None:
    long = "x" * 1001
    form = {"name": "long", "consent": CONSENT, "transcript": long}
    uploaded = client.post("/v1/audio/voices", data=form, files={"audio": recording})
    cloned = client.post("/inference_zero_shot", data={"tts_text": "Hi.", "prompt_text": long}, files=prompt(recording))
    folder = server.log.parent / "voices"
    folder.mkdir(exist_ok=True)
    (folder / "long.flac").write_bytes(recording)
    (folder / "long.json").write_text(json.dumps({"transcript": long, "consent": CONSENT, "file": "long.flac"}))
    used = client.post("/v1/audio/speech", json={"input": "Hi.", "voice": "long"})
    for answer in (uploaded, cloned, used):
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, "CS-TEXT-006")
    assert client.delete("/v1/audio/voices/long").status_code == 200


def test_a_voice_from_elsewhere_with_ids_that_the_model_has_not_is_refused(
    server: Server, client: httpx.Client
) -> None:
    """They would reach an embedding, which on a card is an assertion that ends all that runs there."""
    folder = server.log.parent / "voices"
    folder.mkdir(exist_ok=True)
    voice = {"speech": torch.arange(60), "mel": torch.zeros(120, 80), "speaker": torch.zeros(192)}
    for parts in ({"speech": torch.full((60,), 6561)}, {"text": torch.tensor([150_000])}):
        save_file({**voice, **parts}, folder / "other.safetensors")
        (folder / "other.json").write_text('{"transcript": "", "consent": "x", "file": "other.safetensors"}')
        answer = client.post("/v1/audio/speech", json={"input": "Hi.", "voice": "other"})
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, "CS-VOICE-105")
    assert client.delete("/v1/audio/voices/other").status_code == 200


def test_speed_changes_the_length(client: httpx.Client) -> None:
    slow, fast = (len(spoken(client, speed=speed)) for speed in (1, 2))
    assert fast / slow == pytest.approx(0.5, abs=0.05)


def spoilt(models: Path, tmp_path: Path, spoil: Callable[[Path], object]) -> Path:
    folder = tmp_path / "models" / MODEL_FOLDER
    shutil.copytree(models / MODEL_FOLDER, folder)
    spoil(folder)
    return folder.parent


class Bomb:
    """What a pickle can do to who loads it."""

    def __reduce__(self) -> tuple[Callable[..., object], tuple[str]]:
        return os.mkdir, ("executed",)


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def reshaped(path: Path) -> None:
    state = torch.load(path, weights_only=True)
    state["input_embedding.weight"] = state["input_embedding.weight"][:, :-1].clone()
    torch.save(state, path)


SPOILT: dict[str, tuple[Callable[[Path], object], str]] = {
    "a missing file": (lambda folder: (folder / "flow.pt").unlink(), "flow.pt is missing"),
    "a file cut short": (lambda folder: cut(folder / "llm.pt"), "llm.pt is damaged"),
    "a wrong shape": (lambda folder: reshaped(folder / "flow.pt"), r"'input_embedding.weight' is \[6561, 511\]"),
    "code": (lambda folder: (folder / "hift.pt").write_bytes(pickle.dumps(Bomb())), "nothing of it was run"),
    "an ONNX cut short": (lambda folder: cut(folder / "campplus.onnx"), "campplus.onnx is damaged"),
    "an ONNX of other inputs": (
        lambda folder: onnx.save(speech_tokenizer(80), folder / "speech_tokenizer_v2.onnx"),
        "another model: its inputs are feats",
    ),
    "an ONNX of another model": (
        lambda folder: shutil.copy(folder / "campplus.onnx", folder / "speech_tokenizer_v2.onnx"),
        "another model: its inputs are input",
    ),
    "no vocabulary": (lambda folder: (folder / "CosyVoice-BlankEN" / "vocab.json").unlink(), "vocab.json is missing"),
    "a damaged vocabulary": (
        lambda folder: (folder / "CosyVoice-BlankEN" / "vocab.json").write_text('{"a": '),
        "vocab.json or merges.txt is damaged",
    ),
    "a vocabulary with gaps": (
        lambda folder: (folder / "CosyVoice-BlankEN" / "vocab.json").write_text('{"a": 0, "b": 4000}'),
        "it has an id above 1",
    ),
    "sizes that are none": (lambda folder: (folder / "sizes.json").write_text("{}x"), "does not say the sizes"),
}


@pytest.mark.parametrize("name", SPOILT)
def test_a_bad_model_is_refused_with_its_reason(
    models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    spoil, reason = SPOILT[name]
    settings = Settings(synthesizer="cosyvoice2", dtype="float32", models_dir=spoilt(models, tmp_path, spoil))
    with pytest.raises(CosyError, match=reason) as refused:
        choose(settings)
    assert refused.value.fault is errors.MODEL_UNUSABLE
    assert "cosyserve models verify" in str(refused.value)
    assert not (tmp_path / "executed").exists()


def test_a_bad_model_ends_the_start_with_its_reason(models: Path, tmp_path: Path) -> None:
    """For all reasons alike; each has its own test above."""
    spoil, reason = SPOILT["code"]
    server = Server(tmp_path, dtype="float32", synthesizer="cosyvoice2", models_dir=spoilt(models, tmp_path, spoil))
    try:
        assert server.wait() == 2
    finally:
        server.close()
    text = server.text()
    assert "CS-SYN-004" in text
    assert re.search(reason, text), text
    assert "cosyserve models verify" in text
    assert "Traceback" not in text
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize(
    "chosen", [{"dtype": "int8", "flow_steps": 5}, {"dtype": "bfloat16", "past_seconds": 0, "trim_silence": "yes"}]
)
def test_other_types_and_bounds_speak(models: Path, tmp_path: Path, chosen: dict[str, object]) -> None:
    with (
        Server(tmp_path, (), models_dir=models, **chosen) as server,
        httpx.Client(base_url=server.url, timeout=HANGS) as client,
    ):
        assert str(chosen["dtype"]) in client.get("/readyz").json()["why"]
        assert np.abs(from_s16le(spoken(client, input=GREETING))).max() > 0.01


def test_auto_speaks_with_the_preview_and_says_why(models: Path, tmp_path: Path) -> None:
    bad = spoilt(models, tmp_path, SPOILT["a missing file"][0])
    with Server(tmp_path, models_dir=bad, dtype="float32") as server:
        state = httpx.get(f"{server.url}/readyz").json()
    assert state["synthesizer"] == "preview"
    assert "flow.pt is missing" in state["why"]


def test_an_onnx_that_gives_something_else_is_no_traceback_to_the_client(models: Path, tmp_path: Path) -> None:
    def other(folder: Path) -> None:
        onnx.save(speaker_encoder(64), folder / "campplus.onnx")

    server = Server(tmp_path, dtype="float32", synthesizer="cosyvoice2", models_dir=spoilt(models, tmp_path, other))
    try:
        assert server.wait() != 0
        assert "campplus.onnx gives 64 numbers" in server.text()
    finally:
        server.close()


def test_the_command_adds_lists_imports_and_removes(
    edition: str, server: Server, client: httpx.Client, tmp_path: Path, recording: bytes
) -> None:
    def cosyserve(*argv: str) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "COSYSERVE_VOICES_DIR": str(server.log.parent / "voices")}
        return subprocess.run(
            [sys.executable, "-m", "cosyserve", "voices", *argv], env=environment, text=True, capture_output=True
        )

    (tmp_path / "me.wav").write_bytes(recording)
    assert cosyserve("add", "Anna", str(tmp_path / "me.wav")).returncode == 2
    assert cosyserve("add", "Anna", str(tmp_path / "me.wav"), "--consent", CONSENT).returncode == 0
    voice = {
        "flow_prompt_speech_token": torch.arange(60, dtype=torch.int32)[None],
        "prompt_speech_feat": torch.randn(1, 120, 80),
        "flow_embedding": torch.randn(1, 192),
        "prompt_text": torch.arange(5)[None],
    }
    older = {"speech_token": voice["flow_prompt_speech_token"], "speech_feat": voice["prompt_speech_feat"]}
    older |= {"embedding": voice["flow_embedding"], "prompt_text_token": voice["prompt_text"]}
    torch.save({"Bea": voice, "Cleo": older, "Dora": {"embedding": torch.randn(1, 192)}}, tmp_path / "spk2info.pt")
    table = (str(tmp_path / "spk2info.pt"), "--model", f"{edition}-0.5b")
    assert cosyserve("import", *table).stdout.split() == ["Bea", "Cleo", "Dora"]
    assert "Anna" in cosyserve("list").stdout
    for name in ("Anna", "Bea", "Cleo", "Dora"):
        assert len(spoken(client, name)) > 0
    assert spoken(client, "Bea") == spoken(client, "Cleo")
    (tmp_path / "bomb.pt").write_bytes(pickle.dumps(Bomb()))
    refused = cosyserve("import", str(tmp_path / "bomb.pt"))
    assert (refused.returncode, "CS-VOICE-105" in refused.stderr) == (2, True)
    assert json.loads((server.log.parent / "voices" / "Anna.json").read_text())["consent"] == CONSENT
    for name in ("Anna", "Bea", "Cleo", "Dora"):
        assert cosyserve("remove", name).returncode == 0
    assert [voice["id"] for voice in client.get("/v1/audio/voices").json()["voices"]] == ["cosy"]


_WORDS = "The little boat went slowly down the river and reached the open sea before the morning came"


def test_sound_begins_before_a_sentence_is_complete(server: Server) -> None:
    """Its end comes only once something has been heard."""
    with open_socket(server.url) as socket:
        send(socket, "session.update", interleave=True)
        for word in re.findall(r"\s*\w+", _WORDS):
            send(socket, "input_text.append", text=word)
        begun = json.loads(socket.recv(HANGS))
        assert (begun["type"], begun["index"], begun["begin"]) == ("speech.audio.segment", 0, 0.0)
        assert _WORDS.startswith(begun["text"]) and len(begun["text"]) < len(_WORDS)
        heard = socket.recv(HANGS)
        assert isinstance(heard, bytes) and heard
        send(socket, "input_text.append", text=". Then it was gone.")
        send(socket, "input_text.flush")
        rest, done = audio_until(socket, "speech.audio.done")
        captions = done["captions"]
        assert " ".join(each["text"] for each in captions) == f"{_WORDS}. Then it was gone."
        assert captions[-1]["end"] == pytest.approx((len(heard) + len(rest)) / 48_000, abs=1e-4)


def test_a_text_that_is_there_at_once_is_spoken_with_interleave_too(server: Server) -> None:
    with open_socket(server.url) as socket:
        send(socket, "session.update", interleave=True)
        send(socket, "input_text.append", text="It cost $3.50 on May 3. 今天天气很好。")
        send(socket, "input_text.flush")
        sound, done = audio_until(socket, "speech.audio.done")
        assert len(sound) > 24_000
        assert "".join(each["text"] for each in done["captions"]).replace(" ", "").endswith("今天天气很好。")


def test_who_leaves_in_the_middle_of_a_sentence_leaves_nothing_behind(server: Server, client: httpx.Client) -> None:
    for _ in range(2 * client.get("/readyz").json()["max_streams"] + 1):
        with open_socket(server.url) as socket:
            send(socket, "session.update", interleave=True)
            send(socket, "input_text.append", text=_WORDS)
            while not isinstance(socket.recv(HANGS), bytes):
                pass
    with open_socket(server.url) as socket:
        send(socket, "session.update", interleave=True)
        send(socket, "input_text.append", text=_WORDS)
        while not isinstance(socket.recv(HANGS), bytes):
            pass
        send(socket, "input_text.cancel")
        audio_until(socket, "speech.audio.cancelled")
        send(socket, "input_text.append", text="Hi.")
        send(socket, "input_text.flush")
        assert audio_until(socket, "speech.audio.done")[0]


def test_ssml_is_no_text_to_begin_with_early(server: Server) -> None:
    with open_socket(server.url) as socket:
        send(socket, "session.update", interleave=True, input_format="ssml")
        assert event(socket)["error"]["code"] == "CS-WS-001"
