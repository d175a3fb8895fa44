"""The encoder of many streams in one memory: each stream's chunks are those that it has by itself."""

from collections.abc import Sequence
from dataclasses import dataclass

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cosyserve.cosyvoice.model.config import CHUNK_TOKENS, LOOK_AHEAD
from cosyserve.cosyvoice.model.flow import Chunk, Flow, MeanStream
from cosyserve.cosyvoice.model.past import Bound, Past
from cosyserve.cosyvoice.runtime.encoder_batch import EncoderBatch, chunks_behind, place_of
from cosyserve.cosyvoice.runtime.flow_memory import CHUNK
from cosyserve.cosyvoice.runtime.mean_batch import EncodedStream
from cosyserve.cosyvoice.runtime.memory import encoder_bytes
from tests.cosyvoice.seeded import SHALLOW, seeded

NOTHING = torch.empty(1, 0, dtype=torch.long)
SLOTS, VOICES = 3, 2


@pytest.fixture(scope="module")
def flow() -> Flow:
    return seeded(SHALLOW).flow


@pytest.fixture(scope="module")
def batch(flow: Flow) -> EncoderBatch:
    """One memory for all examples, so that each finds in its slots what others have left there."""
    return EncoderBatch(flow, SLOTS + VOICES, 750)


def tokens_of(count: int, seed: int = 0) -> torch.Tensor:
    return torch.randint(0, 6561, (1, count), generator=torch.Generator().manual_seed(seed))


