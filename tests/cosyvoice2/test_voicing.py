"""Tokens to sound in hops, and the loop in which requests share the model."""

import threading
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cosyserve.cosyvoice2.config import CHUNK_TOKENS
from cosyserve.cosyvoice2.flow import FlowStream
from cosyserve.cosyvoice2.generation import Generator, Request
from cosyserve.cosyvoice2.listening import Prompt
from cosyserve.cosyvoice2.voicing import Hops, Stream, Voicing
from cosyserve.speech.audio import Pcm
from cosyserve.speech.engine import Engine, Utterance
from tests.cosyvoice2.seeded import TINY, Model, seeded

HOPS = st.builds(Hops, first=st.integers(1, 25), longest=st.sampled_from((25, 50, 100)))
NOTHING = torch.empty(0, dtype=torch.long)


@pytest.fixture(scope="module")
def model() -> Model:
    return seeded(TINY)


def prompt(tokens: int, seed: int = 0) -> Prompt:
    generator = torch.Generator().manual_seed(seed)
    return Prompt(
        torch.randint(0, 6561, (tokens,), generator=generator),
        torch.randn(2 * tokens, 80, generator=generator),
        torch.randn(192, generator=generator),
    )


def voicing(model: Model, hops: Hops | None = None) -> Voicing:
    return Voicing(model.flow, model.hift, hops or Hops(), voices=1, keep_tokens=None)


def mel_of(stream: Stream, tokens: list[int], monkeypatch: pytest.MonkeyPatch) -> torch.Tensor:
    """What a stream hands to its vocoder."""
    parts: list[torch.Tensor] = []

    def push(mel: torch.Tensor, *, final: bool = False) -> torch.Tensor:
        parts.append(mel)
        return mel.new_empty(0)

    monkeypatch.setattr(stream._hift, "push", push)
    last = False
    for token in tokens:
        stream.add(token)
        while stream.ready:
            stream.speak()
    stream.complete()
    while not last:
        _, last = stream.speak()
    return torch.cat(parts, dim=2)


@settings(max_examples=15, deadline=None)
@given(hops=HOPS, recorded=st.integers(0, 80), spoken=st.integers(1, 110), data=st.data())
def test_any_hops_give_the_chunk_masked_result(
    model: Model, hops: Hops, recorded: int, spoken: int, data: st.DataObject
) -> None:
    given_prompt = prompt(recorded)
    tokens = torch.randint(0, 6561, (1, spoken), generator=torch.Generator().manual_seed(spoken))
    with pytest.MonkeyPatch.context() as patch:
        streamed = mel_of(voicing(model, hops).stream(given_prompt, 0), tokens[0].tolist(), patch)
    aligned = hops.aligned(given_prompt)
    whole = model.flow.mel(tokens, aligned.speech[None], aligned.mel[None], aligned.speaker[None], chunked=True)
    assert streamed.shape == whole.shape
    assert (streamed - whole).norm() <= 1e-4 * whole.norm()


@given(hops=HOPS, recorded=st.integers(0, 200))
def test_a_recording_loses_less_than_a_second_and_ends_where_the_first_hop_fits(hops: Hops, recorded: int) -> None:
    aligned = hops.aligned(prompt(recorded))
    assert 0 <= recorded - len(aligned.speech) < CHUNK_TOKENS
    assert len(aligned.mel) == 2 * len(aligned.speech)
    if recorded >= CHUNK_TOKENS:
        assert (len(aligned.speech) + hops.first) % CHUNK_TOKENS == 0


def test_hops_grow_by_whole_chunks() -> None:
    assert [Hops(10, 100).tokens(hop) for hop in range(5)] == [10, 25, 50, 100, 100]


def test_the_first_sound_needs_the_first_hop_and_no_more(model: Model) -> None:
    stream = voicing(model, Hops(10)).stream(prompt(40), 0)
    heard = []
    for token in range(13):
        assert not stream.ready
        stream.add(token)
    assert stream.ready
    heard.append(len(stream.speak()[0]))
    assert heard == [480 * (2 * 10 - 8)]  # the vocoder keeps eight frames to fade


def test_a_fork_goes_on_as_the_stream_would_have(model: Model) -> None:
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


