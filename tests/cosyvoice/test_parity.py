"""The model against the reference outputs; tests/cosyvoice/golden/README.md says what they are."""

import json

import pytest
import torch
from torch import nn

from cosyserve.cosyvoice.model.causal_hift import CausalHift
from cosyserve.cosyvoice.model.flow import DitFlow, Flow
from cosyserve.cosyvoice.model.hift import Hift
from cosyserve.cosyvoice.model.qwen2 import Llm
from cosyserve.cosyvoice.model.source import Source
from tests.cosyvoice.seeded import SIZES, SIZES3, seeded, seeded3
from tests.parity import GOLDEN, TOLERANCE, compare, tolerance

# The full sizes are slow: all of a model's arithmetic in float32 on two cores. They leave out what is ten steps of the
# estimator once more, the mel by chunks and with the chunks' mask: one step with the mask is compared, and ten without
# it. `python -m tests.parity` compares them, too.
BY_CHUNKS = ("mel_streammask", "mel_chunked")
BY_CHUNKS3 = (*BY_CHUNKS, "wav_model_stream")


@pytest.mark.parametrize(
    ("size", "without"),
    [pytest.param("tiny", (), id="tiny"), pytest.param("full", BY_CHUNKS, marks=pytest.mark.slow, id="full")],
)
def test_every_array_is_the_reference_s(size: str, without: tuple[str, ...]) -> None:
    reference, vocoder = GOLDEN / f"{size}.npz", GOLDEN / f"{size}_vocoder.npz"
    errors = dict(compare(seeded(SIZES[size]), reference, vocoder=vocoder, without=without))
    assert len(errors) == 15 - len(without)
    assert {name: error for name, error in errors.items() if not error <= tolerance(name)} == {}


@pytest.mark.parametrize(
    ("size", "without"),
    [
        pytest.param("tiny3", (), id="tiny3"),
        pytest.param("full3", BY_CHUNKS3, marks=pytest.mark.slow, id="full3"),
    ],
)
def test_every_array_of_cosyvoice3_is_the_reference_s(size: str, without: tuple[str, ...]) -> None:
    errors = dict(compare(seeded3(SIZES3[size]), GOLDEN / f"{size}.npz", without=without))
    assert len(errors) == 22 - len(without)
    assert {name: error for name, error in errors.items() if not error <= tolerance(name, 3)} == {}


@pytest.mark.parametrize("size", SIZES3)
def test_keys_and_shapes_of_cosyvoice3_are_those_of_the_released_files(size: str) -> None:
    config = SIZES3[size]
    with torch.device("meta"):
        modules: dict[str, nn.Module] = {
            "llm": Llm(config.llm),
            "flow": DitFlow(config.flow),
            "hift": CausalHift(config.hift),
        }
    assert keys_of(modules) == json.loads((GOLDEN / f"{size}_keys.json").read_text())


def keys_of(modules: dict[str, nn.Module]) -> dict[str, dict[str, list[int]]]:
    return {
        name: {key: list(each.shape) for key, each in module.state_dict().items()} for name, module in modules.items()
    }


@pytest.mark.parametrize("size", SIZES)
def test_keys_and_shapes_are_those_of_the_released_files(size: str) -> None:
    config = SIZES[size]
    with torch.device("meta"):
        modules: dict[str, nn.Module] = {"llm": Llm(config.llm), "flow": Flow(config.flow), "hift": Hift(config.hift)}
    assert keys_of(modules) == json.loads((GOLDEN / f"{size}_keys.json").read_text())


def test_a_wrong_output_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    model = seeded(SIZES["tiny"])
    with torch.no_grad():
        model.flow.encoder_proj.bias.add_(0.01)
    drawn = torch.rand(9, dtype=torch.float64)  # where each harmonic begins
    turns = Source.turns
    monkeypatch.setattr(Source, "turns", lambda source, f0: turns(source, f0) + drawn)
    errors = dict(compare(model, GOLDEN / "tiny.npz", vocoder=GOLDEN / "tiny_vocoder.npz"))
    assert errors["mu"] > TOLERANCE
    assert errors["mel_chunked"] > TOLERANCE
    assert errors["llm_logits_last"] <= TOLERANCE
    assert errors["sines"] > tolerance("sines")
