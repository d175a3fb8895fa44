"""Whether the synthesizer still makes audio. Its chunks tell, because a hung one raises no error."""

import time
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping
from contextlib import aclosing, contextmanager

from cosyserve.speech.audio import Pcm
from cosyserve.speech.capacity import Capacity
from cosyserve.speech.kernel_choice import KernelsInUse
from cosyserve.speech.rest import Sleeper
from cosyserve.speech.synthesizer import Options, Synthesizer
from cosyserve.speech.voices import Library, Voice


class Pulse:
    """How long requests have waited for chunks while none of them got any. Requests may take turns, so a single one
    that waits long proves nothing."""

    def __init__(self) -> None:
        self._waiting, self._since = 0, 0.0

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Around the wait for one chunk."""
        if not self._waiting:
            self._since = time.monotonic()
        self._waiting += 1
        try:
            yield
            self._since = time.monotonic()  # not for a client that gave up: it got nothing
        finally:
            self._waiting -= 1

    @property
    def silent_seconds(self) -> float:
        return time.monotonic() - self._since if self._waiting else 0.0


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
            async for chunk in self._watched(chunks):
                yield chunk

    async def _watched(self, chunks: AsyncIterator[Pcm]) -> AsyncIterator[Pcm]:
        while True:
            with self.pulse.waiting():
                chunk = await anext(chunks, None)
            if chunk is None:
                return
            yield chunk

    def close(self) -> None:
        self._synthesizer.close()
