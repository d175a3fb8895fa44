"""Speech tokens from an engine that batches by itself: what a `Generator` is, on somebody else's executor.

Requests go to the executor as ids of one vocabulary; tokens come back for all of them, in whatever pieces. What ends an
utterance, what is dropped and whose failure it is are decided here, so that the adapter to the executor has nothing to
decide.
"""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

from cosyserve.cosyvoice.engine.vocabulary import Vocabulary
from cosyserve.cosyvoice.model.config import SPEECH_TOKENS
from cosyserve.cosyvoice.model.sampling import length_limits
from cosyserve.cosyvoice.runtime.graphs import Make
from cosyserve.cosyvoice.runtime.request import (
    EngineBrokenError,
    NoRoomError,
    Request,
    RequestFailedError,
    RequestRefusedError,
    Slot,
)


@dataclass(frozen=True)
class Drawing:
    """How the executor draws from the scores. It has no repetition-aware sampling; these values come nearest to it
    (`python -m bench.drawing`). `top_p` is a share of the sum of the `top_k` best, and `repetition` divides the
    score of every token heard before, the recording's too."""

    top_k: int = 25
    top_p: float = 1.0
    repetition: float = 1.2


@dataclass(frozen=True)
class Ask:
    """One generation: the ids it starts from, and how it is drawn. `end` alone ends it by itself, and not before
    `least` tokens."""

    prompt: Sequence[int]
    least: int
    most: int
    seed: int
    temperature: float
    end: int
    drawing: Drawing = Drawing()


@dataclass(frozen=True)
class Answer:
    """More ids of a generation, in their order. `error` is what went wrong with this one; it is final then."""

    number: int
    ids: Sequence[int]
    final: bool
    error: str = ""


class Executor(Protocol):
    def submit(self, ask: Ask) -> int:
        """The number of a generation that begins as soon as there is room."""
        ...

    def collect(self, seconds: float) -> list[Answer]:
        """What has come, waiting up to `seconds` for the first; raises where the engine itself is broken."""
        ...

    def cancel(self, number: int) -> None: ...

    def close(self) -> None: ...


# If a step fails, TensorRT-LLM's executor begins the error of every active request with this and goes on, but the
# cause (usually a CUDA error) makes each later step fail too. Any other error concerns one request.
_OF_THE_ENGINE = "Encountered an error in forward"


class EngineGenerator:
    """`slots` requests at once, of at most `length` positions each. Not to be used from two threads."""

    def __init__(self, executor: Executor, vocabulary: Vocabulary, slots: int, length: int) -> None:
        self._executor, self._vocabulary = executor, vocabulary
        self.slots, self.length = slots, length
        self.dropped = 0  # ids that were no speech
        self._running: dict[int, tuple[Slot, int]] = {}  # with the fewest tokens before it may stop

    @property
    def busy(self) -> bool:
        return bool(self._running)

    def graphs(self) -> list[Make]:
        return []

    def add(self, request: Request) -> Slot:
        """Begin a request; raises `NoRoomError`, `RequestRefusedError`."""
        least, most = length_limits(len(request.text))
        room = self.length - request.prompt_positions
        if room <= least:
            raise NoRoomError(f"{request.prompt_positions} positions leave no room in {self.length}")
        slot = Slot(min(most, room))
        if not most:  # without text there is nothing to say, and the engine takes no such request
            slot.done = True
            return slot
        text = [*request.prompt_text.tolist(), *request.text.tolist()]
        ask = Ask(
            prompt=self._vocabulary.prompt(text, request.prompt_speech.tolist()),
            least=least,
            most=slot.most,
            seed=request.seed,
            temperature=request.temperature,
            end=self._vocabulary.end,
        )
        self._running[self._submitted(ask)] = slot, least
        return slot

    def remove(self, slot: Slot) -> None:
        """Nobody waits for it any more."""
        slot.done = True
        for number in [number for number, (each, _) in self._running.items() if each is slot]:
            self._forget(number)
            self._executor.cancel(number)

    def advance(self, patience: float) -> list[tuple[Slot, int]]:
        """The speech tokens that have come for each request, waiting up to `patience` seconds for the first of them.

        A request that failed has its slot's `problem` set; raises `EngineBrokenError` where all have.
        """
        if not self._running:
            return []
        try:
            answers = self._executor.collect(patience)
        except Exception as error:
            self._abandon()
            raise EngineBrokenError(str(error) or type(error).__name__) from error
        if broken := next((each.error for each in answers if each.error.startswith(_OF_THE_ENGINE)), ""):
            self._abandon()
            raise EngineBrokenError(broken)
        told: list[tuple[Slot, int]] = []
        for answer in answers:
            if answer.number in self._running:  # otherwise it was cancelled and its answer is not needed
                told += self._taken(answer)
        return told

    def close(self) -> None:
        self._abandon()
        self._executor.close()

    def _abandon(self) -> None:
        """Cancel all requests, because the executor would run them to their ends before it closes."""
        for number in self._running:
            with suppress(Exception):  # it may no longer answer
                self._executor.cancel(number)
        self._running.clear()

    def _submitted(self, ask: Ask) -> int:
        try:
            return self._executor.submit(ask)
        except Exception as error:
            raise RequestRefusedError(str(error)) from error

    def _taken(self, answer: Answer) -> list[tuple[Slot, int]]:
        slot, least = self._running[answer.number]
        told = []
        stopped = False
        for number in answer.ids:
            token = number - self._vocabulary.text
            if 0 <= token < SPEECH_TOKENS and slot.spoken < slot.most:
                slot.spoken += 1
                told.append((slot, token))
            elif number in self._vocabulary.stops and slot.spoken >= least:
                stopped = True
                break
            else:  # a stop that came too soon, or no speech at all
                self.dropped += number not in self._vocabulary.stops
        if answer.error:
            slot.problem = RequestFailedError(answer.error)
        if stopped and not answer.final:  # by a stop that the engine does not know as one
            self._executor.cancel(answer.number)
        if stopped or answer.final:
            slot.done = True
            self._forget(answer.number)
        return told

    def _forget(self, number: int) -> None:
        del self._running[number]
