"""Crowds that come, leave and fail: what they held is free again, and who stays hears what is heard alone."""

import random
import threading
import time
from collections.abc import Iterator

import pytest
import torch

from cosyserve.cosyvoice.runtime.batched import BatchedToken2Wav
from cosyserve.cosyvoice.runtime.flow_batch import FlowBatch
from cosyserve.cosyvoice.runtime.generation import Generator
from cosyserve.cosyvoice.runtime.hops import Hops
from cosyserve.cosyvoice.runtime.memory import pages_behind
from cosyserve.cosyvoice.runtime.request import Request
from cosyserve.cosyvoice.runtime.runtime import Runtime
from cosyserve.cosyvoice.runtime.utterance import Utterance
from tests.cosyvoice.seeded import SHALLOW, Model, seeded
from tests.cosyvoice.test_token2wav import NOTHING, Client, alike, prompt
from tests.running import HANGS, eventually

FRAMES, STREAMS = 300, 4


@pytest.fixture(scope="module")
def model() -> Model:
    return seeded(SHALLOW)


class Crowded:
    """A runtime with pages for its streams and one voice, in which voices take each other's place."""

    def __init__(self, model: Model) -> None:
        self.generator = Generator(model.llm, STREAMS, 400, piece=16)
        pages = STREAMS * pages_behind(FRAMES) + 2
        self.token2wav = BatchedToken2Wav(model.flow, model.hift, Hops(), STREAMS, pages, FRAMES)
        self.runtime = Runtime(self.generator, self.token2wav, threads=1)
        self.voices = [prompt(40 + 30 * number, number) for number in range(6)]

    def ask(self, seed: int, text: int = 2) -> tuple[Client, Utterance]:
        client, voice = Client(), self.voices[seed % len(self.voices)]
        utterance = Utterance(Request(torch.arange(text), NOTHING, voice.speech[:9], seed), voice, client.give)
        client.take = utterance.take
        self.runtime.start(utterance)
        return client, utterance

    def sound(self, seed: int) -> list[bytes]:
        client, _ = self.ask(seed)
        return heard(client)

    def leaks(self) -> dict[str, int]:
        """What is held though nobody is spoken to; a voice that is known has its pages."""
        known = {page for voice in self.token2wav.voices for page in voice.pages}
        pages = self.token2wav.batch.pages
        return {
            "pages": pages.count - pages.free - len(known),
            "slots of the flow": STREAMS - self.token2wav.batch.free,
            "slots of the language model": int(self.generator.busy),
        }


def heard(client: Client) -> list[bytes]:
    assert client.ended.wait(HANGS)
    assert client.problem is None
    return [chunk.tobytes() for chunk in client.chunks]


@pytest.fixture
def crowded(model: Model) -> Iterator[Crowded]:
    running = Crowded(model)
    yield running
    running.runtime.close()


NOTHING_HELD = {"pages": 0, "slots of the flow": 0, "slots of the language model": 0}


def test_who_leaves_at_any_moment_leaves_nothing_behind(crowded: Crowded) -> None:
    chance = random.Random(7)
    alone = {seed: crowded.sound(seed) for seed in range(6)}
    staying: list[tuple[int, Client]] = []
    for number in range(80):
        client, utterance = crowded.ask(number)
        if number < len(alone):
            staying.append((number, client))
        else:
            if chance.random() < 0.3:
                client.first.wait(0.2)
            crowded.runtime.cancel(utterance)
    for seed, client in staying:
        assert alike(heard(client), alone[seed])
    eventually(lambda: crowded.leaks() == NOTHING_HELD)
    assert all(alike(crowded.sound(seed), before) for seed, before in alone.items())


def test_memory_that_runs_out_in_the_batch_ends_one_stream_and_the_others_sound_as_ever(
    crowded: Crowded, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the very step that all of them share, before, in and after the network."""
    alone = [crowded.sound(seed) for seed in range(STREAMS)]
    really, raised = FlowBatch.move, list[int]()

    def move(batch: FlowBatch, works: list[object]) -> object:
        if len({id(work.state) for work in works}) > 1 and not raised:  # type: ignore[attr-defined]
            raised.append(len(works))
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 MiB.")
        return really(batch, works)  # type: ignore[arg-type]

    monkeypatch.setattr(FlowBatch, "move", move)
    asked = [crowded.ask(seed)[0] for seed in range(STREAMS)]
    ended = [client.ended.wait(HANGS) and client.problem for client in asked]
    assert raised
    assert sum(problem is not None for problem in ended) == 1
    for client, problem, before in zip(asked, ended, alone, strict=True):
        if problem is None:
            assert alike(heard(client), before)
    eventually(lambda: crowded.leaks() == NOTHING_HELD)


def test_a_voice_that_cannot_be_begun_waits_and_is_never_cut(crowded: Crowded) -> None:
    """Six voices at once, where there are pages for the streams and hardly a voice beside them."""
    alone = [crowded.sound(seed) for seed in range(6)]
    asked = [crowded.ask(seed)[0] for seed in range(6)]
    assert all(alike(heard(client), before) for client, before in zip(asked, alone, strict=True))
    eventually(lambda: crowded.leaks() == NOTHING_HELD)


def test_many_short_requests_one_after_the_other_leave_nothing(crowded: Crowded) -> None:
    done = threading.Semaphore(0)

    def client(first: int) -> None:
        for number in range(10):
            crowded.sound(first + number)
        done.release()

    for first in range(0, 40, 10):
        threading.Thread(target=client, args=(first,), daemon=True).start()
    deadline = time.monotonic() + HANGS
    for _ in range(4):
        assert done.acquire(timeout=max(0.0, deadline - time.monotonic()))
    eventually(lambda: crowded.leaks() == NOTHING_HELD)
