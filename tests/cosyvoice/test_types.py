"""The model in other number types: how far it strays, and that all of it runs in them."""

from pathlib import Path

import pytest
import torch

from cosyserve import errors
from cosyserve.cosyvoice.model.int8 import Int8Linear, quantised
from cosyserve.cosyvoice.model.qwen2 import Llm
from cosyserve.cosyvoice.model.rounding import Comparison, compare
from cosyserve.cosyvoice.runtime.generation import Generator
from cosyserve.cosyvoice.runtime.hops import Hops
from cosyserve.cosyvoice.runtime.request import Request
from cosyserve.cosyvoice.runtime.token2wav import SingleToken2Wav
from cosyserve.errors import CosyError
from cosyserve.settings import Settings
from cosyserve.speech import number_type
from cosyserve.speech.runtime_config import RuntimeConfig, config_for
from tests.cosyvoice.seeded import TINY, fill, seeded
from tests.cosyvoice.test_token2wav import mels_of, prompt, tokens_of

NOTHING = torch.empty(0, dtype=torch.long)


def scores(llm: Llm) -> torch.Tensor:
    cache = llm.cache(1, 40)
    llm.prefill(llm.prompt(torch.arange(12), torch.arange(20)), cache, 0)
    return llm.decode(torch.tensor([7]), torch.tensor([34]), cache)[0].float()


def int8() -> Llm:
    return quantised(fill("llm", Llm(TINY.llm)).to(torch.bfloat16))


def test_eight_bits_stay_near_the_exact_scores_and_take_less_memory() -> None:
    exact, small = fill("llm", Llm(TINY.llm)), int8()
    assert (scores(small) - scores(exact)).norm() / scores(exact).norm() < 0.05
    assert sum(isinstance(each, Int8Linear) for each in small.modules()) == 7 * TINY.llm.layers + 1
    matrices = [each.weight for each in small.modules() if isinstance(each, Int8Linear)]
    assert {weight.dtype for weight in matrices} == {torch.int8}


@pytest.mark.parametrize("llm", ["bfloat16", "int8"])
def test_requests_are_repeatable_in_every_type(llm: str) -> None:
    model = int8() if llm == "int8" else fill("llm", Llm(TINY.llm)).to(torch.bfloat16)

    def spoken(others: int) -> list[int]:
        generator = Generator(model, 3, 200)
        for seed in range(others):
            generator.add(Request(torch.arange(4), NOTHING, NOTHING, seed=100 + seed))
        slot = generator.add(Request(torch.arange(3), NOTHING, torch.arange(9), seed=1))
        told = []
        while not slot.done:
            told += [token for each, token in generator.advance() if each is slot]
        return told

    assert spoken(0) == spoken(1) == spoken(2)


def test_the_flow_runs_in_bfloat16() -> None:
    exact, other = seeded(TINY), seeded(TINY)
    other.flow.to(torch.bfloat16).noise = exact.flow.noise
    mels = []
    for model in (exact, other):
        token2wav = SingleToken2Wav(model.flow, model.hift, Hops(), voices=1, keep_tokens=None)
        stream = token2wav.stream(prompt(40), 0)
        mels += mels_of(token2wav, [stream], [tokens_of(60, 0)])
        (wave,) = token2wav.waves([stream], [(mels[-1].float(), True)])
        assert len(wave) > 0
    assert (mels[1] - mels[0]).norm() / mels[0].norm() < 0.05


def test_what_the_settings_come_to() -> None:
    on_cpu = config_for(Settings(device="cpu", dtype="float32"), threads=2)
    assert (on_cpu.device, on_cpu.bound.streams, on_cpu.bound.by, on_cpu.keep_tokens) == ("cpu", 2, "processor", 375)
    assert config_for(Settings(device="cpu", dtype="float32", past_seconds=0, max_streams=1), 2).keep_tokens is None
    assert on_cpu.recording_tokens == 200
    assert config_for(Settings(device="cpu", dtype="float32", past_seconds=5), 2).recording_tokens == 75