def recording(tokens: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    mel, embedding = torch.randn(1, 2 * tokens, 80, generator=generator), torch.randn(1, 192, generator=generator)
    return tokens_of(tokens, seed), mel, embedding


Push = tuple[EncodedStream, torch.Tensor, bool]  # with the tokens that have come


def pushed_to(batch: EncoderBatch, works: Sequence[Push]) -> list[list[Chunk]]:
    for stream, tokens, _ in works:
        stream.add(tokens)
    return batch.push([(stream, final) for stream, _, final in works])


def assert_same(chunks: list[Chunk], expected: Chunk | None) -> None:
    parts = [] if expected is None else list(expected.split(CHUNK))
    assert [(each.begin, each.recorded) for each in chunks] == [(each.begin, each.recorded) for each in parts]
    for chunk, part in zip(chunks, parts, strict=True):
        assert torch.equal(chunk.prompt, part.prompt)
        torch.testing.assert_close(chunk.mean, part.mean, atol=1e-5, rtol=1e-4)


@dataclass
class Speaker:
    """An utterance, and how it is by itself."""

    starts: int  # the turn of its first hop
    hops: list[torch.Tensor]
    stream: EncodedStream
    alone: MeanStream

    def work(self, turn: int) -> Push:
        hop = turn - self.starts
        return self.stream, self.hops[hop], hop == len(self.hops) - 1


HOPS = st.tuples(st.lists(st.integers(0, 60), max_size=4), st.integers(0, LOOK_AHEAD + CHUNK_TOKENS)).map(
    lambda hops: [*hops[0], hops[1]]
)
UTTERANCE = st.tuples(st.integers(0, VOICES - 1), st.integers(0, 3), HOPS)


@settings(max_examples=25)
@given(
    recorded=st.lists(st.integers(0, 130), min_size=VOICES, max_size=VOICES),
    utterances=st.lists(UTTERANCE, min_size=1, max_size=SLOTS),
)
def test_in_any_company_a_stream_has_the_chunks_that_it_has_alone(
    flow: Flow, batch: EncoderBatch, recorded: list[int], utterances: list[tuple[int, int, list[int]]]
) -> None:
    voices = [batch.begin(SLOTS + number, *recording(count, number)) for number, count in enumerate(recorded)]
    alone = [MeanStream(flow, *recording(count, number)) for number, count in enumerate(recorded)]
    begun = pushed_to(batch, [(voice, NOTHING, False) for voice in voices])
    for chunks, mean_stream in zip(begun, alone, strict=True):
        assert_same(chunks, mean_stream.push(NOTHING))
    speakers = []
    for slot, (voice, starts, hops) in enumerate(utterances):
        tokens = [tokens_of(count, slot + 7 * hop) for hop, count in enumerate(hops)]
        speakers.append(Speaker(starts, tokens, batch.resume(batch.keep(voices[voice]), slot), alone[voice].fork()))
    for turn in range(max(each.starts + len(each.hops) for each in speakers)):
        now = [each for each in speakers if 0 <= turn - each.starts < len(each.hops)]
        works = [each.work(turn) for each in now]
        for each, (_, hop, final), chunks in zip(now, works, pushed_to(batch, works), strict=True):
            assert_same(chunks, each.alone.push(hop, final=final))
            assert torch.equal(each.stream.speaker, each.alone.speaker)


def test_last_hops_of_all_lengths_beside_a_stream_that_is_far_along(flow: Flow) -> None:
    """More than one graph has room for, so they go in two."""
    longest = CHUNK_TOKENS + LOOK_AHEAD
    batch = EncoderBatch(flow, longest + 1, 800)
    given = [recording(20, seed) for seed in range(longest)] + [recording(25 * CHUNK_TOKENS, 99)]
    streams = [batch.begin(slot, *each) for slot, each in enumerate(given)]
    alone = [MeanStream(flow, *each) for each in given]
    lengths = range(1, len(given) + 1)
    first, last = [tokens_of(8) for _ in lengths], [tokens_of(each, 1) for each in lengths]
    for hops, final in ((first, False), (last, True)):
        pushed = pushed_to(batch, [(stream, hop, final) for stream, hop in zip(streams, hops, strict=True)])
        for number, mean_stream in enumerate(alone):
            assert_same(pushed[number], mean_stream.push(hops[number], final=final))


def test_who_goes_on_from_a_stream_goes_on_alone(flow: Flow, batch: EncoderBatch) -> None:
    original, alone = batch.begin(0, *recording(40)), MeanStream(flow, *recording(40))
    pushed_to(batch, [(original, tokens_of(25), False)])
    alone.push(tokens_of(25))
    copy, forked = batch.resume(batch.keep(original), 1), alone.fork()
    for stream, mean_stream, seed in ((original, alone, 1), (copy, forked, 2), (original, alone, 3)):
        (chunks,) = pushed_to(batch, [(stream, tokens_of(50, seed), False)])
        assert_same(chunks, mean_stream.push(tokens_of(50, seed)))


def test_tokens_that_finish_nothing_wait(batch: EncoderBatch) -> None:
    stream = batch.begin(0, *recording(0))
    assert pushed_to(batch, [(stream, tokens_of(27), False)]) == [[]]
    assert pushed_to(batch, []) == []
    ((chunk,),) = pushed_to(batch, [(stream, tokens_of(1), False)])
    assert (chunk.begin, chunk.end) == (0, CHUNK)
    ((rest,),) = pushed_to(batch, [(stream, NOTHING, True)])
    assert (rest.begin, rest.end) == (CHUNK, CHUNK + 2 * LOOK_AHEAD)
    assert pushed_to(batch, [(stream, NOTHING, True)]) == [[]]


class Recent(Bound):
    """Never more than the first and the most recent."""

    def kept(self, seen: int) -> int:
        return min(seen, self.first + self.recent)


class RecentPast(Past):
    def __init__(self, first: int, recent: int) -> None:
        super().__init__()
        self._first, self._recent = first, recent

    def _bound_at(self, rate: int) -> Bound:
        return Recent(self._first * rate, self._recent * rate)


@pytest.mark.parametrize("recorded", [0, 60, 250], ids=["no recording", "a recording", "one beyond the memory"])
def test_a_full_memory_goes_on_without_what_was_spoken_longest_ago(flow: Flow, recorded: int) -> None:
    """As a past does that keeps the recording and what came last; of a recording that is too long, its beginning."""
    room, spoken, given = 6 * CHUNK_TOKENS, tokens_of(400, 1), recording(recorded)
    batch = EncoderBatch(flow, 2, room)
    stream, other = batch.begin(0, *given), batch.begin(1, *recording(0))
    pushed = pushed_to(batch, [(stream, spoken, True), (other, tokens_of(30), True)])[0]
    streamed = torch.cat([each.mean for each in pushed], dim=2)
    first = min(recorded // CHUNK_TOKENS, 4) * CHUNK_TOKENS
    past, tokens = RecentPast(first, room - CHUNK_TOKENS - first), torch.cat((given[0], spoken), dim=1)
    parts = []
    with torch.inference_mode():
        while tokens.shape[1] >= CHUNK_TOKENS + LOOK_AHEAD:
            parts.append(flow.mean(tokens[:, : CHUNK_TOKENS + LOOK_AHEAD], past, chunked=True, final=False))
            tokens = tokens[:, CHUNK_TOKENS:]
        parts.append(flow.mean(tokens, past, chunked=True, final=True))
        exact = flow.mean(torch.cat((given[0], spoken), dim=1), Past(), chunked=True, final=True)
    torch.testing.assert_close(streamed, torch.cat(parts, dim=2), atol=1e-5, rtol=1e-4)
    assert not torch.allclose(streamed, exact, atol=1e-3)


@given(room=st.integers(1, 12), stays=st.integers(0, 10), chunks=st.integers(0, 40))
def test_a_slot_holds_the_chunks_that_stay_and_the_latest(room: int, stays: int, chunks: int) -> None:
    stays, slot, span = min(stays, max(0, room - 2)), dict[int, int](), 16
    for newest in range(chunks + 1):
        number = chunks_behind(torch.tensor([[newest]]), torch.tensor([[stays]]), span, room)
        place = place_of(number, torch.tensor([[stays]]), room)[0].tolist()
        assert set(place) <= set(range(room))
        slot[place[-1]] = newest
    held = number[0].tolist()
    remembered = [each for each in range(chunks + 1) if each < stays or each > chunks - (room - stays)]
    assert held == [-1] * (span - len(remembered)) + remembered
    assert [slot[at] for at in place[-len(remembered) :]] == remembered


def test_a_slot_takes_what_is_told_before_there_is_one(flow: Flow) -> None:
    def held(slots: int) -> int:
        batch = EncoderBatch(flow, slots, 140)
        return sum(each.nbytes for each in (*batch._kept.values(), *batch.tail_of.values()))

    assert encoder_bytes(SHALLOW.flow, 140, 4) == held(2) - held(1)
