"""The vocoder for many streams: what each sounds like is what it sounds like alone, in whatever company."""

from collections.abc import Sequence
from functools import cache

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from cosyserve.cosyvoice.model.config import SAMPLES_PER_FRAME
from cosyserve.cosyvoice.model.hift import Hift
from cosyserve.cosyvoice.model.hift_stream import FIRST_HELD, HELD, HiftStream, Hop
from cosyserve.cosyvoice.model.vocoder import Vocoder
from cosyserve.cosyvoice.runtime import vocoder
from cosyserve.cosyvoice.runtime.vocoder import VocoderBatch
from tests.cosyvoice.seeded import SHALLOW, fill

FIRST, LATER, LAST = 20, 50, 56  # frames of a stream's hops on a GPU; the longest last one
MOST = 4
DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
CLOSE = {"cpu": 1e-5, "cuda": 1e-4}


@cache
def hift(device: str = "cpu") -> Hift:
    """One that clips nothing, since what is clipped is equal however wrong it is."""
    made = fill("hift", Hift(SHALLOW.hift)).to(device)
    with torch.no_grad():
        made.conv_post.parametrizations.weight.original0 *= 0.25
    return made


@cache
def batch(device: str = "cpu") -> VocoderBatch:
    made = VocoderBatch(hift(device), MOST, FIRST, LATER)
    for make in made.graphs():
        make()
    return made


def mel_of(frames: int, seed: int, device: str = "cpu") -> Tensor:
    return torch.randn(1, 80, frames, generator=torch.Generator().manual_seed(seed)).to(device)


class Utterance:
    """A mel in hops of those sizes, spoken from a turn on, and what has been heard of it."""

    def __init__(
        self, sizes: Sequence[int], seed: int = 0, begin: int = 0, held: int = FIRST_HELD, device: str = "cpu"
    ) -> None:
        self.mel, self.seed, self.begin, self.held = mel_of(sum(sizes), seed, device), seed, begin, held
        self.hops = self.mel.split(list(sizes), dim=2)
        self.heard: list[Tensor] = []

    def alone(self) -> Tensor:
        stream = HiftStream(hift(self.mel.device.type), self.seed, self.held)
        return torch.cat([stream.push(hop, final=hop is self.hops[-1]) for hop in self.hops])

    def at_once(self) -> Tensor:
        with torch.inference_mode():
            model = hift(self.mel.device.type)
            return model.decode(self.mel, model.source(self.mel, model.noise(self.seed)))[0]


def speak(with_batch: VocoderBatch, *utterances: Utterance) -> list[Tensor]:
    streams = [with_batch.stream(each.seed, whole=each.held == HELD) for each in utterances]
    for turn in range(max(each.begin + len(each.hops) for each in utterances)):
        now = [
            (stream, each, hop)
            for stream, each in zip(streams, utterances, strict=True)
            for number, hop in enumerate(each.hops)
            if each.begin + number == turn
        ]
        heard = with_batch.push([(stream, hop, hop is each.hops[-1]) for stream, each, hop in now])
        for (_, each, _), samples in zip(now, heard, strict=True):
            each.heard.append(samples)
    return [torch.cat(each.heard) for each in utterances]


def assert_equal(heard: Tensor, expected: Tensor) -> None:
    assert heard.shape == expected.shape
    assert torch.allclose(heard, expected, rtol=0, atol=CLOSE[heard.device.type])


ANY_HOPS = st.lists(st.integers(0, 60), min_size=1, max_size=4)
USUAL_HOPS = st.builds(
    lambda first, more, last: [first, *more * [LATER], last],
    st.integers(1, 68),
    st.integers(0, 2),
    st.integers(0, LAST),
)


