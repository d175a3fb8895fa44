"""Tests an engine's executor alone, without a server: a program of its own, on a rung of the launch ladder."""

import sys
import time
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from cosyserve.check.seen import CANCEL_AFTER, COMPARED, TEXT_IDS, TOO_LONG, Executed, Greedy, Work
from cosyserve.cosyvoice.engine.batching import Ask, Drawing, Executor
from cosyserve.cosyvoice.engine.trtllm import TrtllmExecutor
from cosyserve.cosyvoice.engine.vocabulary import Vocabulary
from cosyserve.cosyvoice.frontend.edition import EDITIONS
from cosyserve.cosyvoice.frontend.tokenizer import TextTokenizer
from cosyserve.cosyvoice.model.config import Sizes
from cosyserve.cosyvoice.model.loading import load_llm
from cosyserve.cosyvoice.model.sampling import length_limits
from cosyserve.cosyvoice.runtime.generation import Generator
from cosyserve.cosyvoice.runtime.request import Request
from cosyserve.host import libpython
from cosyserve.launch.worker import carry_out
from cosyserve.speech.engine_tokens import bias_of
from cosyserve.store.engines import Engine, Engines

_TEXT = "The quick brown fox jumps over the lazy dog, again and again."
_SLOTS = 4
_SECONDS = 120  # for one request


class Questions:
    """What is asked of an executor, one request after the other."""

    def __init__(self, executor: Executor, vocabulary: Vocabulary, text: Tensor) -> None:
        self._executor, self._vocabulary = executor, vocabulary
        least, most = length_limits(len(text))
        prompt = vocabulary.prompt(text.tolist(), [])
        self.ask = Ask(prompt, least, most, seed=7, temperature=1.0, end=vocabulary.stops[0])

    def tokens(self, ask: Ask, cancel_after: int | None = None) -> list[int]:
        """The ids that come, without the stop; raises a RuntimeError with the executor's message if it fails."""
        number = self._executor.submit(ask)
        ids: list[int] = []
        cancelled = False
        until = time.monotonic() + _SECONDS
        while time.monotonic() < until:
            for answer in self._executor.collect(1.0):
                if answer.error:
                    raise RuntimeError(answer.error)
                ids += answer.ids
                if answer.final:
                    return [each for each in ids if each != ask.end]
            if cancel_after is not None and len(ids) >= cancel_after and not cancelled:
                self._executor.cancel(number)
                cancelled = True
        raise RuntimeError(f"no end within {_SECONDS} s, after {len(ids)} tokens")

    def refusal(self) -> str:
        """The executor's error for a prompt that is too long; empty if it accepts it."""
        try:
            self.tokens(replace(self.ask, prompt=[self._vocabulary.begin] * TOO_LONG))
        except RuntimeError as error:
            return str(error)
        return ""

    @property
    def greedy(self) -> Ask:
        """The most likely token each time, and no penalty, so that PyTorch's can be compared."""
        return replace(self.ask, temperature=0.0, drawing=Drawing(repetition=1.0))

    def strays(self, ids: list[int]) -> int:
        known = (*self._vocabulary.speech, *self._vocabulary.stops)
        return len([each for each in ids if each not in known])

    def speech(self, ids: list[int]) -> list[int]:
        return [each - self._vocabulary.text for each in ids]


def execute(work: Work) -> Executed:
    engines = Engines(work.engine.parent.parent)
    engine = engines.read(work.engine)
    if engine is None:
        raise FileNotFoundError(f"there is no whole engine in {work.engine}")
    edition = EDITIONS[work.name]
    tokenizer, config = TextTokenizer(work.model, edition.added), edition.config(work.model)
    vocabulary, text = Vocabulary.of(config.llm, tokenizer.size), tokenizer.encode(_TEXT)[:TEXT_IDS]
    libpython.load()
    began = time.monotonic()
    executor = TrtllmExecutor(engine.folder, bias_of(engine, vocabulary), _SLOTS, _SLOTS * engine.key.shape.max_seq)
    seconds = time.monotonic() - began
    asked = Questions(executor, vocabulary, text)
    seeded = [asked.tokens(asked.ask) for _ in range(2)]
    greedy = [asked.tokens(asked.greedy) for _ in range(2)]
    refusal = asked.refusal()
    after_refusal = len(asked.tokens(asked.ask))
    # Of a request that would go on for long, so that there is something left to be cancelled.
    cancelled = len(asked.tokens(replace(asked.ask, least=asked.ask.most - 1), CANCEL_AFTER))
    executor.close()
    return Executed(
        seconds=seconds,
        length=len(seeded[0]),
        seeded=seeded,
        strays=asked.strays([*seeded[0], *greedy[0]]),
        greedy=greedy,
        refusal=refusal,
        after_refusal=after_refusal,
        cancelled=cancelled,
        against_pytorch=Greedy(
            engine=asked.speech(greedy[0][:COMPARED]), pytorch=greedy_of_pytorch(work.model, config, engine, text)
        ),
    )


def greedy_of_pytorch(model: Path, config: Sizes, engine: Engine, text: Tensor) -> list[int]:
    """The first tokens of our own decoder for the same request, in the engine's type."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    llm = load_llm(model, config, getattr(torch, engine.key.shape.dtype), device)
    generator = Generator(llm, 1, engine.key.shape.max_seq)
    nothing = torch.empty(0, dtype=torch.long)
    slot = generator.add(Request(text, nothing, nothing, temperature=0.0))
    tokens: list[int] = []
    while not slot.done and len(tokens) < COMPARED:
        tokens += [token for _, token in generator.advance()]
    return tokens


def main() -> None:
    work = Work.model_validate_json(sys.argv[1])
    carry_out(lambda: _written(work))


def _written(work: Work) -> None:
    work.into.write_text(execute(work).model_dump_json(), encoding="utf-8")


if __name__ == "__main__":
    main()
