"""What has to be there before the first request, and what comes later."""

import threading

import pytest

from cosyserve import errors
from cosyserve.cosyvoice.runtime.generation import Generator
from cosyserve.cosyvoice.runtime.graphs import Make
from cosyserve.cosyvoice.runtime.request import TokenGenerator
from cosyserve.cosyvoice.runtime.token2wav import Token2Wav
from cosyserve.errors import CosyError
from tests.cosyvoice.seeded import SHALLOW, Model, seeded
from tests.cosyvoice.test_token2wav import Client, Speaking, alike, batched
from tests.running import HANGS, eventually


@pytest.fixture(scope="module")
def model() -> Model:
    return seeded(SHALLOW)


@pytest.fixture
def go_on(monkeypatch: pytest.MonkeyPatch) -> threading.Semaphore:
    """A stand-in for two graphs of a GPU; each is made once it is allowed to be."""
    allowed = threading.Semaphore(0)

    def make() -> None:
        assert allowed.acquire(timeout=HANGS)

    def graphs(generator: Generator) -> list[Make]:
        return [make, make]

    monkeypatch.setattr(Generator, "graphs", graphs)
    return allowed


def test_nobody_is_spoken_to_before_all_graphs_are_made(model: Model, go_on: threading.Semaphore) -> None:
    speaking = Speaking(model)
    try:
        listener, _ = speaking.ask(2)
        assert speaking.runtime.preparing == "CUDA graph 0/2"
        go_on.release()
        eventually(lambda: speaking.runtime.preparing == "CUDA graph 1/2")
        assert not listener.first.is_set()
        go_on.release()
        assert listener.ended.wait(HANGS)
        assert listener.problem is None
        assert speaking.runtime.preparing == ""
    finally:
        go_on.release(2)
        speaking.runtime.close()


def test_a_graph_that_cannot_be_made_breaks_the_runtime(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails() -> None:
        raise RuntimeError("no memory for a graph")

    monkeypatch.setattr(Generator, "graphs", lambda generator: [fails])
    speaking = Speaking(model)
    try:
        listener, _ = speaking.ask(2)
        assert listener.ended.wait(HANGS)
        assert "no memory for a graph" in str(listener.problem)
        assert speaking.runtime.broken == "no memory for a graph"
    finally:
        speaking.runtime.close()


def larger(model: Model) -> tuple[tuple[TokenGenerator, Token2Wav], str]:
    return (Generator(model.llm, 3, 600), batched(model, streams=3)), "larger"


def test_it_grows_as_soon_as_nobody_is_spoken_to(model: Model) -> None:
    speaking = Speaking(model, 1, together=True)
    made = threading.Event()

    def make() -> tuple[tuple[TokenGenerator, Token2Wav], str]:
        made.set()
        return larger(model)

    try:
        alone = speaking.spoken(3, seed=5)
        listener, utterance = speaking.ask(40, taking=False)  # it takes no chunk, and so does not end
        assert listener.first.wait(HANGS)
        growth = speaking.runtime.grow(make)
        short, _ = speaking.ask(2)
        assert not made.is_set()
        speaking.runtime.cancel(utterance)
        assert short.ended.wait(HANGS)
        assert growth.result(HANGS) == "larger"
        assert speaking.runtime.slots == 3
        beside = [speaking.ask(3, seed=seed)[0] for seed in (5, 6, 7)]
        for each in beside:
            assert each.ended.wait(HANGS)
            assert each.problem is None
        assert alike([chunk.tobytes() for chunk in beside[0].chunks], alone)
    finally:
        speaking.runtime.close()


def test_who_comes_while_it_grows_is_spoken_to(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between two graphs, each of which is a moment."""
    speaking = Speaking(model, 1, together=True)
    graphs: list[Make] = [lambda: come.append(speaking.ask(2)[0])] * 3
    come: list[Client] = []

    def make() -> tuple[tuple[TokenGenerator, Token2Wav], str]:
        monkeypatch.setattr(Generator, "graphs", lambda generator: graphs)
        return larger(model)

    try:
        speaking.runtime.grow(make).result(HANGS)
        assert len(come) == 3
        for listener in come:
            assert listener.ended.is_set()  # the runtime grew when nobody was spoken to
            assert listener.problem is None
    finally:
        speaking.runtime.close()


@pytest.mark.parametrize(
    ("problem", "told"),
    [
        (RuntimeError("CUDA out of memory"), errors.OUT_OF_MEMORY),
        (CosyError(errors.GPU_MEMORY, gib="1", seconds="15"), errors.GPU_MEMORY),
    ],
    ids=["memory runs out", "there is no room after all"],
)
def test_a_growth_that_fails_leaves_what_there_is(model: Model, problem: Exception, told: errors.Fault) -> None:
    speaking = Speaking(model, 1, together=True)

    def make() -> tuple[tuple[TokenGenerator, Token2Wav], str]:
        raise problem

    try:
        with pytest.raises(CosyError) as failed:
            speaking.runtime.grow(make).result(HANGS)
        assert failed.value.fault is told
        assert speaking.spoken(3)
        assert speaking.runtime.slots == 1
        assert speaking.runtime.broken == ""
        speaking.runtime.grow(lambda: larger(model)).result(HANGS)
        assert speaking.runtime.slots == 3
    finally:
        speaking.runtime.close()


def test_a_growth_that_is_still_to_come_ends_with_the_runtime(model: Model) -> None:
    speaking = Speaking(model, 1, together=True)
    listener, _ = speaking.ask(40, taking=False)
    assert listener.first.wait(HANGS)
    growth = speaking.runtime.grow(lambda: larger(model))
    speaking.runtime.close()
    assert growth.cancelled()
    assert speaking.runtime.grow(lambda: larger(model)).cancelled()  # as does one that is asked for later
