"""CosyVoice3's engine: what is asked of it, what ends speech, and that nothing has to lie beside it."""

import json
from pathlib import Path

import pytest
import torch

from cosyserve.cosyvoice.engine.batching import Answer, Ask, EngineGenerator
from cosyserve.cosyvoice.engine.trtllm import TrtllmExecutor
from cosyserve.cosyvoice.engine.vocabulary import COSYVOICE3, Vocabulary
from cosyserve.cosyvoice.model.config import SPEECH_TOKENS
from cosyserve.cosyvoice.model.sampling import length_limits
from cosyserve.cosyvoice.runtime.request import Request
from cosyserve.errors import CosyError
from cosyserve.speech.engine_tokens import bias_of
from cosyserve.store.engines import CONFIG, PLAN, Engine, Engines
from tests.assets.test_engines import KEY
from tests.cosyvoice.trtllm.test_generator import Scripted, request, spoken

VOCABULARY = Vocabulary(300, COSYVOICE3)
FIRST = VOCABULARY.speech[0]


def test_what_is_asked_of_the_engine() -> None:
    executor = Scripted()
    generator = EngineGenerator(executor, VOCABULARY, 4, 512)
    text, lead, speech = torch.tensor([1, 2]), torch.tensor([9, 8]), torch.tensor([4, 5])
    generator.add(Request(text, lead, speech, seed=3))
    (ask,) = executor.asked
    assert ask.prompt == [FIRST + 6561, 9, 8, 1, 2, FIRST + 6563, FIRST + 4, FIRST + 5]
    assert (ask.least, ask.most, ask.end) == (4, 40, FIRST + 6562)  # the lead does not count


@pytest.mark.parametrize("stop", [0, 1, 2, 3, 57, 199])
def test_any_of_the_200_ends_speech_once_it_is_long_enough(stop: int) -> None:
    end = VOCABULARY.stops[stop]
    executor = Scripted(Answer(1, [FIRST, end, FIRST + 1, end, FIRST + 2], final=False))
    generator = EngineGenerator(executor, VOCABULARY, 4, 512)
    slot = generator.add(request(1))
    assert [token for _, token in generator.advance(0)] == [0, 1]
    assert (slot.done, generator.dropped, executor.cancelled) == (True, 0, [1])


def built(folder: Path, **behaviour: float) -> Engine:
    def write(into: Path) -> None:
        (into / PLAN).write_bytes(b"stand-in")
        (into / CONFIG).write_text("{}")
        (into / "behaviour.json").write_text(json.dumps(behaviour))

    return Engines(folder).build(KEY, write, parts=(PLAN, CONFIG))


@pytest.mark.usefixtures("with_trtllm")
def test_an_engine_speaks_without_a_bias_beside_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("STANDIN_MPI", "none")
    engine = built(tmp_path)
    generator = EngineGenerator(TrtllmExecutor(engine.folder, bias_of(engine, VOCABULARY), 8, 1000), VOCABULARY, 8, 512)
    alone, *_ = spoken(generator, generator.add(request(seed=7)))
    among = spoken(generator, *[generator.add(request(seed=seed)) for seed in (1, 7, 3)])
    generator.close()
    assert among[1] == alone
    for tokens in among:
        assert length_limits(5)[0] <= len(tokens) <= length_limits(5)[1]
        assert all(0 <= token < SPEECH_TOKENS for token in tokens)
    assert generator.dropped == 0


@pytest.mark.usefixtures("with_trtllm")
def test_no_stop_but_the_meant_one_can_be_drawn(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The engine holds that one alone back until a request has its fewest tokens."""
    monkeypatch.setenv("STANDIN_MPI", "none")
    engine = built(tmp_path, stops=1.0)
    executor = TrtllmExecutor(engine.folder, bias_of(engine, VOCABULARY), 4, 1000)
    executor.submit(Ask(prompt=[1, 2], least=8, most=40, seed=3, temperature=1.0, end=VOCABULARY.end))
    ids, final = list[int](), False
    while not final:
        for answer in executor.collect(1.0):
            ids += answer.ids
            final = answer.final
    executor.close()
    assert set(ids) & set(VOCABULARY.stops) == {VOCABULARY.end}


def test_an_engine_of_the_other_edition_needs_its_bias(tmp_path: Path) -> None:
    def write(into: Path) -> None:
        (into / PLAN).write_bytes(b"stand-in")

    with pytest.raises(CosyError, match="CS-BUILD-005"):
        Engines(tmp_path).build(KEY, write)
    with pytest.raises(FileNotFoundError):
        bias_of(built(tmp_path), Vocabulary(300))
