"""CosyVoice3's vocoder in hops: what a stream gives is what the whole mel gives at once, in whatever company."""

from collections.abc import Sequence
from functools import cache

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from cosyserve.cosyvoice.model.causal_hift import CausalHift
from cosyserve.cosyvoice.model.causal_stream import HELD, CausalHop, CausalStream
from cosyserve.cosyvoice.model.config import MELS, SAMPLES_PER_FRAME
from cosyserve.cosyvoice.model.loading import fold_weight_norm
from cosyserve.cosyvoice.runtime import vocoder
from cosyserve.cosyvoice.runtime.vocoder import VocoderBatch
from tests.cosyvoice.seeded import SIZES3, seeded3

FIRST, LATER, LAST = 20, 50, 56  # frames of a stream's hops on a GPU; the longest last one
LATE = 8  # samples that wait for the next hop
MOST = 4
CLOSE = 1e-4  # by the norm; most are within 5e-6

ANY_HOPS = st.lists(st.integers(0, 60), min_size=1, max_size=4)
USUAL_HOPS = st.builds(
    lambda first, more, last: [first, *more * [LATER], last],
    st.integers(1, 68),
    st.integers(0, 2),
    st.integers(0, LAST),
)


@cache
def hift() -> CausalHift:
    made = seeded3(SIZES3["tiny3"]).hift
    fold_weight_norm(made)
    return made


@cache
def batch() -> VocoderBatch:
    made = VocoderBatch(hift(), MOST, FIRST, LATER)
    for make in made.graphs():
        make()
    return made


class Utterance:
    """A mel in hops of those sizes, spoken from a turn on."""

    def __init__(self, sizes: Sequence[int], seed: int = 0, begin: int = 0) -> None:
        self.mel = torch.randn(1, MELS, sum(sizes), generator=torch.Generator().manual_seed(seed))
        self.hops, self.begin = self.mel.split(list(sizes), dim=2), begin

    def alone(self) -> Tensor:
        stream = hift().stream(0)
        return torch.cat([stream.push(hop, final=hop is self.hops[-1]) for hop in self.hops])

    def at_once(self) -> Tensor:
        frames = self.mel.shape[2]
        if not frames:
            return torch.empty(0)
        noise = hift().noise.frames(0, frames, self.mel.device)
        with torch.inference_mode():
            return hift().speak(self.mel, noise[None])[0]


def speak(*utterances: Utterance) -> list[Tensor]:
    """Hop by hop, those that are due together."""
    streams = [batch().stream(seed) for seed in range(len(utterances))]
    heard: list[list[Tensor]] = [[] for _ in utterances]
    for turn in range(max(each.begin + len(each.hops) for each in utterances)):
        now = [number for number, each in enumerate(utterances) if 0 <= turn - each.begin < len(each.hops)]
        works = []
        for number in now:
            hop = utterances[number].hops[turn - utterances[number].begin]
            works.append((streams[number], hop, hop is utterances[number].hops[-1]))
        for number, samples in zip(now, batch().push(works), strict=True):
            heard[number].append(samples)
    return [torch.cat(each) for each in heard]


def assert_equal(heard: Tensor, expected: Tensor) -> None:
    """But for rounding, of which single samples may show more: an exponential follows."""
    assert heard.shape == expected.shape
    assert (heard - expected).norm() <= CLOSE * expected.norm()
    assert torch.allclose(heard, expected, rtol=0, atol=1e-3)


@settings(max_examples=25)
@given(sizes=USUAL_HOPS | ANY_HOPS, seed=st.integers(0, 1000))
def test_a_stream_in_any_hops_is_the_whole_at_once(sizes: list[int], seed: int) -> None:
    utterance = Utterance(sizes, seed)
    assert_equal(utterance.alone(), utterance.at_once())


@settings(max_examples=15)
@given(
    st.lists(
        st.builds(Utterance, USUAL_HOPS | ANY_HOPS, seed=st.integers(0, 1000), begin=st.integers(0, 3)),
        min_size=1,
        max_size=MOST + 2,
    )
)
def test_a_stream_in_any_company_is_the_whole_at_once(utterances: list[Utterance]) -> None:
    """More streams than there is room for, too, and hops that are longer than usual."""
    for each, heard in zip(utterances, speak(*utterances), strict=True):
        assert_equal(heard, each.at_once())


@pytest.mark.parametrize("sizes", [[FIRST, 50, 50, last] for last in (0, 1, 27, 56)] + [[68, 50, 3], [34, 8], [5]])
def test_a_stream_of_a_card_is_spoken_in_the_usual_rows(sizes: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing_else(_: object, hops: Sequence[CausalHop]) -> list[Tensor]:
        raise AssertionError(f"{hops[0].span} is spoken in memory of its own")

    monkeypatch.setattr(vocoder, "together", nothing_else)
    utterance = Utterance(sizes)
    (heard,) = speak(utterance)
    assert_equal(heard, utterance.at_once())


@given(frames=st.integers(0, 40))
@settings(max_examples=10)
def test_a_sample_comes_as_soon_as_four_frames_and_eight_samples_after_it_are_there(frames: int) -> None:
    stream, mel = hift().stream(0), Utterance([40]).mel
    given = len(stream.push(mel[:, :, :frames]))
    assert given == max(0, (frames - HELD) * SAMPLES_PER_FRAME - LATE)


def test_a_row_that_nobody_reads_keeps_nothing_of_longer_ones() -> None:
    """On a card an index beyond a row would end the process."""
    long, short = [Utterance([60], seed) for seed in range(4)], [Utterance([FIRST, 1], seed) for seed in range(3)]
    for utterances in (long, short):
        for each, heard in zip(utterances, speak(*utterances), strict=True):
            assert_equal(heard, each.at_once())


def test_a_hop_that_is_spoken_again_sounds_the_same_and_changes_nothing_after_it() -> None:
    utterance, heard = Utterance([FIRST, LATER, 12], seed=3), []
    stream = batch().stream(0)
    for number, mel in enumerate(utterance.hops):
        hop = stream.hop(mel, final=number == 2)
        (once,), (again,) = batch().speak([hop]), batch().speak([hop])
        assert torch.equal(once, again)
        heard.append(again)
    assert_equal(torch.cat(heard), utterance.at_once())


def test_a_stream_keeps_no_more_of_a_long_utterance_than_of_a_short_one() -> None:
    def kept(hops: int) -> list[torch.Size]:
        stream = CausalStream(hift())
        for _ in range(hops):
            stream.push(Utterance([LATER]).mel)
        hop = stream.hop(Utterance([1]).mel)
        assert hop is not None
        return [each.shape for each in (hop.mel, hop.noise, hop.behind.kept, hop.behind.source)]

    assert kept(1) == kept(9)
