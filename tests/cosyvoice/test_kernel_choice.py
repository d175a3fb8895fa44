"""Which kernels are chosen where a card is. The card is a stand-in, and so are the kernels and their self-test."""

import logging
import os
import sys
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any, cast

import pytest
import torch

from cosyserve.cosyvoice.model.config import Config
from cosyserve.host import gpu, kernels
from cosyserve.host.gpu import Card
from cosyserve.host.kernels import Lack
from cosyserve.host.report import Text
from cosyserve.settings import Settings
from cosyserve.speech import cosyvoice, kernel_choice, parts
from cosyserve.speech.cosyvoice import CosyVoiceSynthesizer
from cosyserve.speech.kernel_choice import KernelChoice, KernelsInUse, choose
from cosyserve.speech.parts import MakeGenerator, Parts
from cosyserve.speech.runtime_config import config_for
from cosyserve.store.kernel_tests import SelfTest, recall
from cosyserve.store.kernels import folder_of
from cosyserve.store.manifest import MODEL_FOLDER
from tests.cosyvoice.seeded import TINY, seeded

CARD = Card("Stand-in 4090", "550.54", 8.9, 24564, 24000)


@dataclass(frozen=True)
class StandIn:
    flow: str = "triton"
    draw: str = "triton"


Found = tuple[StandIn, dict[str, str]]
Begins = Callable[[str], object]
Test = Callable[[Config, torch.Tensor, list[str], Begins], Found]


def passed(config: Config, like: torch.Tensor, broken: list[str], begins: Begins) -> Found:
    for name in ("flow", "draw"):
        begins(name)
    return StandIn(), {}


@pytest.fixture
def card(monkeypatch: pytest.MonkeyPatch) -> Callable[[Test], None]:
    """A card with all that is needed; called with another self-test it has that one."""
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (8, 9))
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)
    monkeypatch.setattr(torch, "empty", lambda *_, dtype, device: torch.zeros(0, dtype=dtype))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "by its own name")
    monkeypatch.setattr(gpu, "first_card", lambda _: CARD)
    monkeypatch.setattr(kernel_choice, "lack", lambda *_: None)
    monkeypatch.setitem(sys.modules, "triton", ModuleType("triton"))
    monkeypatch.setenv("TRITON_CACHE_DIR", "")  # so that it is put back
    monkeypatch.delenv("TRITON_CACHE_DIR")

    def tested_by(test: Test) -> None:
        module = ModuleType("self_test")
        module.self_tested = test  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "cosyserve.cosyvoice.kernels.self_test", module)

    tested_by(passed)
    return tested_by


def on_card(state_dir: Path, dtype: torch.dtype = torch.bfloat16) -> KernelChoice:
    return choose("cuda", dtype, TINY, state_dir)


def kernels_of(chosen: KernelChoice) -> object:
    """Stand-ins, of another type than the real ones."""
    return chosen.kernels


def found_in(state_dir: Path) -> SelfTest | None:
    return recall(folder_of(state_dir, kernels.key(CARD)))


def test_a_processor_has_pytorchs_and_nothing_is_looked_for(tmp_path: Path) -> None:
    chosen = choose("cpu", torch.bfloat16, TINY, tmp_path)
    assert chosen.kernels is None
    assert (chosen.in_use.by, chosen.in_use.reason) == ("torch", "processor")
    assert list(tmp_path.iterdir()) == []


def test_a_card_has_tritons(tmp_path: Path, card: object) -> None:
    chosen = on_card(tmp_path)
    assert kernels_of(chosen) == StandIn()
    assert (chosen.in_use.by, chosen.in_use.reason, chosen.in_use.replaced) == ("triton", "available", {})
    assert "Triton's" in chosen.in_use.why
    assert found_in(tmp_path) == SelfTest()


