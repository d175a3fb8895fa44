"""Tokens to sound in hops, and the loop in which requests share the model."""

import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cosyserve.cosyvoice.frontend.prompt_encoder import Prompt
from cosyserve.cosyvoice.model.causal_stream import HELD as CAUSAL_HELD
from cosyserve.cosyvoice.model.causal_stream import CausalStream
from cosyserve.cosyvoice.model.config import CHUNK_TOKENS
from cosyserve.cosyvoice.model.flow import DitFlow, Flow, FlowStream
from cosyserve.cosyvoice.model.hift_stream import FIRST_HELD, HiftStream
from cosyserve.cosyvoice.runtime.batched import BatchedToken2Wav
from cosyserve.cosyvoice.runtime.generation import Generator
from cosyserve.cosyvoice.runtime.hops import Hops, Tokens
from cosyserve.cosyvoice.runtime.memory import pages_behind
from cosyserve.cosyvoice.runtime.request import Request
from cosyserve.cosyvoice.runtime.runtime import Runtime
from cosyserve.cosyvoice.runtime.token2wav import SingleToken2Wav, Token2Wav, Token2WavStream
from cosyserve.cosyvoice.runtime.utterance import Utterance
from cosyserve.cosyvoice.runtime.whole import WholeTokens
from cosyserve.speech.audio import Pcm
from tests.cosyvoice.seeded import SHALLOW, SHALLOW3, Model, Model3, calm3, seeded
from tests.running import HANGS, eventually

HOPS = st.builds(Hops, first=st.integers(1, 25), longest=st.sampled_from((25, 50, 100)))
NOTHING = torch.empty(0, dtype=torch.long)


@pytest.fixture(scope="module", params=["CosyVoice2", "CosyVoice3"])
def model(request: pytest.FixtureRequest) -> Model | Model3:
    return seeded(SHALLOW) if request.param == "CosyVoice2" else calm3(SHALLOW3)


def first_samples(model: Model | Model3, frames: int) -> int:
    """How many of a first hop's are given away at once."""
    if isinstance(model, Model):
        return 480 * (frames - FIRST_HELD)
    return 480 * (frames - CAUSAL_HELD) - 8


def prompt(tokens: int, seed: int = 0) -> Prompt:
    generator = torch.Generator().manual_seed(seed)
    return Prompt(
        torch.randint(0, 6561, (tokens,), generator=generator),
        torch.randn(2 * tokens, 80, generator=generator),
        torch.randn(192, generator=generator),
    )


def single(model: Model | Model3, hops: Hops | None = None) -> SingleToken2Wav:
    return SingleToken2Wav(model.flow, model.hift, hops or Hops(), voices=1, keep_tokens=None)


def batched(
    model: Model | Model3, first: int = 10, streams: int = 3, frames: int = 600, pages: int = 0
) -> BatchedToken2Wav:
    """With pages for as many streams and two voices more, unless it is said how many there are."""
    pages = pages or (streams + 2) * pages_behind(frames)
    return BatchedToken2Wav(model.flow, model.hift, Hops(first), streams, pages, frames)


def mels_of(token2wav: Token2Wav, streams: list[Token2WavStream], spoken: list[list[int]]) -> list[torch.Tensor]:
    """The mel of each stream, all of them voiced together whenever some are ready."""
    parts: dict[int, list[torch.Tensor]] = {id(stream): [] for stream in streams}
    running = list(zip(streams, map(iter, spoken), strict=True))
    while running:
        for stream, tokens in running:
            if (token := next(tokens, None)) is None:
                stream.tokens.complete()
            else:
                stream.tokens.add(token)
        ready = [stream for stream, _ in running if stream.ready][: token2wav.width]
        hops = token2wav.hops(ready) if ready else []
        for stream, (mel, _) in zip(ready, hops, strict=True):
            parts[id(stream)].append(mel)
        ended = {id(stream) for stream, (_, last) in zip(ready, hops, strict=True) if last}
        for stream in streams:
            if id(stream) in ended:
                token2wav.release(stream)
        running = [each for each in running if id(each[0]) not in ended]
    return [torch.cat(parts[id(stream)], dim=2) for stream in streams]


def whole(model: Model | Model3, tokens: list[int], aligned: Prompt) -> torch.Tensor:
    speech, mel, speaker = (each[None] for each in (aligned.speech, aligned.mel, aligned.speaker))
    return model.flow.mel(torch.tensor([tokens]), speech, mel, speaker, chunked=True)


