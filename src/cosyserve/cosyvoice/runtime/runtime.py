"""Many requests, one model: the language model draws tokens, and what renders them makes hops of sound.

On a GPU each of the two stages has a thread and a stream of the device, so that neither waits for the other. On a
processor they take turns in one thread, as they would only take each other's cores.
"""

import gc
import threading
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple, TypeVar

import torch

from cosyserve.cosyvoice.runtime.health import Health
from cosyserve.cosyvoice.runtime.render import RenderStage
from cosyserve.cosyvoice.runtime.request import TokenGenerator
from cosyserve.cosyvoice.runtime.token2wav import Token2Wav
from cosyserve.cosyvoice.runtime.tokens import PATIENCE, TokenStage
from cosyserve.cosyvoice.runtime.utterance import Utterance
from cosyserve.errors import CosyError

Made = tuple[TokenGenerator, Token2Wav]
T = TypeVar("T")


class Growth(NamedTuple):
    future: "Future[Any]"
    steps: Generator[None, None, Any]


class Runtime:
    """Threads with the model. Other threads start and cancel utterances."""

    def __init__(self, generator: TokenGenerator, token2wav: Token2Wav, threads: int, device: str = "cpu") -> None:
        self.slots = min(generator.slots, token2wav.slots)  # utterances at once
        self._health, self._changed, self._closed = Health(device), threading.Condition(), False
        self._tokens = TokenStage(generator, self._health, self._changed)
        self._render = RenderStage(token2wav, self.slots, self._tokens, self._health, self._changed)
        self._to_make = [*generator.graphs(), *token2wav.graphs()]
        self._made, self._prepared = 0, threading.Event()
        self._growth: Growth | None = None
        works = (self._draw, self._speak) if device.startswith("cuda") else (self._take_turns,)
        self._threads = [
            threading.Thread(target=self._run, args=(work, threads), name="cosyvoice", daemon=True) for work in works
        ]
        for thread in self._threads:
            thread.start()

    @property
    def broken(self) -> str:
        """Why it will never speak again; empty as long as it may."""
        return self._health.broken

    @property
    def preparing(self) -> str:
        """How far it is with what has to be there before anybody is spoken to; empty once all is."""
        return "" if self._prepared.is_set() else f"CUDA graph {self._made}/{len(self._to_make)}"

    def wait_until_prepared(self) -> None:
        """Until all is made that has to be there before anybody is spoken to, or `broken` says why it cannot be."""
        self._prepared.wait()

    def start(self, utterance: Utterance) -> None:
        with self._changed:
            self._render.add(utterance)
            self._changed.notify_all()

    def cancel(self, utterance: Utterance) -> None:
        """Its work ends with the round that runs. What has ended already stays as it is."""
        with self._changed:
            utterance.cancelled = True
            self._changed.notify_all()

    def written(self, utterance: Utterance, ids: Sequence[int], *, last: bool = False) -> None:
        """More of its live text; nothing comes behind the `last`."""
        if (live := utterance.request.live) is None:
            raise ValueError("the text of this utterance was complete from the start")
        with self._changed:
            live.add(ids)
            if last:
                live.end()
            self._changed.notify_all()

    def taken(self, utterance: Utterance) -> None:
        """Its client has taken a chunk."""
        with self._changed:
            utterance.take()
            self._changed.notify_all()

    def grow(self, make: Callable[[], tuple[Made, T]]) -> "Future[T]":
        """Go on with the first of what `make` gives, which has room for more; the second is the result, once the first
        is in use. All of it is made while nobody is spoken to, graph by graph. Where that fails, all stays as it is.
        Not to be called again before the result is there. After the end it is cancelled."""
        future: Future[T] = Future()
        with self._changed:
            if self._closed:
                future.cancel()
                return future
            self._growth = Growth(future, self._grown(make))
            self._changed.notify_all()
        return future

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()
        if self._growth is not None:
            self._growth.future.cancel()
        self._tokens.close()

    def _run(self, work: Callable[[], None], threads: int) -> None:
        torch.set_num_threads(threads)  # of this thread's own pool
        try:
            work()
        except Exception as problem:  # a stage that has ended would leave all waiting without a word
            self._health.give_up(problem)
            raise

    def _prepare(self) -> None:
        """Make all graphs, one after the other and before the first request."""
        try:
            for make in self._to_make:
                if self._closed:
                    break
                make()
                self._made += 1
        except Exception as problem:  # without them nobody can be spoken to in time
            self._health.give_up(problem)
        self._prepared.set()
        self._to_make = []

    def _draw(self) -> None:
        self._prepared.wait()
        with _stream_of_its_own():
            while self._wait(lambda: (self._tokens.busy and not self._render.alone, None)):
                self._tokens.round()

    def _speak(self) -> None:
        self._prepare()
        with _stream_of_its_own():
            while self._wait(self._render_due):
                self._grow_on()
                self._render.round()

    def _take_turns(self) -> None:
        self._prepare()
        while self._wait(self._something):
            with self._changed:
                busy, due = self._tokens.busy, self._render.due()[0]
            if busy:
                self._tokens.round(0.0 if due else PATIENCE)
            self._grow_on()
            self._render.round()

    def _something(self) -> tuple[bool, float | None]:
        due, seconds = self._render_due()
        return due or self._tokens.busy, seconds

    def _render_due(self) -> tuple[bool, float | None]:
        due, seconds = self._render.due()
        return due or self._can_grow, seconds

    @property
    def _can_grow(self) -> bool:
        return self._growth is not None and self._render.idle and not self._tokens.busy

    def _grow_on(self) -> None:
        """One step of the growth, if no stream is running."""
        with self._changed:
            growth = self._growth if self._can_grow else None
        if growth is None:
            return
        try:
            next(growth.steps)
        except StopIteration as end:
            self._growth = None  # first: who is told may ask for more
            growth.future.set_result(end.value)
        except Exception as problem:  # those who are spoken to have what they had
            no_room = isinstance(problem, CosyError)
            self._growth = None
            growth.future.set_exception(problem if no_room else self._health.failed(problem))

    def _grown(self, make: Callable[[], tuple[Made, T]]) -> Generator[None, None, T]:
        (generator, token2wav), told = make()
        yield
        for graph in (*generator.graphs(), *token2wav.graphs()):
            graph()
            yield
        if torch.cuda.is_available():
            torch.cuda.synchronize()  # what was written on this thread's stream is read on the other's
        while not self._replace(generator, token2wav):
            yield
        gc.collect()  # unused objects refer to each other in cycles and hold most of a card's memory
        torch.cuda.empty_cache()
        return told

    def _replace(self, generator: TokenGenerator, token2wav: Token2Wav) -> bool:
        """Replace them if no stream is running now. Returns whether that was possible."""
        with self._changed:
            if self._can_grow:
                self.slots = min(generator.slots, token2wav.slots)
                self._tokens.replace(generator)
                self._render.replace(token2wav, self.slots)
                return True
        return False

    def _wait(self, due: Callable[[], tuple[bool, float | None]]) -> bool:
        """Until there is something to do; False at the end."""
        with self._changed:
            while not self._closed:
                now, seconds = due()
                if now:
                    return True
                self._changed.wait(seconds)
        return False


def _stream_of_its_own() -> AbstractContextManager[object]:
    """Once all is done that others have begun on the device."""
    if not torch.cuda.is_available():
        return nullcontext()
    torch.cuda.synchronize()
    return torch.cuda.stream(torch.cuda.Stream())
