"""Each kernel of the vocoder equals its reference, on small and odd shapes, by Triton's interpreter."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from cosyserve.cosyvoice.kernels import level_sum, vocoder_conv
from cosyserve.cosyvoice.kernels.kernels import REFERENCES, Kernel, Kernels
from cosyserve.cosyvoice.kernels.tile import Tile
from cosyserve.cosyvoice.kernels.vocoder_conv import Begin, Convs, rounded
from cosyserve.cosyvoice.model.config import SAMPLES_PER_FRAME
from cosyserve.cosyvoice.model.hift import Filtered, Hift
from cosyserve.cosyvoice.runtime.fused_hift import FusedHift
from tests.cosyvoice.kernels.test_flow_kernels import SEEDS, TILES, Random
from tests.cosyvoice.kernels.unshrunk import UNSHRUNK
from tests.cosyvoice.seeded import TINY, fill

SOME = settings(max_examples=25, phases=UNSHRUNK)


def near(ours: Tensor, reference: Tensor, apart: float = 3e-4) -> None:
    """Within float32's rounding, after which a few may be rounded to the next number of TF32."""
    found = float((ours - reference).norm())
    assert found <= apart * float(reference.norm()) + 1e-6, found / float(reference.norm())


@SOME
@given(
    seed=SEEDS,
    taps=st.lists(st.integers(1, 5), min_size=1, max_size=3),
    batch=st.integers(1, 3),
    length=st.integers(1, 20),
    channels=st.integers(1, 40),
    columns=st.integers(1, 40),
    stride=st.integers(1, 3),
    dilation=st.integers(1, 3),
    slope=st.sampled_from((1.0, 0.1)),
    begins=st.booleans(),
    shared=st.booleans(),
    adds=st.booleans(),
    activates=st.booleans(),
    rounds=st.booleans(),
    exact=st.booleans(),
    tile=TILES,
)
def test_convolutions_side_by_side(
    seed: int,
    taps: list[int],
    batch: int,
    length: int,
    channels: int,
    columns: int,
    stride: int,
    dilation: int,
    slope: float,
    begins: bool,
    shared: bool,
    adds: bool,
    activates: bool,
    rounds: bool,
    exact: bool,
    tile: Tile,
) -> None:
    random, groups, count = Random(seed, torch.float32), len(taps), max(1, length // stride)
    weights = [random(columns, channels, each, scale=(channels * each) ** -0.5) for each in taps]
    lefts = [dilation * (each - 1) // 2 for each in taps]
    convs = Convs.of(weights, list(random(groups, columns)), lefts, stride, exact=exact)
    x = random(1 if shared else groups, batch, length, channels).expand(groups, -1, -1, -1)
    x = x if rounds else rounded(x)
    new = random(1 if shared else groups, batch, count, columns).expand(groups, -1, -1, -1) if adds else None
    begin = Begin(random.integers(0, count + 1, batch), 1) if begins else None
    alpha = 1 + random(groups, columns, scale=0.1) if activates else None
    made = []
    ways: list[tuple[Kernel, dict[str, Tile]]]
    ways = [(vocoder_conv.vocoder_conv, {"tile": tile}), (REFERENCES.vocoder_conv, {})]
    for by, options in ways:
        out = torch.full((groups, batch, count, columns), 7.0)
        activated = torch.full_like(out, 7.0) if activates else None
        same: dict[str, Any] = {
            "dilation": dilation,
            "slope": slope,
            "begin": begin,
            "new": new,
            "alpha": alpha,
            "round_x": rounds,
        }
        by(x, convs, out, activated=activated, **same, **options)
        made.append((out, activated))
    for ours, reference in zip(*made, strict=True):
        assert (ours is None) == (reference is None)
        if ours is not None and reference is not None:
            near(ours, reference)


@SOME
@given(
    seed=SEEDS,
    groups=st.integers(1, 3),
    batch=st.integers(1, 3),
    count=st.integers(3, 40),
    channels=st.integers(1, 40),
    later=st.booleans(),
    begins=st.booleans(),
)
def test_sum_and_activations(
    seed: int, groups: int, batch: int, count: int, channels: int, later: bool, begins: bool
) -> None:
    random = Random(seed, torch.float32)
    x, new = random(batch, count - later, channels), random(batch, count, channels)
    alpha, begin = 1 + random(groups, channels, scale=0.1), None
    if begins:
        begin = Begin(random.integers(0, count - 2, batch), 1)
    made = []
    for by in (level_sum.level_sum, level_sum.reference):
        out, activated = torch.empty_like(new), new.new_empty(groups, *new.shape)
        by(x, new, alpha, out, activated, begin)
        made.append((out, activated))
    for ours, reference in zip(*made, strict=True):
        near(ours, reference)


@pytest.fixture(scope="module")
def hift() -> Hift:
    return fill("hift", Hift(TINY.hift))


def wave(by: Filtered, *, begins: bool) -> Tensor:
    """Of two streams, the second of which may begin within its window."""
    random, begin = Random(0, torch.float32), None
    mel, source = random(2, 80, 5), random(2, 1, 5 * SAMPLES_PER_FRAME, scale=0.1)
    heard = torch.ones(1, dtype=torch.bool)
    if begins:
        begin = torch.tensor([[0, 5], [2, 5]])[:, :1]  # a column, as the vocoder's batches have it
        heard = torch.arange(source.shape[2]) >= begin * SAMPLES_PER_FRAME
        mel = mel * (torch.arange(5) >= begin)[:, None]
    with torch.inference_mode():
        return by(mel, source, begin).where(heard, 0.0)


@pytest.mark.parametrize("begins", [False, True])
def test_but_for_rounding_the_waveform_is_pytorchs(
    hift: Hift, monkeypatch: pytest.MonkeyPatch, *, begins: bool
) -> None:
    exact = wave(hift.filtered, begins=begins)
    near(wave(FusedHift(hift, REFERENCES), begins=begins), exact, 1e-2)
    for module in (vocoder_conv, level_sum):
        monkeypatch.setattr(module, "rounded", lambda x: x)
    torch.testing.assert_close(wave(FusedHift(hift, REFERENCES), begins=begins), exact, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("begins", [False, True])
def test_by_kernels_the_waveform_is_that_of_their_references(
    hift: Hift, monkeypatch: pytest.MonkeyPatch, *, begins: bool
) -> None:
    expected = wave(FusedHift(hift, REFERENCES), begins=begins)
    monkeypatch.setattr(vocoder_conv, "_SMALL", Tile(512, 256))  # the interpreter's time goes by the number of programs
    monkeypatch.setattr(level_sum, "_VALUES", 1 << 16)
    near(wave(FusedHift(hift, Kernels()), begins=begins), expected, 1e-2)
