"""Whether tokens stand still while first hops are made."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from threading import Condition

import pytest
import torch
from torch import Tensor

from cosyserve.cosyvoice.frontend.prompt_encoder import Prompt
from cosyserve.cosyvoice.runtime.graphs import Make
from cosyserve.cosyvoice.runtime.health import Health
from cosyserve.cosyvoice.runtime.render import RenderStage
from cosyserve.cosyvoice.runtime.request import Request
from cosyserve.cosyvoice.runtime.token2wav import Hop, Token2WavStream
from cosyserve.cosyvoice.runtime.tokens import TokenStage
from cosyserve.cosyvoice.runtime.utterance import Pcm, Utterance
from tests.cosyvoice.test_token2wav import NOTHING

PROMPT = Prompt(NOTHING, torch.zeros(0, 80), torch.zeros(192))


class StandInTokens:
    """A hop that is ready or not."""

    ready = True


@dataclass
class StandInToken2Wav:
    """Hops of a tenth of a second, or as many as are said to fail."""

    stage: RenderStage | None = None
    fails: bool = False
    alone: list[bool] = field(default_factory=list)
    """Of the stage, at each batch of hops."""
    width: int = 4
    slots: float = 4

    def graphs(self) -> list[Make]:
        return []

    def stream(self, prompt: Prompt, seed: int, *, whole: bool = False) -> Token2WavStream:
        return Token2WavStream(StandInTokens(), None, None)  # type: ignore[arg-type]

    def hops(self, streams: Sequence[Token2WavStream]) -> list[Hop]:
        assert self.stage is not None
        self.alone.append(self.stage.alone)
        if self.fails:
            raise RuntimeError("a hop that fails")
        return [(torch.zeros(1, 80, 5), False) for _ in streams]

    def waves(self, streams: Sequence[Token2WavStream], hops: Sequence[Hop]) -> list[Tensor]:
        return [torch.zeros(2400) for _ in streams]

    def release(self, stream: Token2WavStream) -> None: ...


class StandInGenerator:
    slots = 4


class Stage:
    def __init__(self) -> None:
        changed, health = Condition(), Health("cpu")
        self.token2wav = StandInToken2Wav()
        tokens = TokenStage(StandInGenerator(), health, changed)  # type: ignore[arg-type]
        self.render = RenderStage(self.token2wav, 4, tokens, health, changed)
        self.token2wav.stage = self.render

    def ask(self, *, ready: bool) -> Utterance:
        def give(item: Pcm | Exception | None) -> None:
            utterance.take()

        utterance = Utterance(Request(NOTHING, NOTHING, NOTHING), PROMPT, give)
        self.render.add(utterance)
        stream = self.token2wav.stream
        tokens = StandInTokens()
        tokens.ready = ready
        self.token2wav.stream = lambda *_, **__: Token2WavStream(tokens, None, None)  # type: ignore[arg-type,method-assign]
        self.render.round()
        self.token2wav.stream = stream  # type: ignore[method-assign]
        return utterance


@pytest.fixture
def stage() -> Stage:
    return Stage()


def test_they_do_where_all_first_hops_can_be_made(stage: Stage) -> None:
    stage.ask(ready=True)
    assert stage.token2wav.alone == [True]
    assert not stage.render.alone


def test_they_do_not_for_later_hops(stage: Stage) -> None:
    stage.ask(ready=True)
    stage.render.round()
    assert stage.token2wav.alone == [True, False]


def test_they_do_not_where_somebody_is_near_the_end_of_what_was_given(stage: Stage) -> None:
    begun = stage.ask(ready=True)  # has a tenth of a second
    assert begun.stream is not None
    begun.stream.tokens.ready = False  # type: ignore[misc]
    stage.ask(ready=True)
    assert stage.token2wav.alone == [True, False]


def test_they_go_on_after_a_hop_that_fails(stage: Stage) -> None:
    stage.token2wav.fails = True
    stage.ask(ready=True)
    assert stage.token2wav.alone == [True]
    assert not stage.render.alone
