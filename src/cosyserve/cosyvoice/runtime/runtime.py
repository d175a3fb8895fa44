"""The loop that speaks: all requests share one model, token by token and hop by hop.

Each round draws one token for every request and makes one hop of sound for as many as token2wav takes at once: those
that have had the least sound so far, of all that have tokens enough. A newcomer starts with what the poorest of the
others has, so a short text does not wait for a long one, nor a long one for ever on many short ones.
"""

import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch

from cosyserve.cosyvoice.frontend.prompt_encoder import Prompt
from cosyserve.cosyvoice.runtime.generation import Request, Slot, TokenGenerator
from cosyserve.cosyvoice.runtime.health import Health, is_out_of_memory
from cosyserve.cosyvoice.runtime.token2wav import Hop, Stream, Token2Wav
from cosyserve.speech.audio import Pcm

_WAITING_CHUNKS = 4  # made for a client that has not taken them yet
_PATIENCE = 0.02  # seconds to wait for tokens where there is nothing else to do

Give = Callable[[Pcm | Exception | None], None]


class Utterance:
    """One segment of one request: all there is of it, from ids to samples."""

    def __init__(self, request: Request, prompt: Prompt, give: Give, *, whole: bool = False) -> None:
        self.request, self.prompt, self.whole = request, prompt, whole
        self.slot: Slot | None = None
        self.stream: Stream | None = None
        self.had = 0.0  # seconds of sound, for its share
        self.cancelled = False
        self._give, self._given, self._taken = give, 0, 0

    @property
    def wants(self) -> bool:
        """Whether its client keeps up."""
        return self._given - self._taken < _WAITING_CHUNKS

    def give(self, item: Pcm | Exception | None) -> None:
        """Samples, then None; or what went wrong, after which nothing comes."""
        self._given += 1
        self._give(item)

    def take(self) -> None:
        self._taken += 1