def tokens_of(count: int, seed: int) -> list[int]:
    return torch.randint(0, 6561, (count,), generator=torch.Generator().manual_seed(seed)).tolist()


def assert_close(streamed: torch.Tensor, expected: torch.Tensor) -> None:
    assert streamed.shape == expected.shape
    assert (streamed - expected).norm() <= 1e-4 * expected.norm()


@settings(max_examples=15)
@given(hops=HOPS, recorded=st.integers(0, 80), spoken=st.integers(1, 110))
def test_any_hops_give_the_chunk_masked_result(model: Model | Model3, hops: Hops, recorded: int, spoken: int) -> None:
    given_prompt, tokens, token2wav = prompt(recorded), tokens_of(spoken, spoken), single(model, hops)
    (streamed,) = mels_of(token2wav, [token2wav.stream(given_prompt, 0)], [tokens])
    assert_close(streamed, whole(model, tokens, hops.aligned(given_prompt)))


@settings(max_examples=10)
@given(
    first=st.integers(1, 25),
    recorded=st.lists(st.integers(0, 80), min_size=2, max_size=2),
    spoken=st.lists(st.integers(1, 110), min_size=3, max_size=3),
)
def test_slots_side_by_side_give_the_chunk_masked_result(
    model: Model | Model3, first: int, recorded: list[int], spoken: list[int]
) -> None:
    """One after the other in the same slots, so that what was there before matters."""
    assert_each_is_the_whole(batched(model, first), model, first, recorded, spoken)


def assert_each_is_the_whole(
    token2wav: Token2Wav, model: Model | Model3, first: int, recorded: list[int], spoken: list[int]
) -> None:
    """Of three utterances in two voices, side by side, twice."""
    voices = [prompt(size, seed) for seed, size in enumerate(recorded)]
    for turn in range(2):
        texts = [tokens_of(count, count + turn) for count in spoken]
        streams = [token2wav.stream(voices[number % 2], 0) for number in range(3)]
        for number, mel in enumerate(mels_of(token2wav, streams, texts)):
            assert_close(mel, whole(model, texts[number], Hops(first).aligned(voices[number % 2])))


def test_a_slot_that_is_full_goes_on_without_what_was_spoken_longest_ago(model: Model | Model3) -> None:
    token2wav, given_prompt, tokens = batched(model, frames=300), prompt(40), tokens_of(400, 0)
    (streamed,) = mels_of(token2wav, [token2wav.stream(given_prompt, 0)], [tokens])
    exact = whole(model, tokens, Hops().aligned(given_prompt))
    assert streamed.shape == exact.shape
    seen = 300 - 2 * len(Hops().aligned(given_prompt).speech)
    assert_close(streamed[:, :, :seen], exact[:, :, :seen])
    assert 1e-4 < (streamed - exact).norm() / exact.norm() < 0.5


def test_voices_beyond_those_kept_are_begun_anew(model: Model | Model3) -> None:
    token2wav, tokens = batched(model), tokens_of(30, 0)
    voices = [prompt(40, seed) for seed in range(4)]
    for given_prompt in (*voices, *voices):
        (mel,) = mels_of(token2wav, [token2wav.stream(given_prompt, 0)], [tokens])
        assert_close(mel, whole(model, tokens, Hops().aligned(given_prompt)))


def test_a_long_recording_is_heard_from_its_end_in_a_small_slot(model: Model | Model3) -> None:
    aligned = Hops().aligned(prompt(200), 75)
    assert 50 < len(aligned.speech) <= 75
    assert torch.equal(aligned.speech, prompt(200).speech[-len(aligned.speech) :])
    assert (len(aligned.speech) + Hops().first) % CHUNK_TOKENS == 0


@given(hops=HOPS, recorded=st.integers(0, 200))
def test_a_recording_and_the_first_hop_are_whole_chunks_and_a_short_one_loses_nothing(
    hops: Hops, recorded: int
) -> None:
    aligned = hops.aligned(prompt(recorded))
    left = len(aligned.speech)
    assert len(aligned.mel) == 2 * left
    assert 0 <= recorded - left < CHUNK_TOKENS
    assert left == recorded or recorded >= 100
    first = hops.behind(left).first
    assert (left + first) % CHUNK_TOKENS == 0
    assert first == hops.first if recorded >= 100 else hops.first <= first < hops.first + CHUNK_TOKENS


def test_hops_grow_by_whole_chunks() -> None:
    assert [Hops(10, 100).tokens(hop) for hop in range(5)] == [10, 25, 50, 100, 100]


