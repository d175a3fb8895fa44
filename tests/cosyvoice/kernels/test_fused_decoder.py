"""Tokens by kernels equal tokens by PyTorch, for requests of differing length side by side."""

import pytest

from cosyserve.cosyvoice.kernels import decode_attention, rms_linear
from cosyserve.cosyvoice.kernels.tile import Tile
from cosyserve.cosyvoice.model.qwen2 import Llm
from cosyserve.cosyvoice.runtime import fused_decoder
from cosyserve.cosyvoice.runtime.generation import Generator
from tests.cosyvoice.seeded import TINY, fill
from tests.cosyvoice.test_generation import request, run

_LENGTH = 26  # from 16 to 18 for the prompts: a slot's room ends what would go on


@pytest.fixture
def few_programs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Large tiles, as the interpreter's time goes by the number of programs; but several splits of attention."""
    for module in (fused_decoder, rms_linear):
        monkeypatch.setattr(module, "_TILE", Tile(16, 8192, 128))
    monkeypatch.setattr(decode_attention, "_KEYS", 16)
    monkeypatch.setattr(fused_decoder, "_PROGRAMS", 8)


@pytest.mark.usefixtures("few_programs")
def test_requests_side_by_side() -> None:
    llm = fill("llm", Llm(TINY.llm))
    requests = [request(1, text=1), request(2, text=3, temperature=0.0), request(3, text=2, temperature=1.3)]
    by_kernels, by_torch = (run(Generator(llm, 2, _LENGTH, kernels=kernels), requests) for kernels in (True, False))
    assert by_kernels == by_torch
    assert len({len(spoken) for spoken in by_torch}) > 1