class Runtime:
    """A thread with the model. Other threads start and cancel utterances."""

    def __init__(self, generator: TokenGenerator, token2wav: Token2Wav, threads: int, device: str = "cpu") -> None:
        self._generator, self._token2wav, self._health = generator, token2wav, Health(device)
        self.places = min(generator.slots, token2wav.places)  # utterances at once
        self._waiting: deque[Utterance] = deque()
        self._spoken: list[Utterance] = []
        self._changed = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._run, args=(threads,), name="cosyvoice2", daemon=True)
        self._thread.start()

    @property
    def broken(self) -> str:
        """Why it will never speak again; empty as long as it may."""
        return self._health.broken

    def start(self, utterance: Utterance) -> None:
        with self._changed:
            self._waiting.append(utterance)
            self._changed.notify()

    def cancel(self, utterance: Utterance) -> None:
        """Its work ends with the round that runs. What has ended already stays as it is."""
        with self._changed:
            utterance.cancelled = True
            self._changed.notify()

    def taken(self, utterance: Utterance) -> None:
        """Its client has taken a chunk."""
        with self._changed:
            utterance.take()
            self._changed.notify()

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()
        self._generator.close()

    def _run(self, threads: int) -> None:
        torch.set_num_threads(threads)  # of this thread's own pool
        while self._wait():
            self._drop_cancelled()
            if self.broken:
                self._give_up()
            else:
                self._admit()
                self._draw()
                self._speak()

    def _wait(self) -> bool:
        """Until there is something to do; False at the end."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._has_work())
            return not self._closed

    def _has_work(self) -> bool:
        if self.broken:
            return bool(self._waiting or self._spoken)
        return bool(
            (self._waiting and self._has_place)
            or any(each.cancelled for each in (*self._waiting, *self._spoken))
            or self._generator.busy
            or self._next()
        )

    @property
    def _has_place(self) -> bool:
        """A request keeps its place until its last sound, though its tokens may all be drawn long before."""
        return len(self._spoken) < self.places

    def _drop_cancelled(self) -> None:
        for utterance in [each for each in self._spoken if each.cancelled]:
            self._end(utterance)
        with self._changed:
            self._waiting = deque(each for each in self._waiting if not each.cancelled)

    def _admit(self) -> None:
        """Those that came first, as long as there are slots."""
        while self._has_place:
            with self._changed:
                if not self._waiting:
                    return
                utterance = self._waiting.popleft()
            utterance.had = min((each.had for each in self._spoken), default=0.0)
            self._spoken.append(utterance)
            with self._failing(utterance):
                utterance.stream = self._token2wav.stream(
                    utterance.prompt, utterance.request.seed, whole=utterance.whole
                )
                utterance.slot = self._generator.add(utterance.request)

    def _draw(self) -> None:
        """One token for every request, or as many as have come."""
        patience = 0.0 if self._next() else _PATIENCE
        speaking = {id(each.slot): each for each in self._spoken if each.slot is not None and each.stream is not None}
        with self._failing(*speaking.values(), all_of_them=False):
            for slot, token in self._generator.advance(patience):
                speaking[id(slot)].stream.tokens.add(token)  # type: ignore[union-attr]
            for utterance in speaking.values():
                if utterance.slot.done:  # type: ignore[union-attr]
                    self._drawn(utterance, utterance.slot, utterance.stream)  # type: ignore[arg-type]

    def _drawn(self, utterance: Utterance, slot: Slot, stream: Stream) -> None:
        """The last token of an utterance is there, or none will come."""
        with self._failing(utterance):
            utterance.slot = None
            if slot.problem is not None:
                raise slot.problem
            stream.tokens.complete()

    def _speak(self) -> None:
        """One hop, for those whose turn it is."""
        utterances = self._next()
        if not utterances:
            return
        streams = [each.stream for each in utterances if each.stream is not None]
        hops: list[Hop] = []
        with self._failing(*utterances):
            hops = self._token2wav.hops(streams)
        for utterance, stream, (mel, last) in zip(utterances, streams, hops, strict=False):
            with self._failing(utterance):
                if stream.problem is not None:
                    raise stream.problem
                wave = stream.wave(mel, last)
                utterance.had += stream.had(wave)
                if len(wave):
                    self._health.succeeded()
                    utterance.give(wave.numpy())
                if last:
                    self._end(utterance)
                    utterance.give(None)

    def _next(self) -> list[Utterance]:
        ready = [each for each in self._spoken if each.stream is not None and each.stream.tokens.ready and each.wants]
        return sorted(ready, key=lambda each: each.had)[: self._token2wav.width]

    def _end(self, utterance: Utterance) -> None:
        self._spoken.remove(utterance)
        with self._failing():  # a generator that is past hearing of it
            if utterance.slot is not None:
                self._generator.remove(utterance.slot)
        if utterance.stream is not None:
            self._token2wav.release(utterance.stream)

    def _give_up(self) -> None:
        """All that are spoken to or wait are told at once; the process is about to be replaced."""
        for utterance in tuple(self._spoken):
            self._end(utterance)
            utterance.give(self._health.farewell())
        with self._changed:
            waiting, self._waiting = self._waiting, deque()
        for utterance in waiting:
            utterance.give(self._health.farewell())

    @contextmanager
    def _failing(self, *utterances: Utterance, all_of_them: bool = True) -> Iterator[None]:
        """What goes wrong inside ends these utterances, whose clients are told, and nothing else.

        Where memory runs out and not `all_of_them` are spoilt by it, the youngest makes room for the others.
        """
        try:
            yield
        except Exception as problem:  # whatever it is, the other requests are none of its business
            ended = utterances if all_of_them or not is_out_of_memory(problem) else utterances[-1:]
            told = self._health.failed(problem)
            for utterance in ended:
                if utterance in self._spoken:
                    self._end(utterance)
                utterance.give(told)