@pytest.mark.parametrize("device", DEVICES)
@settings(max_examples=15)
@given(data=st.data())
def test_a_stream_in_any_company_is_what_it_is_alone(device: str, data: st.DataObject) -> None:
    """More streams than there is room for, too, and hops that are longer than usual."""
    an_utterance = st.builds(
        Utterance,
        sizes=USUAL_HOPS | ANY_HOPS,
        seed=st.integers(0, 1000),
        begin=st.integers(0, 3),
        held=st.sampled_from((FIRST_HELD, HELD)),
        device=st.just(device),
    )
    utterances = data.draw(st.lists(an_utterance, min_size=1, max_size=MOST + 2))
    for each, heard in zip(utterances, speak(batch(device), *utterances), strict=True):
        assert_equal(heard, each.alone())


@pytest.mark.parametrize("before", [[], [FIRST], [FIRST, LATER]], ids=["all", "second", "later"])
def test_a_last_hop_of_every_length_is_spoken_in_the_usual_windows(
    before: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vocoder, "together", nothing_else)
    lengths = range(1, LAST + 1, 5 if len(before) > 1 else 1)  # far from the beginning they differ less
    utterances = [Utterance([*before, last], last, held=HELD) for last in lengths]
    for begin in range(0, len(utterances), MOST):
        some = utterances[begin : begin + MOST]
        for each, heard in zip(some, speak(batch(), *some), strict=True):
            expected = each.at_once()
            assert heard.shape == expected.shape
            assert (heard - expected).norm() <= 1e-4 * expected.norm()


def nothing_else(_: Vocoder, hops: Sequence[Hop]) -> list[Tensor]:
    raise AssertionError(f"{hops[0].window} is spoken in memory of its own")


@pytest.mark.parametrize("sizes", [[68, 50, 50, 10], [34, 50, 8], [50, 50, 50, 17], [22, 6], [FIRST, 50, 50, 50, 6]])
def test_first_hops_behind_short_recordings_and_wholes_are_spoken_in_the_usual_windows(
    sizes: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vocoder, "together", nothing_else)
    for held in (FIRST_HELD, HELD):
        utterance = Utterance(sizes, held=held)
        assert_equal(speak(batch(), utterance)[0], utterance.alone())


def test_a_hop_goes_on_as_the_one_before_would_have_and_fades_into_its_own() -> None:
    sizes = [FIRST, LATER, 6]
    faded, exact = speak(batch(), Utterance(sizes), Utterance(sizes, held=HELD))
    seam = (FIRST - FIRST_HELD) * SAMPLES_PER_FRAME
    differs = (faded - exact).abs()
    assert differs[seam - SAMPLES_PER_FRAME : seam + SAMPLES_PER_FRAME].max() > 1e-3
    assert differs[seam + 2 * SAMPLES_PER_FRAME :].max() < 1e-5
    assert (faded[seam] - faded[seam - 1]).abs() < 2 * (exact[seam] - exact[seam - 1]).abs() + 1e-3


def test_the_seed_decides_the_noise_and_nothing_else_does() -> None:
    sizes = [FIRST, LATER, 12]
    some = [Utterance(sizes, seed) for seed in (1, 2)]
    for each in some[1:]:
        each.hops = some[0].hops
    first, second = speak(batch(), *some)
    assert (first - second).abs().max() > 1e-4
    (again,) = speak(batch(), Utterance(sizes, 1))
    assert_equal(again, first)


def test_a_hop_that_completes_nothing_gives_nothing() -> None:
    streams = [batch().stream(seed) for seed in range(2)]
    hops = [(streams[0], mel_of(5, 0), False), (streams[1], mel_of(FIRST, 1), False)]
    heard = batch().push(hops)
    assert [len(each) for each in heard] == [0, (FIRST - FIRST_HELD) * SAMPLES_PER_FRAME]
    assert batch().push([]) == []


def test_hops_that_are_spoken_again_sound_the_same_and_change_nothing_after_them() -> None:
    utterance = Utterance([FIRST, LATER, 12], seed=3)
    stream, heard = batch().stream(3), []
    for number, mel in enumerate(utterance.hops):
        hop = stream.hop(mel, final=number == 2)
        assert hop is not None
        (once,), (again,) = batch().speak([hop]), batch().speak([hop])
        assert torch.equal(once, again)
        heard.append(again)
    assert_equal(torch.cat(heard), utterance.alone())
