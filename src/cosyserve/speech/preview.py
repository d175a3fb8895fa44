"""The preview voice: eSpeak NG, intelligible and instant on any machine, for wiring up clients."""

import asyncio
import re
from collections.abc import AsyncGenerator, Mapping
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import soxr

from cosyserve.speech.audio import SAMPLE_RATE, Pcm
from cosyserve.speech.espeak import espeak
from cosyserve.speech.synthesizer import Capability, Options
from cosyserve.speech.voices import Voice

# eSpeak's loudest vowels reach full scale; resampling would overshoot it.
_GAIN = 0.7
_CHUNK = SAMPLE_RATE // 2

_VOICES = (
    (Voice("mandarin", "Mandarin, male", "普通话男声", ("zh", "en")), "cmn"),
    (Voice("mandarin-female", "Mandarin, female", "普通话女声", ("zh", "en")), "cmn+f2"),
    (Voice("cantonese", "Cantonese, male", "粤语男声", ("yue", "en")), "yue"),
    (Voice("english", "English, male", "英语男声", ("en", "zh")), "en-us"),
    (Voice("english-female", "English, female", "英语女声", ("en", "zh")), "en-us+f3"),
)
_HAN = re.compile(r"([\u2e80-\u9fff\uf900-\ufaff\U00020000-\U0003ffff][^A-Za-z]*)")


class PreviewSynthesizer:
    """Speaks in a thread of its own, in which requests take turns by segment."""

    name = "preview"
    model = "preview"
    device = "cpu"
    capabilities: frozenset[Capability] = frozenset()
    library = None
    broken = ""
    preparing = ""
    rest = None  # nothing of it is on a card
    kernels = None
    capacity = None

    def __init__(self) -> None:
        self._espeak = espeak()
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="espeak")
        self._espeak_names = {voice.id: espeak_name for voice, espeak_name in _VOICES}
        self.voices: Mapping[str, Voice] = {voice.id: voice for voice, _ in _VOICES}

    async def synthesize(self, segment: str, voice: Voice, options: Options) -> AsyncGenerator[Pcm, None]:
        """A segment takes milliseconds, so it is spoken whole and handed out in half seconds."""
        loop = asyncio.get_running_loop()
        pcm = await loop.run_in_executor(self._thread, self._speak, segment, self._espeak_names[voice.id])
        for start in range(0, pcm.size, _CHUNK):
            yield pcm[start : start + _CHUNK]

    def close(self) -> None:
        self._thread.shutdown(cancel_futures=True)

    def _speak(self, segment: str, espeak_name: str) -> Pcm:
        spoken = [self._espeak.speak(text, name) for text, name in _runs(segment, espeak_name)]
        samples = np.concatenate(spoken).astype(np.float32) * (_GAIN / 32768.0)
        pcm: Pcm = soxr.resample(samples, self._espeak.sample_rate, SAMPLE_RATE)
        return pcm


def _runs(segment: str, espeak_name: str) -> list[tuple[str, str]]:
    """Which eSpeak voice says which part. Chinese voices know English; English ones spell Han out."""
    language, _, variant = espeak_name.partition("+")
    if not language.startswith("en"):
        return [(segment, espeak_name)]
    mandarin = f"cmn+{variant}" if variant else "cmn"
    parts = _HAN.split(segment)  # even places: no Han; odd places: Han and the digits that follow it
    return [(part, mandarin if place % 2 else espeak_name) for place, part in enumerate(parts) if part.strip()]
