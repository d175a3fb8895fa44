"""One segment of one request: all there is of it, from ids to samples."""

import math
import time
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from cosyserve.cosyvoice.frontend.prompt_encoder import Prompt
from cosyserve.cosyvoice.model.config import SAMPLE_RATE
from cosyserve.cosyvoice.runtime.request import Request, Slot
from cosyserve.cosyvoice.runtime.schedule import Candidate
from cosyserve.cosyvoice.runtime.token2wav import Token2WavStream

Pcm = NDArray[np.float32]
Give = Callable[[Pcm | Exception | None], None]

_WAITING_CHUNKS = 4  # made for a client that has not taken them yet


class Utterance:
    def __init__(self, request: Request, prompt: Prompt, give: Give, *, whole: bool = False) -> None:
        self.request, self.prompt, self.whole = request, prompt, whole
        self.slot: Slot | None = None  # the tokens' stage's
        self.stream: Token2WavStream | None = None  # the render stage's
        self.cancelled = False
        self.problem: Exception | None = None  # what its client is to be told, after which nothing comes
        self._give, self._given, self._taken = give, 0, 0
        self._since, self._is_ready = 0.0, False
        self._heard_at = math.inf
        self._seconds = 0.0  # of sound that were given
        self.first_token_ns: int | None = None  # since 1970

    @property
    def over(self) -> bool:
        """Whether its places are to be given to others."""
        return self.cancelled or self.problem is not None

    @property
    def waits_for_text(self) -> bool:
        return self.slot is not None and self.slot.waits

    def admitted(self) -> None:
        self._since = time.monotonic()

    def candidate(self) -> Candidate | None:
        """As the schedule sees it; None while its client does not keep up, or its text."""
        if self.stream is None or self.over or self._given - self._taken >= _WAITING_CHUNKS:
            return None
        heard, ready = self._heard_at < math.inf, self.stream.ready
        if self.waits_for_text and not ready:
            return None
        if ready and not heard and not self._is_ready:
            self._is_ready, self._since = True, time.monotonic()
        dry = math.inf if self.whole or not heard else self._heard_at + self._seconds
        return Candidate(ready, heard or self.whole, self._since, dry)

    def drawn(self, token: int) -> None:
        """The language model's next token for it."""
        self.first_token_ns = self.first_token_ns or time.time_ns()
        if self.stream is not None:
            self.stream.tokens.add(token)

    def turned(self) -> None:
        """It has had a turn, with sound or without."""
        self._since = time.monotonic()

    def give(self, item: Pcm | Exception | None) -> None:
        """Samples, then None; or what went wrong, after which nothing comes."""
        self._given += 1
        if isinstance(item, np.ndarray):
            self._heard_at = min(self._heard_at, time.monotonic())
            self._seconds += len(item) / SAMPLE_RATE
        self._give(item)

    def take(self) -> None:
        self._taken += 1
