"""Two models that speak, one of them with a variant and with files that the manifest knows nothing of."""

import json
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from cosyserve.settings import Settings
from cosyserve.store.chosen import chosen, chosen_folder
from cosyserve.store.disk import FileState, Folder
from cosyserve.store.manifest import MODEL_FOLDER, SPEAKING, model_of, models
from tests.assets.conftest import User
from tests.assets.hub import COMMIT, REPOSITORY, Behaviour, Hub

FOLDER = "Fun-Model"
FILES = {
    "text/vocab.json": random.Random(1).randbytes(2_000),
    "llm.pt": random.Random(2).randbytes(300_000),
    "flow.pt": random.Random(3).randbytes(200_000),
}
RL = random.Random(4).randbytes(310_000)
AT_HUB = {**FILES, "llm.rl.pt": RL, "llm.pt.other": b"", "speech_tokenizer_v3.batch.onnx": b"not needed"}
NAME = "cosyvoice3-0.5b"


@pytest.fixture
def hub() -> Iterator[Hub]:
    with Hub(AT_HUB) as hub:
        yield hub


@pytest.fixture
def user(tmp_path: Path) -> User:
    manifest = tmp_path / "models.json"
    model = {
        "about": "a model of tests",
        "folder": FOLDER,
        "hubs": {
            "huggingface": {"repository": REPOSITORY, "revision": COMMIT},
            "modelscope": {"repository": REPOSITORY, "revision": "master"},
        },
        "variants": {"rl": {"llm.pt": "llm.rl.pt"}},
        "files": [
            {"path": path, "part": "test", "size": None, "sha256": None, "about": len(data) + 5}
            for path, data in FILES.items()
        ],
    }
    manifest.write_text(json.dumps({NAME: model}))
    (tmp_path / "home").mkdir()
    user = User(manifest, tmp_path / "models", tmp_path / "home")
    user.model = user.folder / FOLDER
    return user


def fetched(user: User, *arguments: str) -> str:
    done = user.runs("fetch", "--model", NAME, *arguments)
    assert done.returncode == 0, done.stderr
    return done.stderr


@pytest.mark.parametrize("source", ["huggingface", "modelscope"])
def test_what_each_part_needs_is_fetched_and_learned(user: User, hub: Hub, source: str) -> None:
    user.asks(huggingface=hub, modelscope=hub)
    plan = user.runs("fetch", "--model", NAME, "--plan").stdout
    assert "about 300 kB" in plan
    fetched(user, "--source", source)
    assert user.has() == FILES
    learned = json.loads((user.model / ".cosyserve-learned.json").read_text())
    assert {path: each["size"] for path, each in learned.items()} == {path: len(data) for path, data in FILES.items()}
    assert {each["source"] for each in learned.values()} == {source}
    assert "300 kB" in user.runs("fetch", "--model", NAME, "--plan").stdout


def test_a_file_is_held_to_what_was_learned_whatever_becomes_of_it(user: User, hub: Hub) -> None:
    """A damaged one is put away, and another hub with another file of that name gives nothing."""
    user.asks(huggingface=hub)
    fetched(user)
    (user.model / "flow.pt").write_bytes(b"x" * len(FILES["flow.pt"]))
    with Hub(AT_HUB, Behaviour(files={"flow.pt": b"another"})) as other:
        other.said["flow.pt"] = b"another"
        user.asks(huggingface=other, modelscope=other)
        done = user.runs("fetch", "--model", NAME)
    assert done.returncode == 2
    assert "flow.pt is not the file that was released" in done.stderr
    assert "flow.pt" not in user.has()
    user.asks(huggingface=hub)
    fetched(user)
    assert user.has() == FILES


def test_a_copy_by_hand_is_held_to_what_was_learned(user: User, hub: Hub) -> None:
    user.asks(huggingface=hub)
    fetched(user)
    (user.model / ".cosyserve.json").unlink()
    (user.model / "llm.pt").write_bytes(FILES["llm.pt"][::-1])
    said = fetched(user)
    assert "llm.pt is damaged or belongs to another model" in said
    assert user.has() == FILES