def test_what_lacks_is_told_in_both_languages(
    tmp_path: Path, card: object, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    asked: list[object] = []

    def lack(machine: object, capability: float, dtype: str) -> Lack:
        asked.extend((capability, dtype))
        return Lack("headers", Text("there are no headers", "没有头文件"), Text("install them", "请安装"))

    monkeypatch.setattr(kernel_choice, "lack", lack)
    with caplog.at_level(logging.INFO):
        told = on_card(tmp_path, torch.float32).in_use
    assert asked == [8.9, "float32"]
    assert (told.by, told.reason) == ("torch", "headers")
    assert told.why == "Its kernels are PyTorch's, because there are no headers. To change that: install them."
    assert told.why_zh == "使用 PyTorch 内核：没有头文件。如需 Triton 内核：请安装。"
    assert told.why in caplog.text


def test_a_triton_that_cannot_be_loaded(tmp_path: Path, card: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "triton", None)
    chosen = on_card(tmp_path)
    assert (chosen.kernels, chosen.in_use.reason) == (None, "triton")
    found = found_in(tmp_path)
    assert found is not None and "cannot be loaded" in found.problem


def test_a_kernel_that_is_off_is_replaced_and_named(tmp_path: Path, card: Callable[[Test], None]) -> None:
    card(lambda *_: (StandIn(draw="torch"), {"draw": "off by 0.5"}))
    chosen = on_card(tmp_path)
    assert kernels_of(chosen) == StandIn(draw="torch")
    assert chosen.in_use.by == "triton"
    assert chosen.in_use.replaced == {"draw": "off by 0.5"}
    assert "(draw)" in chosen.in_use.why
    assert "（draw）" in chosen.in_use.why_zh
    assert found_in(tmp_path) == SelfTest(replaced={"draw": "off by 0.5"})


def raising(config: Config, like: torch.Tensor, broken: list[str], begins: Begins) -> Found:
    raise RuntimeError("ptxas died\nwith much to say")


@pytest.mark.parametrize(
    "test", [raising, lambda *_: (StandIn("torch", "torch"), {"flow": "ptxas died", "draw": "ptxas died"})]
)
def test_where_none_is_right_pytorchs_path_speaks(tmp_path: Path, card: Callable[[Test], None], test: Test) -> None:
    card(test)
    chosen = on_card(tmp_path)
    assert (chosen.kernels, chosen.in_use.by, chosen.in_use.reason) == (None, "torch", "self_test")
    assert "ptxas died" in chosen.in_use.why
    assert "much to say" not in chosen.in_use.why
    assert found_in(tmp_path) == SelfTest(problem="ptxas died")


def test_what_spoils_the_card_ends_this_process_and_is_left_out_by_the_next(
    tmp_path: Path, card: Callable[[Test], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    known: list[list[str]] = []

    def spoiling(config: Config, like: torch.Tensor, broken: list[str], begins: Begins) -> Found:
        known.append(broken)
        assert (config, like.dtype) == (TINY, torch.bfloat16)
        if broken:
            return StandIn(flow="torch"), {"flow": "it ended the process before"}
        begins("flow")
        begins("draw")
        return StandIn("torch", "torch"), {"flow": "illegal access", "draw": "illegal access"}

    def out_of_order() -> None:
        raise RuntimeError("CUDA error")

    card(spoiling)
    with monkeypatch.context() as spoilt, pytest.raises(RuntimeError):
        spoilt.setattr(torch.cuda, "synchronize", out_of_order)
        on_card(tmp_path)
    chosen = on_card(tmp_path)
    assert known == [[], ["flow"]]
    assert kernels_of(chosen) == StandIn(flow="torch")
    assert "flow" in chosen.in_use.replaced


def test_what_is_compiled_is_kept_in_the_state_folder(tmp_path: Path, card: Callable[[Test], None]) -> None:
    def compiling(*_: object) -> Found:
        (Path(os.environ["TRITON_CACHE_DIR"]) / "compiled").write_text("")
        return StandIn(), {}

    card(compiling)
    on_card(tmp_path)
    folder = folder_of(tmp_path, kernels.key(CARD))
    assert (folder / "compiled").exists()
    assert all(part in folder.name for part in ("Stand-in-4090", "8.9", "550.54", "triton", "torch"))


def test_who_has_set_tritons_folder_keeps_it(tmp_path: Path, card: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path / "mine"))
    on_card(tmp_path / "state")
    assert os.environ["TRITON_CACHE_DIR"] == str(tmp_path / "mine")


@pytest.mark.parametrize("place", ["file", "/proc/nowhere", "~nobody-is-called-so/state"])
def test_a_state_folder_that_cannot_be_written_keeps_nobody_from_starting(
    tmp_path: Path, card: object, caplog: pytest.LogCaptureFixture, place: str
) -> None:
    (tmp_path / "file").write_text("")
    chosen = on_card(tmp_path / "file" if place == "file" else Path(place))
    assert kernels_of(chosen) == StandIn()
    assert Path(os.environ["TRITON_CACHE_DIR"]).is_dir()
    assert [each.levelname for each in caplog.records].count("WARNING") == 1
    assert "cannot be kept" in caplog.text


def test_a_card_that_nvidia_smi_does_not_list_has_its_own_folder(
    tmp_path: Path, card: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gpu, "first_card", lambda _: None)
    on_card(tmp_path)
    (folder,) = (tmp_path / "kernels").iterdir()
    assert "by-its-own-name" in folder.name


def test_more_streams_are_made_with_the_same_kernels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[object] = []

    def token2wav(*_: object, kernels: object) -> object:
        given.append(kernels)
        return object()

    @dataclass
    class Slots:
        slots: int

    monkeypatch.setattr(parts, "BatchedToken2Wav", token2wav)
    monkeypatch.setattr(Parts, "_room", lambda _: 64 * 2.0**30)
    model, kernels = seeded(TINY), StandIn()
    config = replace(config_for(Settings(device="cpu", dtype="float32", state_dir=tmp_path), 1), device="cuda")
    generator = cast("MakeGenerator", Slots)
    made = Parts(generator, TINY, model.flow, model.hift, config, cast("Any", kernels)).made
    made(1)
    made(2)
    assert given == [kernels, kernels]


def test_what_was_chosen_reaches_who_asks_the_synthesizer(
    models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = KernelsInUse("torch", "compiler", "because", "因为")
    monkeypatch.setattr(cosyvoice, "choose", lambda *_: KernelChoice(None, told))
    config = config_for(Settings(device="cpu", dtype="float32", state_dir=tmp_path), 1)
    with closing(CosyVoiceSynthesizer(models / MODEL_FOLDER, tmp_path / "voices", config)) as synthesizer:
        assert synthesizer.kernels == told