class Processor:
    """A stand-in: what /proc/cpuinfo says of it, and how fast it is. It counts how often it is timed."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.cpuinfo, self.takes, self.timed = folder / "cpuinfo", Comparison(0.8, 0.7), 0
        self.has("fpu avx512_bf16")
        monkeypatch.setattr(number_type, "_CPUINFO", self.cpuinfo)
        monkeypatch.setattr(number_type, "compare", self.compare)

    def has(self, instructions: str, name: str = "flags") -> None:
        self.cpuinfo.write_text(f"processor\t: 0\nmodel name\t: stand-in\n{name}\t\t: {instructions}\n\n")

    def compare(self) -> Comparison:
        self.timed += 1
        return self.takes


@pytest.fixture
def processor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Processor:
    return Processor(tmp_path, monkeypatch)


def chosen(folder: Path, dtype: str = "auto") -> RuntimeConfig:
    return config_for(Settings(device="cpu", dtype=dtype, state_dir=folder / "state"), 2)


@pytest.mark.parametrize(
    ("takes", "dtype"),
    [
        (Comparison(token=0.83, flow=0.65), "bfloat16"),  # one processor with avx512_bf16
        (Comparison(token=1.14, flow=1.27), "float32"),  # another one
        (Comparison(token=0.8, flow=1.3), "float32"),  # no part is to be slower
        (Comparison(token=1.1, flow=0.5), "float32"),
        (Comparison(token=0.99, flow=0.99), "float32"),  # not worth the rounding
    ],
)
def test_auto_takes_what_is_faster_in_every_part_and_says_why(
    tmp_path: Path, processor: Processor, takes: Comparison, dtype: str
) -> None:
    processor.takes = takes
    auto, small = chosen(tmp_path), chosen(tmp_path, "int8")
    assert (str(auto), str(small)) == (dtype, f"{dtype} + int8")
    for text in (auto.why.en, auto.why.zh, small.why.en):
        assert dtype in text
        assert f"{takes.token:.2f}" in text
        assert f"{takes.flow:.2f}" in text
    assert "COSYSERVE_DTYPE" in chosen(tmp_path, "float16").why.en


def test_a_processor_is_timed_once(tmp_path: Path, processor: Processor) -> None:
    first = chosen(tmp_path)
    processor.takes = Comparison(2, 2)  # a busy moment
    assert chosen(tmp_path) == first
    assert processor.timed == 1
    processor.has("fpu avx512_bf16 amx_bf16")  # the folder has moved to another machine
    assert chosen(tmp_path) != first
    assert processor.timed == 2


@pytest.mark.parametrize("kept", ["rubbish", "[]", '{"key": 1}', '{"key": {}, "found": {}}'])
def test_what_was_kept_may_be_anything(tmp_path: Path, processor: Processor, kept: str) -> None:
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "number-type.json").write_text(kept)
    assert str(chosen(tmp_path)) == "bfloat16"
    assert processor.timed == 1


def test_where_nothing_can_be_kept_it_is_chosen_all_the_same(tmp_path: Path, processor: Processor) -> None:
    (tmp_path / "state").write_text("a file")
    assert [str(chosen(tmp_path)) for _ in range(2)] == ["bfloat16", "bfloat16"]
    assert processor.timed == 2


@pytest.mark.parametrize(("name", "instructions"), [("flags", "fpu avx2"), ("Features", "fp asimd"), ("Features", "")])
def test_without_instructions_for_it_nothing_is_timed(
    tmp_path: Path, processor: Processor, name: str, instructions: str
) -> None:
    processor.has(instructions, name)
    assert str(chosen(tmp_path)) == "float32"
    processor.has("fp asimd bf16", "Features")
    assert str(chosen(tmp_path)) == "bfloat16"
    assert processor.timed == 1


def test_both_types_are_timed() -> None:
    threads = torch.get_num_threads()
    found = compare()
    assert found.token > 0
    assert found.flow > 0
    assert torch.get_num_threads() == threads


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_a_device_that_is_not_there_is_said() -> None:
    with pytest.raises(CosyError) as refused:
        config_for(Settings(device="cuda"), 2)
    assert refused.value.fault is errors.NO_CUDA
