"""The generator on an engine, with the stand-in executor: many requests, cancels, failures, slow readers."""

import asyncio
import contextlib
import json
import random
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from safetensors.torch import save_file

from cosyserve.assets.export import head_bias
from cosyserve.cosyvoice.engine.batching import Answer, Ask, EngineGenerator
from cosyserve.cosyvoice.engine.trtllm import TrtllmExecutor
from cosyserve.cosyvoice.engine.vocabulary import Vocabulary
from cosyserve.cosyvoice.frontend.tokenizer import TextTokenizer
from cosyserve.cosyvoice.model.config import SPEECH_TOKENS
from cosyserve.cosyvoice.model.sampling import length_limits
from cosyserve.cosyvoice.runtime.graphs import captured
from cosyserve.cosyvoice.runtime.request import EngineBrokenError, Request, RequestFailedError, Slot
from cosyserve.speech.capacity import by_setting
from cosyserve.speech.cosyvoice import CosyVoiceSynthesizer
from cosyserve.speech.runtime_config import RuntimeConfig
from cosyserve.speech.synthesizer import Options
from cosyserve.store.engines import BIAS, CONFIG, PLAN, Engines
from cosyserve.store.manifest import MODEL_FOLDER
from tests.assets.test_engines import KEY
from tests.cosyvoice.trtllm import driver
from tests.running import eventually

VOCABULARY = Vocabulary(300)
NO_BIAS = VOCABULARY.bias(torch.zeros(SPEECH_TOKENS + 3))


def request(words: int = 5, seed: int = 0) -> Request:
    nothing = torch.empty(0, dtype=torch.long)
    return Request(torch.arange(words), nothing, nothing, seed)


def opened(folder: Path, slots: int = 8, **behaviour: float) -> EngineGenerator:
    (folder / "rank0.engine").write_bytes(b"stand-in")
    (folder / "behaviour.json").write_text(json.dumps(behaviour))
    return EngineGenerator(TrtllmExecutor(folder, NO_BIAS, slots, 1000), VOCABULARY, slots, 512)


