"""The first stage: the language model draws speech tokens for all requests at once."""

from collections import deque
from contextlib import suppress
from threading import Condition

from cosyserve.cosyvoice.runtime.health import Health, is_out_of_memory
from cosyserve.cosyvoice.runtime.request import Slot, TokenGenerator
from cosyserve.cosyvoice.runtime.utterance import Utterance

PATIENCE = 0.02  # seconds to wait for tokens that are drawn elsewhere
_AT_ONCE = 2  # requests that begin in a round


class TokenStage:
    """Owns the generator: `round` is for one thread, all else for any that holds `changed`."""

    def __init__(self, generator: TokenGenerator, health: Health, changed: Condition) -> None:
        self._generator, self._health, self._changed = generator, health, changed
        self._coming: deque[Utterance] = deque()
        self._going: list[Slot] = []
        self._speaking: list[Utterance] = []

    def add(self, utterance: Utterance) -> None:
        self._coming.append(utterance)

    def remove(self, utterance: Utterance) -> None:
        """Nobody waits for it any more."""
        with suppress(ValueError):
            self._coming.remove(utterance)
        if utterance in self._speaking:
            self._speaking.remove(utterance)
            if utterance.slot is not None:
                self._going.append(utterance.slot)
                utterance.slot = None

    @property
    def busy(self) -> bool:
        """Whether a round would do something."""
        return bool(
            self._going or any(not each.waits_for_text for each in self._speaking) or (self._coming and self._has_slot)
        )

    @property
    def _has_slot(self) -> bool:
        return len(self._speaking) < self._generator.slots

    def round(self, patience: float = PATIENCE) -> None:
        """One token for every request, or as many as have come. Only few new ones begin before that, so that the tokens
        of the others do not stop."""
        with self._changed:
            going, self._going = self._going, []
            coming: list[Utterance] = []
            while self._coming and self._has_slot and len(coming) < _AT_ONCE:
                coming.append(self._coming.popleft())
                self._speaking.append(coming[-1])
        for slot in going:
            with suppress(Exception):  # a generator that is past hearing of it
                self._generator.remove(slot)
        for utterance in coming:
            self._begin(utterance)
        self._advance(patience)

    def _begin(self, utterance: Utterance) -> None:
        try:
            slot = self._generator.add(utterance.request)
        except Exception as problem:  # whatever it is, the other requests are none of its business
            self._fail([utterance], problem)
            return
        with self._changed:
            if utterance in self._speaking:
                utterance.slot = slot
            else:  # it was cancelled meanwhile
                self._going.append(slot)

    def _advance(self, patience: float) -> None:
        with self._changed:
            speaking = list(self._speaking)
        try:
            drawn = self._generator.advance(patience)
        except Exception as problem:
            # Where memory runs out and the others are not spoilt by it, the youngest makes room for them.
            self._fail(speaking[-1:] if is_out_of_memory(problem) else speaking, problem)
            return
        with self._changed:
            of_slot = {id(each.slot): each for each in self._speaking if each.slot is not None}
            for slot, token in drawn:
                if (utterance := of_slot.get(id(slot))) is not None:
                    utterance.drawn(token)
            done = [each for each in of_slot.values() if each.slot is not None and each.slot.done]
            for utterance in done:
                self._speaking.remove(utterance)
                if utterance.slot is not None and utterance.slot.problem is None and utterance.stream is not None:
                    utterance.stream.tokens.complete()
            self._changed.notify_all()
        for utterance in done:
            if (own := utterance.slot) is not None and own.problem is not None:
                self._fail([utterance], own.problem)
            utterance.slot = None

    def _fail(self, utterances: list[Utterance], problem: Exception) -> None:
        told = self._health.failed(problem)
        with self._changed:
            for utterance in utterances:
                self.remove(utterance)
                utterance.problem = utterance.problem or told
            self._changed.notify_all()

    def replace(self, generator: TokenGenerator) -> None:
        """Continue with another generator. Call it only while no stream is running."""
        if generator is not self._generator:
            self._going.clear()
            self._generator.close()
            self._generator = generator

    def close(self) -> None:
        self._generator.close()
