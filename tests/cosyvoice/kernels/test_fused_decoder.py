"""Tokens by kernels equal tokens by PyTorch, for requests of differing length side by side."""

from dataclasses import replace

import pytest

from cosyserve.cosyvoice.kernels import (
    decode_attention,
    linear_residual,
    norm_linear,
    prompt_attention,
    rms_linear,
    rotary_append,
)
from cosyserve.cosyvoice.kernels.kernels import Kernels
from cosyserve.cosyvoice.kernels.tile import Tile
from cosyserve.cosyvoice.model.config import LlmConfig
from cosyserve.cosyvoice.model.qwen2 import Llm
from cosyserve.cosyvoice.runtime.generation import Generator
from tests.cosyvoice.seeded import SIZES3, TINY, fill
from tests.cosyvoice.test_generation import request, run
from tests.cosyvoice.test_interleaving import Writer, ids, live_request
from tests.cosyvoice.test_interleaving import run as turns

_LENGTH = 26  # from 16 to 18 for the prompts: a slot's room ends what would go on


@pytest.fixture
def few_programs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Large tiles, as the interpreter's time goes by the number of programs; but several splits of attention."""
    tile = Tile(16, 8192, 128)
    for module, name in ((norm_linear, "_SMALL"), (linear_residual, "_FEW"), (linear_residual, "_LONG")):
        monkeypatch.setattr(module, name, tile)
    for module, name in ((rms_linear, "_TILE"), (linear_residual, "_PROMPT")):
        monkeypatch.setattr(module, name, Tile(32, 8192, 128))
    monkeypatch.setattr(prompt_attention, "_TILE", Tile(32, 16))
    monkeypatch.setattr(rotary_append, "_ROWS", 32)
    monkeypatch.setattr(decode_attention, "_KEYS", 16)


SMALL3 = replace(SIZES3["tiny3"].llm, vocabulary=TINY.llm.vocabulary)


@pytest.mark.usefixtures("few_programs")
@pytest.mark.parametrize("config", [TINY.llm, SMALL3], ids=["CosyVoice2", "CosyVoice3"])
def test_requests_side_by_side(config: LlmConfig) -> None:
    llm = fill("llm", Llm(config))
    requests = [request(1, text=1), request(2, text=3, temperature=0.0), request(3, text=2, temperature=1.3)]
    by_torch = run(Generator(llm, 2, _LENGTH), requests)
    by_kernels = run(Generator(llm, 2, _LENGTH, piece=8, kernels=Kernels()), requests)
    assert by_kernels == by_torch
    assert len({len(spoken) for spoken in by_torch}) > 1


@pytest.mark.usefixtures("few_programs")
def test_text_and_speech_in_turns() -> None:
    """Beside prompts of other lengths, which are read together and end one before the other."""
    llm = fill("llm", Llm(TINY.llm))

    def spoken(generator: Generator) -> list[list[int]]:
        pieces = [[ids(1, 7), ids(2, 5)], [ids(3, 2), ids(4, 6)]]
        writers = [
            Writer(generator, live_request(seed, words=1, recorded=4 * seed), text) for seed, text in enumerate(pieces)
        ]
        turns(generator, writers)
        return [writer.spoken for writer in writers]

    by_torch = spoken(Generator(llm, 2, _LENGTH))
    assert spoken(Generator(llm, 2, _LENGTH, piece=8, kernels=Kernels())) == by_torch


@pytest.mark.usefixtures("few_programs")
def test_prompts_that_are_read_together_end_one_before_the_other() -> None:
    llm = fill("llm", Llm(TINY.llm))
    generator = Generator(llm, 2, 2 * _LENGTH, piece=8, kernels=Kernels())
    slots = [generator.add(request(1, text=8)), generator.add(request(2, text=1))]
    told = [slot for _ in range(4) for slot, _ in generator.advance()]
    assert told[0] is slots[1] and slots[0] in told