@pytest.fixture
def generator(with_trtllm: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[EngineGenerator]:
    monkeypatch.setenv("STANDIN_MPI", "none")
    generator = opened(tmp_path)
    yield generator
    generator.close()


def inside(generator: EngineGenerator) -> Any:
    """The stand-in for TensorRT-LLM's executor."""
    return generator._executor._executor  # type: ignore[attr-defined]


def spoken(generator: EngineGenerator, *slots: Slot) -> list[list[int]]:
    """The tokens of each, once all are done."""
    tokens: dict[int, list[int]] = {id(slot): [] for slot in slots}
    while not all(slot.done for slot in slots):
        for slot, token in generator.advance(1.0):
            tokens[id(slot)].append(token)
    return [tokens[id(slot)] for slot in slots]


def test_a_seed_gives_the_same_tokens_in_any_company(generator: EngineGenerator) -> None:
    (alone,) = spoken(generator, generator.add(request(seed=7)))
    among = spoken(generator, *[generator.add(request(seed=seed)) for seed in (1, 7, 3)])
    assert among[1] == alone
    assert among[0] != alone
    assert length_limits(5)[0] <= len(alone) <= length_limits(5)[1]
    assert all(0 <= token < SPEECH_TOKENS for token in alone)


@pytest.mark.usefixtures("with_trtllm")
def test_64_requests_with_cancels_failures_and_slow_readers(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("STANDIN_MPI", "none")
    threads = threading.active_count()
    generator = opened(tmp_path, slots=16, fails=0.2, strays=0.2)
    draw = random.Random(5)
    expected: dict[int, list[int]] = {}
    open_files = psutil.Process().num_fds()
    waiting = list(range(64))
    running: dict[int, tuple[Slot, list[int]]] = {}
    ended = {"done": 0, "failed": 0, "cancelled": 0}
    while waiting or running:
        while waiting and len(running) < generator.slots:
            seed = waiting.pop()
            running[seed] = generator.add(request(words=draw.randrange(1, 12), seed=seed)), []
        if draw.random() < 0.1:  # a reader that is slow leaves much to be read at once
            threading.Event().wait(0.01)
        by_slot = {id(slot): tokens for slot, tokens in running.values()}
        for slot, token in generator.advance(0.05):
            by_slot[id(slot)].append(token)
        for seed, (slot, tokens) in list(running.items()):
            if slot.problem is not None:
                assert isinstance(slot.problem, RequestFailedError)
                assert slot.done
                ended["failed"] += 1
            elif slot.done:
                assert tokens
                expected[seed] = tokens
                ended["done"] += 1
            elif draw.random() < 0.02:
                generator.remove(slot)
                ended["cancelled"] += 1
            else:
                continue
            del running[seed]
    assert sum(ended.values()) == 64
    assert min(ended.values()) > 0, ended
    assert generator.dropped > 0
    assert not generator.busy
    executor = inside(generator)
    while executor.requests:  # cancelled ones leave with the executor's next step
        generator.advance(0.01)
        threading.Event().wait(0.001)
    generator.close()
    assert threading.active_count() == threads
    assert psutil.Process().num_fds() == open_files


@pytest.mark.usefixtures("with_trtllm")
def test_a_broken_engine_fails_all_and_is_told_apart(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """It is never told but in the error texts of the requests that were being worked at."""
    monkeypatch.setenv("STANDIN_MPI", "none")
    generator = opened(tmp_path, breaks_after=3)
    generator.add(request())
    generator.add(request())
    with pytest.raises(EngineBrokenError, match="illegal memory access"):
        for _ in range(1000):
            generator.advance(0.05)
    assert not generator.busy
    generator.close()


@pytest.mark.usefixtures("with_trtllm")
def test_a_request_that_the_engine_cannot_take_is_its_own_error(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("STANDIN_MPI", "none")
    (tmp_path / CONFIG).write_text(json.dumps({"asked": {"max_input_len": 60}}))
    generator = opened(tmp_path)
    long, short = generator.add(request(words=80)), generator.add(request())
    assert spoken(generator, long, short)[1]
    assert isinstance(long.problem, RequestFailedError)
    assert "exceeds maximum input length" in str(long.problem)
    assert short.problem is None
    generator.close()


def test_a_request_without_text_needs_no_engine(generator: EngineGenerator) -> None:
    slot = generator.add(request(words=0))
    assert slot.done
    assert slot.problem is None
    assert not generator.busy


@pytest.mark.usefixtures("with_trtllm")
def test_nothing_is_spoken_to_its_end_for_nobody(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The executor's own shutdown waits for whatever is inside."""
    monkeypatch.setenv("STANDIN_MPI", "none")
    generator = opened(tmp_path, slots=1)
    for _ in range(3):
        generator.add(request(words=20))
    executor = inside(generator)
    steps = executor.steps
    generator.close()
    assert executor.steps - steps < length_limits(20)[0]  # not even the shortest of them


def test_no_stop_but_the_first_can_be_drawn(generator: EngineGenerator, tmp_path: Path) -> None:
    """The engine holds back the first alone until a request has its fewest tokens."""
    (tmp_path / "behaviour.json").write_text(json.dumps({"stops": 1.0}))
    bias = VOCABULARY.with_one_stop(NO_BIAS)
    assert (bias != NO_BIAS).nonzero()[:, 0].tolist() == list(VOCABULARY.stops[1:])
    executor = TrtllmExecutor(tmp_path, bias, 4, 1000)
    executor.submit(Ask(prompt=[1, 2], least=8, most=40, seed=3, temperature=1.0, end=END))
    ids = list[int]()
    final = False
    while not final:
        for answer in executor.collect(1.0):
            ids += answer.ids
            final = answer.final
    assert set(ids) & set(VOCABULARY.stops) == {END}
    executor.close()


@pytest.mark.parametrize("mode", ["global", "thread_local"])
def test_a_capture_beside_a_speaking_engine(
    generator: EngineGenerator, monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    """In the global mode both fail: the stand-in holds to what was measured on a card (bench/capture.py)."""
    driver.install(monkeypatch)
    if mode == "global":
        monkeypatch.setattr(torch.cuda, "graph", lambda graph, **_: driver.capture(graph))
    executor = inside(generator)
    slots = [generator.add(request(words=100))]

    def until_the_engine_has_moved() -> None:
        begun = executor.steps
        eventually(lambda: executor.steps >= begun + 2 or not executor.requests)

    if mode == "thread_local":
        captured(until_the_engine_has_moved)
        assert all(spoken(generator, *slots))
        return
    with pytest.raises(RuntimeError, match="previous error during capture"):
        captured(lambda: eventually(lambda: not executor.requests), warm_ups=0)
    with pytest.raises(EngineBrokenError, match="stream is capturing"):
        spoken(generator, *slots)


def test_a_request_without_room_is_refused(generator: EngineGenerator) -> None:
    with pytest.raises(ValueError, match="no room"):
        generator.add(request(words=300))


class Scripted:
    """An executor that says what it is told to."""

    def __init__(self, *answers: Answer) -> None:
        self.answers, self.cancelled, self.asked = list(answers), list[int](), list[Ask]()

    def submit(self, ask: Ask) -> int:
        self.asked.append(ask)
        return len(self.asked)

    def collect(self, seconds: float) -> list[Answer]:
        answers, self.answers = self.answers, []
        return answers

    def cancel(self, number: int) -> None:
        self.cancelled.append(number)

    def close(self) -> None:
        pass


FIRST, END, SECOND_END = VOCABULARY.speech[0], VOCABULARY.stops[0], VOCABULARY.stops[1]


@pytest.mark.parametrize(
    ("words", "ids", "final", "tokens", "done", "dropped", "cancelled"),
    [
        (1, [FIRST, FIRST + 5, END], True, [0, 5], True, 0, []),
        (1, [FIRST, FIRST + 1, SECOND_END, FIRST], False, [0, 1], True, 0, [1]),  # the engine does not know it as one
        (2, [FIRST, SECOND_END, FIRST + 2], False, [0, 2], False, 0, []),  # too soon: four tokens are the least
        (1, [FIRST, 5, VOCABULARY.begin, FIRST + 1], False, [0, 1], False, 2, []),
        (1, [VOCABULARY.speech[-1]], False, [SPEECH_TOKENS - 1], False, 0, []),
    ],
)
def test_what_ends_an_utterance_and_what_is_dropped(
    words: int, ids: list[int], final: bool, tokens: list[int], done: bool, dropped: int, cancelled: list[int]
) -> None:
    executor = Scripted(Answer(1, ids, final))
    generator = EngineGenerator(executor, VOCABULARY, 4, 512)
    slot = generator.add(request(words))
    assert [token for _, token in generator.advance(0)] == tokens
    assert (slot.done, generator.dropped, executor.cancelled) == (done, dropped, cancelled)


def test_what_is_asked_of_the_engine() -> None:
    executor = Scripted()
    generator = EngineGenerator(executor, VOCABULARY, 4, 512)
    text, words, speech = torch.tensor([1, 2]), torch.tensor([9]), torch.tensor([4, 5])
    generator.add(Request(text, words, speech, seed=3, temperature=0.5))
    (ask,) = executor.asked
    assert ask.prompt == [VOCABULARY.begin, 9, 1, 2, VOCABULARY.task, FIRST + 4, FIRST + 5]
    assert (ask.least, ask.most, ask.seed, ask.temperature, ask.end) == (4, 40, 3, 0.5, END)


def test_the_last_words_of_a_cancelled_request_are_nobodys() -> None:
    executor = Scripted()
    generator = EngineGenerator(executor, VOCABULARY, 4, 512)
    slot = generator.add(request())
    other = generator.add(request())
    generator.remove(slot)
    executor.answers = [Answer(1, [FIRST], False), Answer(2, [FIRST], False)]
    assert generator.advance(0) == [(other, 0)]
    assert executor.cancelled == [1]


@pytest.mark.usefixtures("with_trtllm")
def test_a_request_that_fails_in_the_engine_is_one_clients_error(
    models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Through the synthesizer: some clients are told, the others hear all they asked for."""
    monkeypatch.setenv("STANDIN_MPI", "none")
    folder = models / MODEL_FOLDER
    vocabulary = Vocabulary(TextTokenizer(folder).size)

    def write(into: Path) -> None:
        (into / PLAN).write_bytes(b"stand-in")
        (into / CONFIG).write_text("{}")
        (into / "behaviour.json").write_text(json.dumps({"fails": 0.25}))
        save_file({"bias": vocabulary.bias(head_bias(folder))}, into / BIAS)

    engine = Engines(tmp_path).build(KEY, write)
    bound = by_setting(4)
    way = RuntimeConfig("cpu", torch.float32, int8=False, threads=1, bound=bound, state_dir=tmp_path, keep_tokens=None)
    synthesizer = CosyVoiceSynthesizer(folder, tmp_path / "voices", way, engine.folder)
    voice = next(iter(synthesizer.voices.values()))

    async def listen(seed: int) -> int:
        chunks = [pcm async for pcm in synthesizer.synthesize("Hello there.", voice, Options(seed=seed))]
        return sum(map(len, chunks))

    async def all_of_them(count: int = 12) -> list[int | BaseException]:
        return await asyncio.gather(*(listen(seed) for seed in range(count)), return_exceptions=True)

    with contextlib.closing(synthesizer):
        heard = asyncio.run(all_of_them())
        assert asyncio.run(synthesizer.rest.sleep())
        again = asyncio.run(all_of_them(4))  # by the same engine, opened again
    assert any(isinstance(each, int) and each > 0 for each in again)
    failed = [each for each in heard if isinstance(each, BaseException)]
    assert 0 < len(failed) < 5  # as many without a success between them would be the engine's fault
    assert all(isinstance(each, RequestFailedError) for each in failed)
    assert all(each > 0 for each in heard if not isinstance(each, BaseException))
    assert not synthesizer.broken
