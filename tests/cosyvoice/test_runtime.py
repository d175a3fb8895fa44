"""What has to be there before the first request."""

import threading

import pytest

from cosyserve.cosyvoice.runtime.generation import Generator
from cosyserve.cosyvoice.runtime.graphs import Make
from tests.cosyvoice.seeded import SHALLOW, Model, seeded
from tests.cosyvoice.test_token2wav import Speaking
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