@given(st.lists(st.sampled_from((1, 2, 28, 7)), max_size=40))
def test_of_silent_tokens_in_a_row_five_become_sound(drawn: list[int]) -> None:
    silent = DitFlow.silent
    kept = [token for place, token in enumerate(drawn) if token not in silent or loud_among(drawn, place, silent)]
    tokens, whole_tokens = Tokens(Hops(1, 25), silent), WholeTokens(silent)
    for token in drawn:
        tokens.add(token)
        whole_tokens.add(token)
    tokens.complete()
    assert whole_tokens.all == kept
    assert taken_from(tokens) == kept


def loud_among(drawn: list[int], place: int, silent: Collection[int]) -> bool:
    """Whether one of the last six, up to that place, is not silent, or there are no six."""
    last = drawn[max(0, place - 5) : place + 1]
    return len(last) < 6 or any(token not in silent for token in last)


def taken_from(tokens: Tokens) -> list[int]:
    taken, last = list[int](), False
    while not last:
        hop, last = tokens.take()
        taken += hop[0].tolist()
    return taken


def test_cosyvoice2_says_every_silence() -> None:
    tokens = Tokens(Hops(1, 25), Flow.silent)
    for _ in range(20):
        tokens.add(1)
    tokens.complete()
    assert taken_from(tokens) == 20 * [1]


@given(count=st.integers(0, 120), first=st.integers(1, 25), late=st.booleans())
def test_the_hops_are_the_same_whenever_the_end_is_known(count: int, first: int, *, late: bool) -> None:
    """The language model may say that it has ended before the render stage takes the last tokens, or after that."""
    early, other = Tokens(Hops(first, 25)), Tokens(Hops(first, 25))
    for token in range(count):
        early.add(token)
        other.add(token)
    early.complete()
    taken = []
    while other.ready and late:
        taken.append(other.take())
    other.complete()
    while not (taken and taken[-1][1]):
        taken.append(other.take())
    for hop, last in taken:
        expected, ends = early.take()
        assert (hop.tolist(), last) == (expected.tolist(), ends)


def test_no_token_is_lost_between_two_threads() -> None:
    """The language model adds while the render stage takes."""
    tokens, count, taken = Tokens(Hops(1, 25)), 40_000, list[int]()

    def add() -> None:
        for number in range(count):
            tokens.add(number)
        tokens.complete()

    adding = threading.Thread(target=add)
    adding.start()
    last = False
    while not last:
        if tokens.ready:
            hop, last = tokens.take()
            taken += hop[0].tolist()
    adding.join()
    assert taken == list(range(count))


def test_the_first_sound_needs_the_first_hop_and_no_more(model: Model | Model3) -> None:
    for token2wav in (single(model), batched(model)):
        stream = token2wav.stream(prompt(40), 0)
        for token in range(13):
            assert not stream.tokens.ready
            stream.tokens.add(token)
        assert stream.tokens.ready
        hops = token2wav.hops([stream])
        ((mel, last),) = hops
        assert (mel.shape[2], last) == (20, False)
        (wave,) = token2wav.waves([stream], hops)
        assert len(wave) == first_samples(model, 20)


def test_the_streamed_sound_is_the_sound_of_the_chunk_masked_whole(model: Model | Model3) -> None:
    """But for CosyVoice2's seam after the first hop, which is to be heard soon."""
    spoken, given_prompt, given = tokens_of(70, 1), prompt(40), 20 - FIRST_HELD
    mel = whole(model, spoken, Hops().aligned(given_prompt))
    expected = model.hift.stream(5, whole=True).push(mel, final=True)
    seam = slice(480 * (given - 8), 480 * (given + 2))
    for token2wav in (single(model), batched(model)):
        streamed = wave_of(token2wav, token2wav.stream(given_prompt, 5), spoken)
        if isinstance(model, Model):
            assert (streamed[seam] - expected[seam]).norm() <= 0.3 * expected[seam].norm()  # most of it is clipped
            streamed[seam] = expected[seam]
        assert (streamed - expected).norm() <= 1e-3 * expected.norm()


