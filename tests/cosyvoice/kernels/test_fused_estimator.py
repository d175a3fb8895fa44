"""The flow by kernels equals the flow by PyTorch: mels, pages and tails, in whatever batches the chunks come."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from cosyserve.cosyvoice.kernels import (
    causal_conv,
    euler_step,
    gated_norm,
    group_conv,
    linear_residual,
    norm_linear,
    norm_mish,
    paged_attention,
    turn_append,
)
from cosyserve.cosyvoice.kernels.kernels import Kernels
from cosyserve.cosyvoice.kernels.tile import Tile
from cosyserve.cosyvoice.model import dit
from cosyserve.cosyvoice.model.config import MELS
from cosyserve.cosyvoice.model.flow import Chunk, Solver
from cosyserve.cosyvoice.runtime.flow_batch import FlowBatch, FlowState, Work
from cosyserve.cosyvoice.runtime.flow_memory import CHUNK
from cosyserve.cosyvoice.runtime.memory import pages_behind
from tests.cosyvoice.seeded import SHALLOW, SHALLOW3, seeded, seeded3

STREAMS = 3


@pytest.fixture(scope="module", params=["CosyVoice2", "CosyVoice3"])
def flow(request: pytest.FixtureRequest) -> Solver:
    """As small as the interpreter is slow."""
    if request.param == "CosyVoice3":
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(dit, "GROUPS", 2)  # each of which is a program
            return seeded3(replace(SHALLOW3, flow=replace(SHALLOW3.flow, steps=2))).flow
    smaller = replace(SHALLOW.flow.estimator, mid_blocks=2)
    return seeded(replace(SHALLOW, flow=replace(SHALLOW.flow, estimator=smaller, steps=2))).flow


class Streams:
    """The same chunks, moved by one of both."""

    def __init__(self, flow: Solver, kernels: Kernels | None) -> None:
        self.batch = FlowBatch(flow, STREAMS, STREAMS * pages_behind(CHUNK), CHUNK, None, kernels)
        self._states: dict[int, FlowState] = {}

    def move(self, sizes: dict[int, list[int]]) -> list[Tensor]:
        """So many frames of each chunk of a stream, all in one batch."""
        works = []
        for stream, chunks in sizes.items():
            state = self._states.get(stream) or self.batch.begin()
            self._states[stream] = state
            for ahead, frames in enumerate(chunks):
                number = state.moved + ahead
                random = torch.Generator().manual_seed(1000 * stream + number)
                mean, prompt = (torch.randn(1, MELS, frames, generator=random) for _ in range(2))
                speaker = torch.randn(1, MELS, generator=torch.Generator().manual_seed(stream))
                works.append(Work(state, Chunk(number * CHUNK, mean, prompt, 0), speaker, ends_recording=True))
        return [tensor for moved in self.batch.move(works) for tensor in (moved.mel, moved.tails) if tensor is not None]


BATCHES: list[dict[int, list[int]]] = [
    {0: [CHUNK, CHUNK], 1: [CHUNK]},  # two chunks of one stream at once, as of a recording
    {1: [7], 0: [CHUNK]},  # the end of a stream
    {0: [CHUNK], 2: [9]},  # more chunks than the stream has pages, and another one that begins
]
TILES = {
    norm_linear: ("_SMALL", "_MIDDLE"),
    linear_residual: ("_SMALL", "_MIDDLE"),
    euler_step: ("_TILE",),
    causal_conv: ("_SMALL", "_LARGE"),
    norm_mish: ("_SMALL",),
}


@pytest.fixture
def few_programs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Large tiles, as the interpreter's time goes by the number of programs; but two of them for each past."""
    monkeypatch.setattr(paged_attention, "_CHOICES", ((8, Tile(64, paged_attention._KEYS), 2),))
    for kernel, names in TILES.items():
        for name in names:
            monkeypatch.setattr(kernel, name, Tile(128, 256, 128))
    for name in ("_SMALL", "_LARGE"):
        monkeypatch.setattr(group_conv, name, Tile(64, 64))
    monkeypatch.setattr(gated_norm, "_ROWS", 128)
    monkeypatch.setattr(turn_append, "_FRAMES", 128)


@pytest.mark.usefixtures("few_programs")
def test_any_batches_of_any_streams(flow: Solver) -> None:
    """Slow: Triton's interpreter runs every program in Python."""
    ours, reference = Streams(flow, Kernels()), Streams(flow, None)
    for batch in BATCHES:
        for mine, theirs in zip(ours.move(batch), reference.move(batch), strict=True):
            torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-4)
