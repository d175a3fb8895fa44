"""Stand-in synthesizers: they honour the real interface and do on purpose what a real one does by accident."""

import asyncio
import math
from collections.abc import AsyncGenerator, Mapping

import numpy as np

from cosyserve.speech.audio import SAMPLE_RATE, Pcm
from cosyserve.speech.capacity import Capacity
from cosyserve.speech.kernel_choice import KernelsInUse
from cosyserve.speech.rest import Sleeper
from cosyserve.speech.synthesizer import Capability, Options
from cosyserve.speech.voices import Voice

CHUNK_SECONDS = 0.1


class ToneSynthesizer:
    """A tone for every segment, a tenth of a second for each of its letters."""

    name = "tone"
    model = "tone"
    device = "cpu"
    capabilities: frozenset[Capability] = frozenset()
    library = None
    broken = ""
    preparing = ""
    rest: Sleeper | None = None
    capacity: Capacity | None = None
    kernels: KernelsInUse | None = None

    def __init__(self) -> None:
        self.voices: Mapping[str, Voice] = {"tone": Voice("tone", "Tone", "音", ("en", "zh"))}
        self.closed = False

    async def synthesize(self, segment: str, voice: Voice, options: Options) -> AsyncGenerator[Pcm, None]:
        for _ in filter(str.isalnum, segment):
            await self.between_chunks()
            yield tone()

    async def between_chunks(self) -> None:
        """What subclasses do before each chunk."""

    def close(self) -> None:
        self.closed = True


def tone(seconds: float = CHUNK_SECONDS) -> Pcm:
    times = np.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    wave: Pcm = (0.4 * np.sin(2 * np.pi * 300 * times)).astype(np.float32)
    return wave


class PacedSynthesizer(ToneSynthesizer):
    """As fast as the audio is long, like a voice at real-time factor 1."""

    async def between_chunks(self) -> None:
        await asyncio.sleep(CHUNK_SECONDS)


class GatedSynthesizer(ToneSynthesizer):
    """Makes `budget` chunks and then waits until the test allows more. Tells how many streams are inside."""

    def __init__(self) -> None:
        super().__init__()
        self.budget = math.inf
        self.inside = 0

    async def synthesize(self, segment: str, voice: Voice, options: Options) -> AsyncGenerator[Pcm, None]:
        self.inside += 1
        try:
            async for chunk in super().synthesize(segment, voice, options):
                yield chunk
        finally:
            self.inside -= 1

    async def between_chunks(self) -> None:
        while self.budget <= 0:
            await asyncio.sleep(0.005)  # the stand-in's own pace; no test waits for it
        self.budget -= 1


class FailingSynthesizer(ToneSynthesizer):
    """Breaks down at the word 'fail', after as many chunks as stand before it, `pace` seconds apart."""

    def __init__(self, pace: float = 0) -> None:
        super().__init__()
        self.pace = pace

    async def synthesize(self, segment: str, voice: Voice, options: Options) -> AsyncGenerator[Pcm, None]:
        for index in range(len(segment.rstrip("。."))):  # the end of a segment is no sound
            if segment.startswith("fail", index):
                raise RuntimeError("the stand-in was told to fail")
            await asyncio.sleep(self.pace)
            yield tone()


class CapableSynthesizer(ToneSynthesizer):
    """Can do everything there is, and remembers what it was asked for."""

    capabilities = frozenset(Capability)

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[Options] = []
        self.said: list[str] = []

    async def synthesize(self, segment: str, voice: Voice, options: Options) -> AsyncGenerator[Pcm, None]:
        self.asked.append(options)
        self.said.append(segment)
        async for chunk in super().synthesize(segment, voice, options):
            yield chunk
