"""Who puts a runtime under load: clients that ask it as a server does, and the one who watches the GPU meanwhile."""

import asyncio
import statistics
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import count

import torch

from bench.common.listening import Listener
from cosyserve.cosyvoice.frontend.prompt_encoder import SPEAKER_SIZE, Prompt
from cosyserve.cosyvoice.model.config import FRAMES_PER_TOKEN, MELS, SPEECH_TOKENS, TOKENS_PER_SECOND
from cosyserve.cosyvoice.model.sampling import length_limits
from cosyserve.cosyvoice.runtime.request import Request
from cosyserve.cosyvoice.runtime.runtime import Runtime
from cosyserve.cosyvoice.runtime.utterance import Utterance
from cosyserve.speech.audio import Pcm

_RECORDED, _WORDS = 5 * TOKENS_PER_SECOND, 20  # speech tokens of a voice's recording, and tokens of its words


class Clients:
    """A runtime and its voices, asked as a server asks it."""

    def __init__(self, runtime: Runtime, vocabulary: int) -> None:
        self._runtime, self._vocabulary = runtime, vocabulary
        self.slots = int(runtime.slots)
        self._voices: dict[int, tuple[torch.Tensor, Prompt]] = {}
        self._seeds = count()

    async def listen(self, seconds: float, voice: int, listeners: list[Listener]) -> Listener:
        """Hear a text of so many seconds, and be one of the `listeners` from the question on; raises `RuntimeError`
        where nobody will be spoken to any more."""
        came: asyncio.Queue[Pcm | Exception | None] = asyncio.Queue()
        loop = asyncio.get_running_loop()

        def give(item: Pcm | Exception | None) -> None:
            with suppress(RuntimeError):  # the loop has been closed
                loop.call_soon_threadsafe(came.put_nowait, item)

        words, prompt = self._voice(voice)
        text = torch.full((text_tokens(seconds),), voice % self._vocabulary)
        utterance = Utterance(Request(text, words, prompt.speech, next(self._seeds)), prompt, give)
        listener = Listener(time.perf_counter())
        listeners.append(listener)
        self._runtime.start(utterance)
        try:
            while (item := await came.get()) is not None:
                if isinstance(item, Exception):
                    if self._runtime.broken:
                        raise RuntimeError(self._runtime.broken) from item
                    listener.failed = True
                    listener.give_up(time.perf_counter())
                    print(f"a request failed: {item!r}", flush=True)
                    return listener
                listener.hear(time.perf_counter(), item)
                self._runtime.taken(utterance)
            listener.complete = True
        except asyncio.CancelledError:
            listener.give_up(time.perf_counter())
            raise
        finally:
            self._runtime.cancel(utterance)
        return listener

    def _voice(self, number: int) -> tuple[torch.Tensor, Prompt]:
        """The words and the features of a recording, drawn at random."""
        if number not in self._voices:
            drawing = torch.Generator().manual_seed(number)
            words = torch.randint(0, self._vocabulary, (_WORDS,), generator=drawing)
            speech = torch.randint(0, SPEECH_TOKENS, (_RECORDED,), generator=drawing)
            mel = torch.randn(_RECORDED * FRAMES_PER_TOKEN, MELS, generator=drawing)
            self._voices[number] = words, Prompt(speech, mel, torch.randn(SPEAKER_SIZE, generator=drawing))
        return self._voices[number]


def text_tokens(seconds: float) -> int:
    return round(seconds * TOKENS_PER_SECOND / length_limits(1)[1])


class Gpu:
    """How much of the time the GPU was busy, by `nvidia-smi`; nothing is known where there is none."""

    def __init__(self) -> None:
        self._samples: list[tuple[float, float]] = []

    @contextmanager
    def watched(self) -> Iterator[None]:
        query = ("--id=0", "--query-gpu=utilization.gpu", "--format=csv,noheader,nounits", "-lms", "200")
        try:
            process = subprocess.Popen(("nvidia-smi", *query), stdout=subprocess.PIPE, text=True)  # noqa: S607
        except OSError:
            yield
            return
        with process:
            reader = threading.Thread(target=self._read, args=(process,))
            reader.start()
            try:
                yield
            finally:
                process.terminate()
                reader.join()

    def busy(self, begin: float, end: float) -> float | None:
        """Share of the time between two moments."""
        within = [percent for at, percent in self._samples if begin <= at < end]
        return round(statistics.fmean(within) / 100, 3) if within else None

    def _read(self, process: subprocess.Popen[str]) -> None:
        for line in process.stdout or ():
            with suppress(ValueError):  # [N/A]
                self._samples.append((time.perf_counter(), float(line)))