class Listener:
    """A client of the engine that keeps all it gets, and takes it at once unless told to wait."""

    def __init__(self) -> None:
        self.chunks: list[Pcm] = []
        self.problem: Exception | None = None
        self.ended = threading.Event()
        self.first = threading.Event()
        self.order: list[Listener] = []
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

    def __init__(self, model: Model, slots: int = 4) -> None:
        self.voice = prompt(40)
        self.generator = Generator(model.llm, slots, 600)
        self.engine = Engine(self.generator, voicing(model), threads=1)
        self.order: list[Listener] = []

    def ask(self, text: int, seed: int = 0, **listening: Any) -> tuple[Listener, Utterance]:
        listener = Listener()
        listener.order = self.order
        for name, value in listening.items():
            setattr(listener, name, value)
        request = Request(torch.arange(text), NOTHING, self.voice.speech, seed)
        utterance = Utterance(request, self.voice, listener.give)
        listener.take = utterance.take
        self.engine.start(utterance)
        return listener, utterance

    def spoken(self, text: int, seed: int = 0) -> list[bytes]:
        listener, _ = self.ask(text, seed)
        assert listener.ended.wait(60)
        assert listener.problem is None
        return [chunk.tobytes() for chunk in listener.chunks]


@pytest.fixture
def speaking(model: Model) -> Any:
    running = Speaking(model)
    yield running
    running.engine.close()


def test_a_request_sounds_the_same_whatever_runs_beside_it(speaking: Speaking) -> None:
    alone = speaking.spoken(3, seed=5)
    others = [speaking.ask(4, seed=seed)[0] for seed in range(6)]
    beside = speaking.spoken(3, seed=5)
    assert beside == alone
    for other in others:
        assert other.ended.wait(60)


def test_a_short_text_does_not_wait_for_a_long_one(speaking: Speaking) -> None:
    long, _ = speaking.ask(20)
    assert long.first.wait(60)
    short, _ = speaking.ask(2)
    assert short.ended.wait(60)
    assert long.ended.wait(120)
    assert speaking.order == [short, long]


def test_a_long_text_does_not_starve_on_many_short_ones(model: Model) -> None:
    """Two slots, and always a short one waiting: the long one still gets its turns."""
    speaking = Speaking(model, slots=2)
    try:
        long, _ = speaking.ask(6)
        shorts = [speaking.ask(2, seed=seed)[0] for seed in range(30)]
        assert long.ended.wait(120)
        assert not all(short.ended.is_set() for short in shorts)
    finally:
        speaking.engine.close()


def test_a_cancelled_request_frees_its_place_and_makes_no_more_sound(speaking: Speaking) -> None:
    listener, utterance = speaking.ask(20)
    assert listener.first.wait(60)
    speaking.engine.cancel(utterance)
    speaking.spoken(2)  # a round has passed, and more
    assert speaking.generator.free == 4
    made = len(listener.chunks)
    speaking.spoken(2)
    assert len(listener.chunks) == made
    assert not listener.ended.is_set()


def test_what_waits_may_be_cancelled_too(model: Model) -> None:
    speaking = Speaking(model, slots=1)
    try:
        speaking.ask(3)
        waiting, utterance = speaking.ask(3)
        speaking.engine.cancel(utterance)
        assert speaking.spoken(2)
        assert waiting.chunks == []
    finally:
        speaking.engine.close()


def test_a_client_that_takes_nothing_is_not_spoken_to_without_end(speaking: Speaking) -> None:
    slow, utterance = speaking.ask(20, taking=False)
    assert slow.first.wait(60)
    for _ in range(3):
        speaking.spoken(6)
    assert len(slow.chunks) == 4
    slow.taking = True
    for _ in range(4):
        speaking.engine.taken(utterance)
    assert slow.ended.wait(120)


def test_what_fails_for_one_is_told_to_it_alone(speaking: Speaking, monkeypatch: pytest.MonkeyPatch) -> None:
    original = Stream.speak
    broken: list[Stream] = []

    def speak(stream: Stream) -> tuple[torch.Tensor, bool]:
        if stream in broken:
            raise RuntimeError("the card fell off")
        return original(stream)

    monkeypatch.setattr(Stream, "speak", speak)
    good, _ = speaking.ask(6)
    bad, utterance = speaking.ask(6)
    assert bad.first.wait(60)
    assert utterance.stream is not None
    broken.append(utterance.stream)
    assert bad.ended.wait(60)
    assert isinstance(bad.problem, RuntimeError)
    assert good.ended.wait(60)
    assert good.problem is None
    too_long, _ = speaking.ask(700)
    assert too_long.ended.wait(60)
    assert isinstance(too_long.problem, ValueError)
    assert speaking.spoken(2)
