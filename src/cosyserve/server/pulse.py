"""Whether the synthesizer still makes audio. Its chunks tell, because a hung one raises no error."""

import time
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping
from contextlib import aclosing, contextmanager
from dataclasses import dataclass

from cosyserve.speech.audio import Pcm
from cosyserve.speech.capacity import Capacity
from cosyserve.speech.kernel_choice import KernelsInUse
from cosyserve.speech.rest import Sleeper
from cosyserve.speech.synthesizer import Interleaver, Options, Synthesizer
from cosyserve.speech.voices import Library, Voice


class Pulse:
    """How long requests have waited for chunks while none of them got any. Requests may take turns, so a single one
    that waits long proves nothing."""

    def __init__(self) -> None:
        self._waiting: list[Debt] = []
        self._since = 0.0

    @contextmanager
    def waiting(self, debt: "Debt") -> Iterator[None]:
        """Around the wait for one chunk."""
        if not self._owes:
            self._since = time.monotonic()
        self._waiting.append(debt)
        try:
            yield
            self._since = time.monotonic()  # not for a client that gave up: it got nothing
        finally:
            self._waiting.remove(debt)

    @contextmanager
    def excused(self, debt: "Debt") -> Iterator[None]:
        """Around the wait for a client's text: until it comes nothing is owed to that client."""
        debt.owed = False
        try:
            yield
        finally:
            if not self._owes:
                self._since = time.monotonic()
            debt.owed = True

    @property
    def _owes(self) -> bool:
        return any(each.owed for each in self._waiting)

    @property
    def silent_seconds(self) -> float:
        return time.monotonic() - self._since if self._owes else 0.0


@dataclass(eq=False)
class Debt:
    """The chunks of one request."""

    owed: bool = True


class WatchedSynthesizer:
    """The synthesizer itself, with a pulse."""

    def __init__(self, synthesizer: Synthesizer) -> None:
        self._synthesizer, self.pulse = synthesizer, Pulse()
        self.name, self.model, self.device = synthesizer.name, synthesizer.model, synthesizer.device
        self.capabilities = synthesizer.capabilities

    @property
    def library(self) -> Library | None:
        return self._synthesizer.library

    @property
    def voices(self) -> Mapping[str, Voice]:
        return self._synthesizer.voices

    @property
    def broken(self) -> str:
        return self._synthesizer.broken

    @property
    def preparing(self) -> str:
        return self._synthesizer.preparing

    @property
    def capacity(self) -> Capacity | None:
        return self._synthesizer.capacity

    @property
    def rest(self) -> Sleeper | None:
        return self._synthesizer.rest

    @property
    def kernels(self) -> KernelsInUse | None:
        return self._synthesizer.kernels

    async def synthesize(self, segment: str, voice: Voice, options: Options) -> AsyncGenerator[Pcm, None]:
        async with aclosing(self._synthesizer.synthesize(segment, voice, options)) as chunks:
            async for chunk in self._watched(chunks, Debt()):
                yield chunk

    async def interleave(self, pieces: AsyncIterator[str], voice: Voice, options: Options) -> AsyncGenerator[Pcm, None]:
        assert isinstance(self._synthesizer, Interleaver)  # noqa: S101 - by its capabilities
        debt = Debt()
        chunks = self._synthesizer.interleave(self._excusing(pieces, debt), voice, options)
        async with aclosing(chunks):
            async for chunk in self._watched(chunks, debt):
                yield chunk

    async def _excusing(self, pieces: AsyncIterator[str], debt: Debt) -> AsyncIterator[str]:
        while True:
            with self.pulse.excused(debt):
                piece = await anext(pieces, None)
            if piece is None:
                return
            yield piece

    async def _watched(self, chunks: AsyncIterator[Pcm], debt: Debt) -> AsyncIterator[Pcm]:
        while True:
            with self.pulse.waiting(debt):
                chunk = await anext(chunks, None)
            if chunk is None:
                return
            yield chunk

    def close(self) -> None:
        self._synthesizer.close()
