"""The second stage: encoder, flow and vocoder make a hop of sound for as many utterances as the schedule says."""

import math
import time
from collections import deque
from collections.abc import Sequence
from threading import Condition

from torch import Tensor

from cosyserve.cosyvoice.runtime.health import Health
from cosyserve.cosyvoice.runtime.pages import NoPagesError
from cosyserve.cosyvoice.runtime.schedule import Candidate, Decision, can_stand_still, schedule
from cosyserve.cosyvoice.runtime.token2wav import Token2Wav
from cosyserve.cosyvoice.runtime.tokens import TokenStage
from cosyserve.cosyvoice.runtime.utterance import Utterance


class RenderStage:
    """Owns token2wav, and says who has a place. `round` is for one thread, all else for any that holds `changed`."""

    def __init__(
        self, token2wav: Token2Wav, slots: float, tokens: TokenStage, health: Health, changed: Condition
    ) -> None:
        self._token2wav, self._slots, self._tokens = token2wav, slots, tokens
        self._health, self._changed = health, changed
        self._waiting: deque[Utterance] = deque()
        self._spoken: list[Utterance] = []
        self._full = False  # nobody can be admitted until somebody ends
        self.alone = False
        """Whether it makes first hops while no other stream needs tokens, which would take the device from it."""

    def add(self, utterance: Utterance) -> None:
        self._waiting.append(utterance)

    def due(self) -> tuple[bool, float | None]:
        """Whether a round would do something now, and else in how many seconds if nothing happens until then."""
        if self._health.broken:
            return bool(self._waiting or self._spoken), None
        if self._admits or any(each.over for each in (*self._waiting, *self._spoken)):
            return True, None
        decision = self._decide(self._candidates()[0])
        return bool(decision.now), None if math.isinf(decision.wait) else max(0.0, decision.wait - time.monotonic())

    @property
    def _admits(self) -> bool:
        """A request keeps its place until its last sound, though its tokens may all be drawn long before."""
        return bool(self._waiting) and len(self._spoken) < self._slots and not self._full

    @property
    def idle(self) -> bool:
        """Whether no stream is running or waiting."""
        return not (self._waiting or self._spoken)

    def replace(self, token2wav: Token2Wav, slots: float) -> None:
        """Go on with another one. For when it is idle."""
        self._token2wav, self._slots, self._full = token2wav, slots, False

    def round(self) -> None:
        """End who is over, admit who has a place, and make the hops that are due."""
        self._drop()
        if self._health.broken:
            self._give_up()
            return
        self._admit()
        self._speak()

    def _drop(self) -> None:
        with self._changed:
            over = [each for each in self._spoken if each.over]
            unborn = [each for each in self._waiting if each.over]
            self._waiting = deque(each for each in self._waiting if not each.over)
        for utterance in over:
            self._end(utterance)
        for utterance in (*over, *unborn):  # those that the language model failed
            if utterance.problem is not None and not utterance.cancelled:
                utterance.give(utterance.problem)

    def _admit(self) -> None:
        """Those that came first, as long as there are slots."""
        while True:
            with self._changed:
                if not self._admits:
                    return
                utterance = self._waiting.popleft()
                self._spoken.append(utterance)
            try:
                stream = self._token2wav.stream(utterance.prompt, utterance.request.seed, whole=utterance.whole)
            except NoPagesError as problem:
                self._wait_for_pages(utterance, problem)
                return
            except Exception as problem:  # the others are none of its business
                self._fail(utterance, problem)
                continue
            with self._changed:
                utterance.stream = stream
                utterance.admitted()
                self._tokens.add(utterance)
                self._changed.notify_all()

    def _wait_for_pages(self, utterance: Utterance, problem: NoPagesError) -> None:
        with self._changed:
            alone = len(self._spoken) == 1
            if not alone:
                self._spoken.remove(utterance)
                self._waiting.appendleft(utterance)
                self._full = True
        if alone:  # nobody will make room
            self._fail(utterance, problem)

    def _speak(self) -> None:
        """The hops that are due."""
        with self._changed:
            candidates, utterances = self._candidates()
            decision = self._decide(candidates)
            speaking = [utterances[number] for number in decision.now]
            firsts = any(not candidates[number].heard for number in decision.now)
            self.alone = firsts and can_stand_still(candidates, time.monotonic())
        streams = [each.stream for each in speaking if each.stream is not None]
        if not streams:
            return
        try:
            hops = self._token2wav.hops(streams)
            waves = self._token2wav.waves(streams, hops)
        except Exception as problem:  # whatever it is, the other requests are none of its business
            self._fail_all(speaking, problem)
            return
        finally:
            with self._changed:
                self.alone = False
                self._changed.notify_all()
        for utterance, stream, wave, (_, last) in zip(speaking, streams, waves, hops, strict=True):
            if stream.problem is not None:
                self._fail(utterance, stream.problem)
            else:
                self._give(utterance, wave, last=last)

    def _give(self, utterance: Utterance, wave: Tensor, *, last: bool) -> None:
        with self._changed:
            utterance.turned()
        if len(wave):
            self._health.succeeded()
            utterance.give(wave.numpy())
        if last:
            self._end(utterance)
            utterance.give(None)

    def _candidates(self) -> tuple[list[Candidate], list[Utterance]]:
        """Those that the schedule chooses from."""
        both = [(candidate, each) for each in self._spoken if (candidate := each.candidate()) is not None]
        return [candidate for candidate, _ in both], [each for _, each in both]

    def _decide(self, candidates: Sequence[Candidate]) -> Decision:
        return schedule(candidates, self._token2wav.width, time.monotonic())

    def _end(self, utterance: Utterance) -> None:
        with self._changed:
            self._spoken.remove(utterance)
            self._tokens.remove(utterance)
            self._full = False
            self._changed.notify_all()
        if utterance.stream is not None:
            self._token2wav.release(utterance.stream)

    def _give_up(self) -> None:
        """All that are spoken to or wait are told at once; the process is about to be replaced."""
        with self._changed:
            waiting, self._waiting = list(self._waiting), deque()
            spoken = list(self._spoken)
        for utterance in spoken:
            self._end(utterance)
        for utterance in (*spoken, *waiting):
            utterance.give(self._health.farewell())

    def _fail(self, utterance: Utterance, problem: Exception) -> None:
        self._fail_all([utterance], problem)

    def _fail_all(self, utterances: Sequence[Utterance], problem: Exception) -> None:
        """End these utterances, whose clients are told, and nothing else."""
        told = self._health.failed(problem)
        for utterance in utterances:
            if utterance in self._spoken:
                self._end(utterance)
            utterance.give(told)