def test_a_variant_takes_the_place_of_one_file_and_stays(user: User, hub: Hub) -> None:
    user.asks(huggingface=hub)
    fetched(user)
    hub.asked.clear()
    fetched(user, "--variant", "rl")
    assert user.has() == {**FILES, "llm.pt": RL}
    assert not any("flow.pt" in line for line in hub.asked)
    fetched(user)  # the one that is there
    assert user.has()["llm.pt"] == RL
    assert "llm.rl.pt" in user.runs("fetch", "--model", NAME, "--plan").stdout
    assert user.runs("models", "verify", NAME).returncode == 0
    fetched(user, "--variant", "base")
    assert user.has() == FILES


def test_the_old_variant_stays_until_the_new_one_is_there(user: User, hub: Hub) -> None:
    user.asks(huggingface=hub)
    fetched(user)
    with Hub(AT_HUB, Behaviour(files={"llm.rl.pt": RL[:-1]})) as broken:
        user.asks(huggingface=broken)
        assert user.runs("fetch", "--model", NAME, "--variant", "rl").returncode == 2
    assert user.has() == FILES
    assert user.runs("models", "verify", NAME).returncode == 0


def test_a_file_that_somebody_put_there_is_not_taken_for_a_variant(user: User, hub: Hub) -> None:
    for path, data in FILES.items():
        (user.model / path).parent.mkdir(parents=True, exist_ok=True)
        (user.model / path).write_bytes(data)
    user.asks(huggingface=hub)
    fetched(user, "--variant", "rl")
    assert user.has()["llm.pt"] == RL


def test_an_unknown_variant_is_named_with_those_there_are(user: User) -> None:
    done = user.runs("fetch", "--model", NAME, "--variant", "xl")
    assert done.returncode == 2
    assert "CS-FETCH-008" in done.stderr
    assert "base, rl" in done.stderr


def test_the_released_manifest_knows_both() -> None:
    for name, title in SPEAKING.items():
        model = model_of(name)
        assert model.title == title
        paths = [file.path for file in model.files]
        assert {"llm.pt", "flow.pt", "hift.pt", "campplus.onnx"} < set(paths)
        assert not any("batch" in path or "estimator" in path or "rl" in path for path in paths)
        assert all(file.expected for file in model.files)
    third = model_of(NAME)
    assert third.folder == "Fun-CosyVoice3-0.5B"
    assert {hub.repository for hub in third.hubs.values()} == {"FunAudioLLM/Fun-CosyVoice3-0.5B-2512"}
    assert [file.source for file in third.varied("rl") if file.at_hub] == ["llm.rl.pt"]
    assert set(SPEAKING) < set(models())


def filled(folder: Path, name: str, *, whole: bool = True) -> None:
    model = model_of(name)
    place = folder / model.folder
    place.mkdir(parents=True)
    if whole:
        (place / "sizes.json").write_text("{}")


def test_auto_takes_the_newest_that_is_there(tmp_path: Path) -> None:
    settings = Settings(models_dir=tmp_path)
    assert chosen(settings) == "cosyvoice2-0.5b"
    filled(tmp_path, "cosyvoice2-0.5b")
    assert chosen(settings) == "cosyvoice2-0.5b"
    filled(tmp_path, NAME, whole=False)
    assert chosen(settings) == "cosyvoice2-0.5b"  # the other one is not whole yet
    (tmp_path / "Fun-CosyVoice3-0.5B/sizes.json").write_text("{}")
    assert chosen(settings) == NAME
    assert chosen_folder(Settings(models_dir=tmp_path, model="cosyvoice2-0.5b")).path == tmp_path / MODEL_FOLDER
    assert chosen(Settings(models_dir=tmp_path, synthesizer="cosyvoice2")) == "cosyvoice2-0.5b"
    assert chosen(Settings(models_dir=tmp_path, synthesizer="cosyvoice")) == NAME


def test_a_model_that_is_only_begun_is_the_one_to_go_on_with(tmp_path: Path) -> None:
    filled(tmp_path, NAME, whole=False)
    assert chosen(Settings(models_dir=tmp_path)) == NAME


def test_a_variant_is_told_by_what_was_verified(tmp_path: Path) -> None:
    model = model_of(NAME)
    (tmp_path / model.folder).mkdir()
    folder = Folder(tmp_path, model, "rl")
    (folder.path / "llm.pt").write_bytes(b"weights")
    (file,) = (each for each in folder.model.files if each.path == "llm.pt")
    assert folder.state(file) is FileState.CHANGED
    folder.remember(file, "0" * 64, "test")
    assert Folder(tmp_path, model).variant == "rl"
    assert Folder(tmp_path, model, "base").state(model.files[2]) is FileState.CHANGED
