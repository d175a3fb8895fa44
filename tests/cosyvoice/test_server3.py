"""What CosyVoice3 does beyond CosyVoice2, and both models side by side in one folder."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import httpx
import pytest
import torch
from safetensors.torch import load

from cosyserve.cosyvoice.frontend.marks import LEAD
from cosyserve.settings import Settings
from cosyserve.speech import prompts
from cosyserve.speech.choice import choose
from cosyserve.store.manifest import MODEL_FOLDER, model_of
from tests.assets.hub import COMMIT, REPOSITORY, Hub
from tests.cosyvoice.test_server import prompt, spoken
from tests.running import Server
from tests.server.test_socket import audio_until, open_socket, send
from tests.signals import from_s16le, from_wav
from tests.speech.recordings import speech

FOLDER3 = model_of("cosyvoice3-0.5b").folder


@pytest.fixture(scope="module")
def both(models: Path, models3: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with both models."""
    folder = tmp_path_factory.mktemp("both")
    shutil.copytree(models / MODEL_FOLDER, folder / MODEL_FOLDER)
    shutil.copytree(models3 / FOLDER3, folder / FOLDER3)
    return folder


@pytest.fixture(scope="module")
def server(both: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server(tmp_path_factory.mktemp("server3"), models_dir=both, dtype="float32") as running:
        yield running
        assert running.stop() == 0
        assert "Traceback" not in running.text()


def test_auto_takes_the_newer_model_and_says_what_else_is_there(client: httpx.Client) -> None:
    state = client.get("/readyz").json()
    assert state["model"] == "cosyvoice3-0.5b"
    assert "CosyVoice2 is there, too: COSYSERVE_MODEL=cosyvoice2-0.5b" in state["why"]
    assert "COSYSERVE_MODEL=cosyvoice2-0.5b" in state["why_zh"]


def test_phonemes_and_pinyin_are_heard_by_every_way_in(server: Server, client: httpx.Client) -> None:
    written, plain = "报道[j][ǐ]予好评。", "报道予好评。"
    assert spoken(client, input=written) == spoken(client, input=written) != spoken(client, input=plain)
    assert spoken(client, input="Say [HH][AH0][L][OW1].") != spoken(client, input="Say HH AH0 L OW1.")
    assert spoken(client, input="a[i] b") == spoken(client, input="a i b")  # an index is none

    def streamed(*pieces: str) -> bytes:
        with open_socket(server.url) as socket:
            send(socket, "session.update", seed=7)
            for piece in pieces:
                send(socket, "input_text.append", text=piece)
            send(socket, "input_text.flush")
            return audio_until(socket, "speech.audio.done")[0]

    assert streamed("报道[j", "][", "ǐ]予", "好评。") == spoken(client, input=written)
    sent = client.post("/inference_sft", data={"tts_text": written, "spk_id": "cosy"})
    assert from_s16le(sent.content).size > 0


def test_what_upstreams_clients_write_before_a_text_is_not_spoken(client: httpx.Client) -> None:
    """No seed can be sent there, so lengths are compared with the most that the text alone may take."""
    recording = speech()
    form = {"tts_text": f"{LEAD}Hi.", "prompt_text": f"{LEAD}你好"}
    answer = client.post("/inference_zero_shot", data=form, files=prompt(recording))
    assert answer.status_code == 200, answer.text
    most = 20 * len(b"Hi.") * 960  # tokens for one of text, samples of a token
    assert 0 < from_s16le(answer.content).size <= most


def test_say_takes_the_setting(both: Path, tmp_path: Path) -> None:
    def said(name: str, **settings: str) -> bytes:
        environment = {**os.environ, "COSYSERVE_MODELS_DIR": str(both), "COSYSERVE_DTYPE": "float32"}
        environment |= {f"COSYSERVE_{key.upper()}": value for key, value in settings.items()}
        command = [sys.executable, "-m", "cosyserve", "say", "Hi.", "-o", str(tmp_path / name)]
        subprocess.run(command, env=environment, cwd=tmp_path, check=True)
        return (tmp_path / name).read_bytes()

    assert from_wav(said("3.wav")).size > 0
    assert from_wav(said("2.wav", model="cosyvoice2-0.5b")).size > 0


def test_a_setting_chooses_and_insists(both: Path, models: Path, tmp_path: Path) -> None:
    def speaks(folder: Path, **settings: object) -> str:
        chosen = choose(Settings(models_dir=folder, voices_dir=tmp_path, dtype="float32", **settings))  # type: ignore[arg-type]
        with closing(chosen.synthesizer):
            return chosen.synthesizer.name

    assert speaks(both) == "cosyvoice3"
    assert speaks(both, model="cosyvoice2-0.5b") == speaks(both, synthesizer="cosyvoice2") == "cosyvoice2"
    assert speaks(models) == "cosyvoice2"
    assert speaks(models, model="cosyvoice3-0.5b") == "preview"
    with pytest.raises(Exception, match="CS-FETCH-006"):
        speaks(models, model="cosyvoice3-0.5b", synthesizer="cosyvoice")


def test_a_voice_is_heard_by_each_model_once_and_both_keep_what_they_heard(
    both: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard: list[str] = []
    listen = prompts.Prompts._listen

    def counting(listener: prompts.Prompts, data: bytes) -> object:
        heard.append(listener._edition)
        return listen(listener, data)

    monkeypatch.setattr(prompts.Prompts, "_listen", counting)
    for model in ("cosyvoice2-0.5b", "cosyvoice3-0.5b") * 2:
        settings = Settings(models_dir=both, voices_dir=tmp_path, dtype="float32", model=model)
        with closing(choose(settings).synthesizer) as synthesizer:
            library = synthesizer.library
            assert library is not None
            library.learn(library.entries["cosy"])
    assert heard == ["cosyvoice2", "cosyvoice3"]
    kept = sorted((tmp_path / ".features").iterdir())
    assert len(kept) == 2
    speech_tokens = [load(file.read_bytes())["speech"] for file in kept]
    assert not torch.equal(*speech_tokens)


def test_the_doctor_names_the_model(both: Path, tmp_path: Path) -> None:
    def told(**settings: str) -> str:
        environment = {**os.environ, "COSYSERVE_MODELS_DIR": str(both), **settings}
        command = [sys.executable, "-m", "cosyserve", "doctor", "--json"]
        done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True)
        findings = json.loads(done.stdout)["findings"]
        return str(next(each for each in findings if each["id"] == "CS-MODEL-001")["facts"]["model"])

    assert told() == "CosyVoice3"
    assert told(COSYSERVE_MODEL="cosyvoice2-0.5b") == "CosyVoice2"


def test_a_folder_of_another_edition_is_refused(models: Path, tmp_path: Path) -> None:
    shutil.copytree(models / MODEL_FOLDER, tmp_path / FOLDER3)
    with pytest.raises(Exception, match="CS-SYN-004"):
        choose(Settings(models_dir=tmp_path, synthesizer="cosyvoice"))


def test_what_a_hub_brings_speaks(models3: Path, tmp_path: Path) -> None:
    """From an empty folder, with a manifest that knows no size and no digest; then its variant."""
    folder = models3 / FOLDER3
    files = {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}
    listed = [{"path": path, "part": "test", "size": None, "sha256": None} for path in files]
    hubs = {hub: {"repository": REPOSITORY, "revision": COMMIT} for hub in ("huggingface", "modelscope")}
    model = {"about": "", "folder": FOLDER3, "hubs": hubs, "files": listed, "variants": {"rl": {"llm.pt": "llm.rl.pt"}}}
    (tmp_path / "manifest.json").write_text(json.dumps({"cosyvoice3-0.5b": model}))
    other = torch.load(folder / "llm.pt", weights_only=True)
    other["llm_decoder.weight"] = other["llm_decoder.weight"].flip(0).clone()
    torch.save(other, tmp_path / "llm.rl.pt")
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith(("HF_", "MODELSCOPE_"))},
        "_COSYSERVE_MANIFEST": str(tmp_path / "manifest.json"),
        "COSYSERVE_MODELS_DIR": str(tmp_path / "models"),
        "COSYSERVE_DTYPE": "float32",
        "COSYSERVE_SYNTHESIZER": "cosyvoice",
        "COSYSERVE_HF_MIRROR": "http://127.0.0.1:9",
        "MODELSCOPE_ENDPOINT": "http://127.0.0.1:9",
        "HOME": str(tmp_path),
    }

    def runs(*arguments: str) -> None:
        command = [sys.executable, "-m", "cosyserve", *arguments]
        done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr

    with Hub({**files, "llm.rl.pt": (tmp_path / "llm.rl.pt").read_bytes()}) as hub:
        environment["HF_ENDPOINT"] = hub.url
        runs("fetch", "--model", "cosyvoice3-0.5b")
        runs("say", "Hi.", "-o", "base.wav")
        runs("fetch", "--model", "cosyvoice3-0.5b", "--variant", "rl")
        runs("say", "Hi.", "-o", "rl.wav")
    assert all(from_wav((tmp_path / name).read_bytes()).size for name in ("base.wav", "rl.wav"))
    assert (tmp_path / "models" / FOLDER3 / "llm.pt").read_bytes() == (tmp_path / "llm.rl.pt").read_bytes()
