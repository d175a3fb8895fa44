"""CosyVoice3's means of several utterances at once: each is what it is alone, in whatever company and pieces."""

from functools import cache

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from cosyserve.cosyvoice.model.config import MELS
from cosyserve.cosyvoice.model.flow import DitFlow
from cosyserve.cosyvoice.model.past import Past
from cosyserve.cosyvoice.runtime.look_ahead_batch import LookAheadBatch
from tests.cosyvoice.seeded import SHALLOW3, seeded3

SLOTS = 3


@cache
def flow() -> DitFlow:
    return seeded3(SHALLOW3).flow


@cache
def batch() -> LookAheadBatch:
    return LookAheadBatch(flow(), SLOTS)


def tokens_of(count: int, seed: int) -> Tensor:
    return torch.randint(0, 6561, (1, count), generator=torch.Generator().manual_seed(seed))


class Utterance:
    """In pieces of those sizes, behind a recording of so many tokens."""

    def __init__(self, recorded: int, pieces: list[int], seed: int) -> None:
        self.recording, self.pieces = tokens_of(recorded, seed), [tokens_of(size, seed + 1) for size in pieces]
        self.mel = torch.randn(1, 2 * recorded, MELS, generator=torch.Generator().manual_seed(seed))
        self.speaker = torch.randn(1, 192, generator=torch.Generator().manual_seed(seed))

    @torch.inference_mode()
    def alone(self) -> Tensor:
        tokens = torch.cat((self.recording, *self.pieces), dim=1)
        return flow().mean(tokens, Past(), chunked=True, final=True)


@settings(max_examples=30)
@given(
    utterances=st.lists(
        st.builds(
            Utterance,
            st.integers(1, 60),
            st.lists(st.integers(0, 60), min_size=1, max_size=3),
            seed=st.integers(0, 999),
        ),
        min_size=1,
        max_size=SLOTS,
    ),
    forked=st.booleans(),
)
def test_each_is_what_it_is_alone_and_so_is_who_goes_on_from_there(utterances: list[Utterance], forked: bool) -> None:
    streams = [batch().begin(slot, each.recording, each.mel, each.speaker) for slot, each in enumerate(utterances)]
    means = [[chunk.mean for chunk in chunks] for chunks in batch().push([(stream, False) for stream in streams])]
    if forked:  # the recording has been heard, and a stream goes on from there in another slot
        kept = [batch().keep(stream) for stream in streams]
        streams = [batch().resume(each, len(kept) - 1 - slot) for slot, each in enumerate(kept)]
    for turn in range(3):
        speaking = [number for number, each in enumerate(utterances) if turn < len(each.pieces)]
        for number in speaking:
            streams[number].add(utterances[number].pieces[turn])
        works = [(streams[number], turn == len(utterances[number].pieces) - 1) for number in speaking]
        for number, chunks in zip(speaking, batch().push(works), strict=True):
            means[number] += [chunk.mean for chunk in chunks]
    for parts, each in zip(means, utterances, strict=True):
        torch.testing.assert_close(torch.cat(parts, dim=2), each.alone(), rtol=1e-5, atol=1e-5)