def test_what_is_not_streamed_is_spoken_with_full_attention(model: Model | Model3) -> None:
    spoken, given_prompt = tokens_of(70, 1), prompt(60)
    speech, mel, speaker = (each[None] for each in (given_prompt.speech, given_prompt.mel, given_prompt.speaker))
    whole_mel = model.flow.mel(torch.tensor([spoken]), speech, mel, speaker)
    expected = model.hift.stream(5, whole=True).push(whole_mel, final=True)
    for token2wav in (single(model), batched(model)):
        stream = token2wav.stream(given_prompt, 5, whole=True)
        for token in spoken:
            stream.tokens.add(token)
            assert not stream.tokens.ready
        whole_wave = wave_of(token2wav, stream, [])
        assert whole_wave.shape == expected.shape
        assert (whole_wave - expected).norm() <= 1e-3 * expected.norm()


def wave_of(token2wav: Token2Wav, stream: Token2WavStream, spoken: list[int]) -> torch.Tensor:
    parts, last = [], False
    for token in spoken:
        stream.tokens.add(token)
    stream.tokens.complete()
    while not last:
        hops = token2wav.hops([stream])
        parts += token2wav.waves([stream], hops)
        last = hops[0][1]
    token2wav.release(stream)
    return torch.cat(parts)


def test_a_fork_goes_on_as_the_stream_would_have(model: Model | Model3) -> None:
    given_prompt = prompt(60)

    def begun() -> FlowStream:
        flow = FlowStream(model.flow, given_prompt.speech[None], given_prompt.mel[None], given_prompt.speaker[None])
        flow.push(torch.arange(25)[None])
        return flow

    original, other = begun(), torch.arange(100, 130)[None]
    forks = [original.fork() for _ in range(2)]
    expected = begun().push(other, final=True)
    assert torch.equal(forks[0].push(other, final=True), expected)
    assert not torch.equal(forks[1].push(other + 7, final=True), expected)
    assert torch.equal(original.push(other, final=True), expected)


def alike(one: Sequence[bytes], other: Sequence[bytes]) -> bool:
    """Whether the same chunks are the same sound but for rounding: how wide a batch is changes what products sum up
    first."""
    if list(map(len, one)) != list(map(len, other)):
        return False
    sounds = [np.frombuffer(b"".join(each), np.float32) for each in (one, other)]
    return float(np.linalg.norm(sounds[0] - sounds[1])) <= 1e-3 * float(np.linalg.norm(sounds[1]))


class Client:
    """A client of the engine that keeps all it gets, and takes it at once unless told to wait."""

    def __init__(self) -> None:
        self.chunks: list[Pcm] = []
        self.problem: Exception | None = None
        self.ended = threading.Event()
        self.first = threading.Event()
        self.order: list[Client] = []
        self.taking = True
        self.take: Callable[[], None] = lambda: None

    def give(self, item: Pcm | Exception | None) -> None:
        if item is None or isinstance(item, Exception):
            self.problem = item
            self.order.append(self)
            self.ended.set()
            return
        self.chunks.append(item)
        self.first.set()
        if self.taking:
            self.take()


class Speaking:
    """An engine and those who listen to it."""

    def __init__(self, model: Model | Model3, count: int = 4, *, together: bool = False, slots: int = 0) -> None:
        self.voice = prompt(40)
        self.generator = Generator(model.llm, count, 600)
        token2wav = batched(model, streams=slots or count) if together else single(model)
        self.runtime = Runtime(self.generator, token2wav, threads=1)
        self.order: list[Client] = []

    def ask(self, text: int, seed: int = 0, *, whole: bool = False, **listening: Any) -> tuple[Client, Utterance]:
        listener = Client()
        listener.order = self.order
        for name, value in listening.items():
            setattr(listener, name, value)
        request = Request(torch.arange(text), NOTHING, self.voice.speech, seed)
        utterance = Utterance(request, self.voice, listener.give, whole=whole)
        listener.take = utterance.take
        self.runtime.start(utterance)
        return listener, utterance

    def spoken(self, text: int, seed: int = 0) -> list[bytes]:
        listener, _ = self.ask(text, seed)
        assert listener.ended.wait(HANGS)
        assert listener.problem is None
        return [chunk.tobytes() for chunk in listener.chunks]


@pytest.fixture(params=[False, True], ids=["one after the other", "batched"])
def speaking(model: Model | Model3, request: pytest.FixtureRequest) -> Iterator[Speaking]:
    running = Speaking(model, together=request.param)
    yield running
    running.runtime.close()


def test_a_request_sounds_the_same_whatever_runs_beside_it(speaking: Speaking) -> None:
    alone = speaking.spoken(3, seed=5)
    others = [speaking.ask(4, seed=seed)[0] for seed in range(6)]
    beside = speaking.spoken(3, seed=5)
    assert alike(beside, alone)
    for other in others:
        assert other.ended.wait(HANGS)


