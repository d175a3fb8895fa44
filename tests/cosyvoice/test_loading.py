"""Model folders, good and bad: the released layout with a small model in it."""

import json
import os
import pickle
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import cast

import pytest
import torch

from cosyserve.cosyvoice.model import loading
from cosyserve.cosyvoice.model.config import Config, Config3
from cosyserve.cosyvoice.model.dit import Rotary
from cosyserve.cosyvoice.model.loading import WeightsError, load_flow, load_hift, load_llm, load_sizes
from tests.cosyvoice.seeded import SHALLOW3, TINY, seeded, seeded3


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    model = seeded(TINY)
    for name in loading.FILES:
        torch.save(getattr(model, name).state_dict(), folder / loading.FILES[name])
    return folder


@pytest.fixture
def folder(good: Path, tmp_path: Path) -> Path:
    """A copy that a test may spoil."""
    for file in good.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    return tmp_path


def test_what_is_loaded_is_what_was_saved(good: Path) -> None:
    model = seeded(TINY)
    llm, flow, hift = load_llm(good, TINY), load_flow(good, TINY), load_hift(good, TINY)
    for name, loaded in (("llm", llm), ("flow", flow)):
        for key, tensor in getattr(model, name).state_dict().items():
            assert torch.equal(loaded.state_dict()[key], tensor), key
    mel = torch.randn(1, 80, 20)
    source = model.hift.source(mel, model.hift.noise(1))
    assert torch.allclose(hift.decode(mel, source), model.hift.decode(mel, source), atol=1e-5)
    assert torch.equal(flow.noise, model.flow.noise)
    assert llm.llm.model.lm_head.weight is llm.llm.model.model.embed_tokens.weight  # type: ignore[union-attr]
    assert not any(parameter.requires_grad for parameter in llm.parameters())


@pytest.fixture(scope="module")
def cosyvoice3(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As released, but for its size; of the tokenizer only the name."""
    folder, model = tmp_path_factory.mktemp("model"), seeded3(SHALLOW3)
    for name in loading.FILES:
        torch.save(getattr(model, name).state_dict(), folder / loading.FILES[name])
    (folder / "speech_tokenizer_v3.onnx").touch()
    (folder / "sizes.json").write_text(json.dumps(asdict(SHALLOW3)))
    return folder


def test_a_folder_says_which_generation_it_has(good: Path, cosyvoice3: Path, tmp_path: Path) -> None:
    assert load_sizes(good) == Config()
    assert load_sizes(cosyvoice3) == SHALLOW3
    (tmp_path / "cosyvoice3.yaml").touch()
    assert load_sizes(tmp_path) == Config3()


def test_cosyvoice3_is_loaded_as_it_was_saved(cosyvoice3: Path) -> None:
    model, sizes = seeded3(SHALLOW3), load_sizes(cosyvoice3)
    llm, flow, hift = load_llm(cosyvoice3, sizes), load_flow(cosyvoice3, sizes), load_hift(cosyvoice3, sizes)
    for name, loaded in (("llm", llm), ("flow", flow)):
        for key, tensor in getattr(model, name).state_dict().items():
            assert torch.equal(loaded.state_dict()[key], tensor), key
    mel = torch.randn(1, 80, 20)
    expected, heard = (each.stream(0).push(mel, final=True) for each in (model.hift, hift))
    assert torch.allclose(heard, expected, atol=1e-5)
    assert llm.config.stops == range(6561, 6761)


def test_cosyvoice3_s_positions_are_as_exact_in_bfloat16(cosyvoice3: Path) -> None:
    """Its file has their frequencies among the weights, which are rounded."""
    flow = load_flow(cosyvoice3, load_sizes(cosyvoice3), torch.bfloat16)
    turning = [cast("Rotary", each.estimator.rotary_embed) for each in (flow, seeded3(SHALLOW3).flow)]
    rounded, exact = (each(9000, 50) for each in turning)
    assert torch.equal(rounded[0], exact[0])
    assert torch.equal(rounded[1], exact[1])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_weights_are_cast_once(good: Path, dtype: torch.dtype) -> None:
    llm = load_llm(good, TINY, dtype)
    assert {parameter.dtype for parameter in llm.parameters()} == {dtype}
    prompt = llm.prompt(torch.arange(5), torch.arange(4))
    scores = llm.prefill(prompt, llm.cache(1, 16), 0)
    expected = load_llm(good, TINY)
    exact = expected.prefill(expected.prompt(torch.arange(5), torch.arange(4)), expected.cache(1, 16), 0)
    assert (scores.float() - exact).norm() / exact.norm() < 0.05


def changed(change: Callable[[dict[str, torch.Tensor]], object]) -> Callable[[Path], None]:
    def spoil(path: Path) -> None:
        state = torch.load(path, weights_only=True)
        change(state)
        torch.save(state, path)

    return spoil


class Malice:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("touch executed",)


SPOILED: dict[str, tuple[Callable[[Path], object], str]] = {
    "missing": (Path.unlink, "flow.pt is missing"),
    "empty": (lambda path: path.write_bytes(b""), "damaged"),
    "cut short": (lambda path: path.write_bytes(path.read_bytes()[:100_000]), "cut short"),
    "not a model": (lambda path: path.write_text("<html>404</html>"), "damaged"),
    "code": (lambda path: path.write_bytes(pickle.dumps(Malice())), "nothing of it was run"),
    "code in an archive": (lambda path: torch.save({"x": Malice()}, path), "nothing of it was run"),
    "a list": (lambda path: torch.save([torch.zeros(1)], path), "not a table of tensors"),
    "a key less": (changed(lambda state: state.pop("encoder_proj.bias")), "has no 'encoder_proj.bias'"),
    "a key more": (changed(lambda state: state.update(more=torch.zeros(1))), "has 'more'"),
    "a wrong shape": (changed(lambda state: state.update({"encoder_proj.bias": torch.zeros(81)})), "is [81], not [80]"),
}


@pytest.mark.parametrize("name", SPOILED)
def test_a_bad_file_is_named_with_what_is_wrong_and_nothing_runs(
    folder: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    spoil, words = SPOILED[name]
    spoil(folder / "flow.pt")
    monkeypatch.chdir(folder)
    with pytest.raises(WeightsError) as caught:
        load_flow(folder, TINY)
    assert words in str(caught.value)
    assert "flow.pt" in str(caught.value)
    assert not (folder / "executed").exists()


def test_the_digest_of_a_wrong_file_is_told(folder: Path) -> None:
    changed(lambda state: state.pop("encoder_proj.bias"))(folder / "flow.pt")
    import hashlib

    digest = hashlib.sha256((folder / "flow.pt").read_bytes()).hexdigest()
    with pytest.raises(WeightsError, match=digest):
        load_flow(folder, TINY)
