"""The model in other number types: how far it strays, and that all of it runs in them."""

from pathlib import Path

import pytest
import torch

from cosyserve import errors
from cosyserve.cosyvoice2.generation import Generator, Request
from cosyserve.cosyvoice2.int8 import Int8Linear, quantised
from cosyserve.cosyvoice2.qwen2 import Llm
from cosyserve.cosyvoice2.voicing import Hops, SingleVoicing
from cosyserve.errors import CosyError
from cosyserve.settings import Settings
from cosyserve.speech import way
from cosyserve.speech.way import way_of
from tests.cosyvoice2.seeded import TINY, fill, seeded
from tests.cosyvoice2.test_voicing import mels_of, prompt, tokens_of

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
        voicing = SingleVoicing(model.flow, model.hift, Hops(), voices=1, keep_tokens=None)
        stream = voicing.stream(prompt(40), 0)
        mels += mels_of(voicing, [stream], [tokens_of(60, 0)])
        assert len(stream.wave(mels[-1].float(), True)) > 0
    assert (mels[1] - mels[0]).norm() / mels[0].norm() < 0.05


def test_what_the_settings_come_to() -> None:
    on_cpu = way_of(Settings(device="cpu"), threads=2)
    assert (on_cpu.device, on_cpu.bound.streams, on_cpu.bound.by, on_cpu.keep_tokens) == ("cpu", 2, "processor", 375)
    assert way_of(Settings(device="cpu", past_seconds=0, max_streams=1), 2).keep_tokens is None
    assert on_cpu.recording_tokens == 200
    assert way_of(Settings(device="cpu", past_seconds=5), 2).recording_tokens == 75


@pytest.mark.parametrize(
    ("flags", "dtype"),
    [
        ("avx2 avx512_bf16 avx512_vnni", "float32"),  # AMD's Zen 4 and 5, Intel's Cooper Lake
        ("avx512_bf16 amx_bf16 amx_tile amx_int8", "bfloat16"),  # Intel's Xeons since Sapphire Rapids
        ("asimd bf16 i8mm", "float32"),
        ("", "float32"),
    ],
)
def test_the_number_type_is_the_one_that_is_fast_there_and_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flags: str, dtype: str
) -> None:
    """The processor is a stand-in, as /proc/cpuinfo describes it."""
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text(f"model name\t: stand-in\nflags\t\t: fpu {flags}\n")
    monkeypatch.setattr(way, "_CPUINFO", cpuinfo)
    auto, small, asked = (way_of(Settings(device="cpu", dtype=name), 2) for name in ("auto", "int8", "float16"))
    assert (str(auto), str(small), str(asked)) == (dtype, f"{dtype} + int8", "float16")
    assert all("AMX" in text for each in (auto, small) for text in (each.why.en, each.why.zh))
    assert "COSYSERVE_DTYPE" in asked.why.en


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_a_device_that_is_not_there_is_said() -> None:
    with pytest.raises(CosyError) as refused:
        way_of(Settings(device="cuda"), 2)
    assert refused.value.fault is errors.NO_CUDA