def test_no_more_are_spoken_at_once_than_both_have_room_for(model: Model | Model3) -> None:
    """An engine may take more requests than the flow has slots; who comes too many waits for one."""
    speaking = Speaking(model, 4, together=True, slots=1)
    try:
        asked = [speaking.ask(2, seed=seed)[0] for seed in range(3)]
        for listener in asked:
            assert listener.ended.wait(HANGS)
            assert listener.problem is None
    finally:
        speaking.runtime.close()


def test_a_short_text_does_not_wait_for_a_long_one(speaking: Speaking) -> None:
    long, _ = speaking.ask(20)
    assert long.first.wait(HANGS)
    short, _ = speaking.ask(2)
    assert short.ended.wait(HANGS)
    assert long.ended.wait(HANGS)
    assert speaking.order == [short, long]


def test_streams_go_on_beside_what_is_not_streamed(speaking: Speaking) -> None:
    alone = speaking.ask(6, whole=True)[0]
    assert alone.ended.wait(HANGS)
    whole, _ = speaking.ask(6, whole=True)
    short, _ = speaking.ask(2)
    for listener in (whole, short):
        assert listener.ended.wait(HANGS)
        assert listener.problem is None
    assert [chunk.tobytes() for chunk in whole.chunks] == [chunk.tobytes() for chunk in alone.chunks]
    assert speaking.order == [alone, short, whole]


def test_a_long_text_does_not_starve_on_many_short_ones(model: Model | Model3) -> None:
    """Two slots, and always a short one waiting: the long one still gets its turns."""
    speaking = Speaking(model, 2)
    try:
        long, _ = speaking.ask(6)
        shorts = [speaking.ask(2, seed=seed)[0] for seed in range(30)]
        assert long.ended.wait(HANGS)
        assert not all(short.ended.is_set() for short in shorts)
    finally:
        speaking.runtime.close()


def test_a_cancelled_request_frees_its_place_and_makes_no_more_sound(speaking: Speaking) -> None:
    listener, utterance = speaking.ask(20)
    assert listener.first.wait(HANGS)
    speaking.runtime.cancel(utterance)
    speaking.spoken(2)  # a round has passed, and more
    assert not speaking.generator.busy
    made = len(listener.chunks)
    speaking.spoken(2)
    assert len(listener.chunks) == made
    assert not listener.ended.is_set()


def test_what_waits_may_be_cancelled_too(model: Model | Model3) -> None:
    speaking = Speaking(model, 1)
    try:
        speaking.ask(3)
        waiting, utterance = speaking.ask(3)
        speaking.runtime.cancel(utterance)
        assert speaking.spoken(2)
        assert waiting.chunks == []
    finally:
        speaking.runtime.close()


def test_a_client_that_takes_nothing_is_not_spoken_to_without_end(speaking: Speaking) -> None:
    slow, utterance = speaking.ask(80, taking=False)  # at least 160 tokens, which are five hops
    eventually(lambda: len(slow.chunks) == 4)
    for _ in range(3):
        speaking.spoken(6)
    assert len(slow.chunks) == 4
    slow.taking = True
    for _ in range(4):
        speaking.runtime.taken(utterance)
    assert slow.ended.wait(HANGS)


def test_what_fails_for_one_is_told_to_it_alone(speaking: Speaking, monkeypatch: pytest.MonkeyPatch) -> None:
    broken: list[object] = []

    def breaking(kind: Any) -> Callable[..., Any]:
        original = kind.hop

        def hop(stream: object, mel: torch.Tensor, *, final: bool = False) -> Any:
            if stream in broken:
                raise RuntimeError("the card fell off")
            return original(stream, mel, final=final)

        return hop

    for kind in (HiftStream, CausalStream):
        monkeypatch.setattr(kind, "hop", breaking(kind))
    good, _ = speaking.ask(6)
    bad, utterance = speaking.ask(6)
    assert bad.first.wait(HANGS)
    assert utterance.stream is not None
    broken.append(utterance.stream.vocoder)
    assert bad.ended.wait(HANGS)
    assert isinstance(bad.problem, RuntimeError)
    assert good.ended.wait(HANGS)
    assert good.problem is None
    too_long, _ = speaking.ask(700)
    assert too_long.ended.wait(HANGS)
    assert isinstance(too_long.problem, ValueError)
    assert speaking.spoken(2)
