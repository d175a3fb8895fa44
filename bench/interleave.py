"""When sound begins of a text that is still being written: sentence by sentence, and with text and speech in turns.

    python -m bench.interleave [--rate 20] [--streams 1] [--device cuda]

A text comes word by word, as from a language model. It takes the way that a WebSocket's text takes: front end, model,
flow and vocoder; a word or a mark counts as one id of the model's vocabulary, which is about right for English. The
time is that from the first word to the first sound, the median of all clients. Untrained weights of the released size
on a card, small ones on a processor.
"""

import argparse
import asyncio
import re
import statistics
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from dataclasses import dataclass

import torch

from bench.common.benchmark import Benchmark
from bench.common.chosen import kernels_here
from bench.common.results import Results, ratio, seconds
from bench.load import Model, of_released_size, small
from cosyserve.cosyvoice.frontend.prompt_encoder import Prompt
from cosyserve.cosyvoice.model.config import Config
from cosyserve.cosyvoice.model.untrained import never_stopping
from cosyserve.cosyvoice.runtime.batched import BatchedToken2Wav
from cosyserve.cosyvoice.runtime.generation import Generator
from cosyserve.cosyvoice.runtime.hops import Hops
from cosyserve.cosyvoice.runtime.interleaving import LiveText
from cosyserve.cosyvoice.runtime.memory import pages_behind
from cosyserve.cosyvoice.runtime.request import Request
from cosyserve.cosyvoice.runtime.runtime import Runtime
from cosyserve.cosyvoice.runtime.utterance import Pcm, Utterance
from cosyserve.measure.model import speech, voice
from cosyserve.text.front_end import FragmentFrontEnd, FrontEnd, Sentence, segments
from cosyserve.text.open_segments import open_segments
from cosyserve.text.ssml import Pause
from tests.cosyvoice.seeded import SHALLOW

_FRAMES, _POSITIONS = 1000, 1024
_NOTHING = torch.empty(0, dtype=torch.long)
_TEXTS = {
    "12 words": "The little boat went slowly down the river and reached the sea.",
    "30 words": "When the morning came, the old man opened the window of his room, looked at the mountains behind the "
    "village and decided that he would walk to the lake before the others woke.",
}
_TOKEN = re.compile(r"\s*(?:\w+|[^\w\s])")


@dataclass(frozen=True)
class Voice:
    """A recording's speech tokens, and its words if they are known: without them the language model gets neither."""

    recorded: int
    words: int

    def prompt(self) -> Prompt:
        given = voice(self.recorded)
        return Prompt(speech(self.recorded)[0], given.mel[0], given.embedding[0])


_VOICES = {"5 s, no words": Voice(125, 0), "3 s": Voice(75, 12), "5 s": Voice(125, 20), "8 s": Voice(200, 32)}


class Writer:
    """A text that comes word by word, as a `Source`."""

    def __init__(self, text: str, rate: float, *, interleave: bool) -> None:
        self._front_end = (FragmentFrontEnd if interleave else FrontEnd)()
        self._found: asyncio.Queue[Sentence | Pause | None] = asyncio.Queue()
        self._tokens, self._rate = _TOKEN.findall(text), rate

    async def write(self) -> None:
        for token in self._tokens:
            self._put(self._front_end.push(token))
            await asyncio.sleep(1 / self._rate)
        self._put([*self._front_end.flush(), None])

    def _put(self, found: Sequence[Sentence | None]) -> None:
        for each in found:
            self._found.put_nowait(each)

    @property
    def waiting(self) -> bool:
        return not self._found.empty()

    async def next(self) -> Sentence | Pause | None:
        return await self._found.get()


def ids(text: str) -> list[int]:
    return [1] * len(_TOKEN.findall(text))


class Client:
    """Speaks one text, and hears when its sound begins."""

    def __init__(self, runtime: Runtime, given: Voice, seed: int) -> None:
        self._runtime, self._prompt, self._seed = runtime, given.prompt(), seed
        self._words = torch.ones(given.words, dtype=torch.long)
        self._speech = self._prompt.speech if given.words else _NOTHING

    async def first_sound(self, text: str, rate: float, *, interleave: bool) -> float:
        """In seconds."""
        writer = Writer(text, rate, interleave=interleave)
        began, writing = time.perf_counter(), asyncio.create_task(writer.write())
        try:
            if interleave:
                return await self._of_pieces((await anext(open_segments(writer))).pieces) - began
            segment = await anext(segments(writer))
            request = Request(torch.tensor(ids(segment.text)), self._words, self._speech, self._seed)
            return await self._heard(request) - began
        finally:
            await writing

    async def _of_pieces(self, pieces: AsyncIterator[str]) -> float:
        live = LiveText()
        live.add(ids(await anext(pieces)))
        return await self._heard(Request(_NOTHING, self._words, self._speech, self._seed, live=live), pieces)

    async def _heard(self, request: Request, pieces: AsyncIterator[str] | None = None) -> float:
        """When its sound begins. All of it is waited for."""
        loop, came = asyncio.get_running_loop(), asyncio.Queue[Pcm | Exception | None]()

        def give(item: Pcm | Exception | None) -> None:
            with suppress(RuntimeError):  # the loop has been closed
                loop.call_soon_threadsafe(came.put_nowait, item)

        utterance, first = Utterance(request, self._prompt, give), 0.0
        self._runtime.start(utterance)
        feeding = None if pieces is None else asyncio.create_task(self._feed(utterance, pieces))
        while (item := await came.get()) is not None:
            if isinstance(item, Exception):
                raise item
            first = first or time.perf_counter()
            self._runtime.taken(utterance)
        if feeding is not None:
            await feeding
        return first

    async def _feed(self, utterance: Utterance, pieces: AsyncIterator[str]) -> None:
        async for piece in pieces:
            self._runtime.written(utterance, ids(piece))
        self._runtime.written(utterance, (), last=True)


def _model(device: str) -> Model:
    return small(device, SHALLOW)[1] if device == "cpu" else of_released_size(device, torch.bfloat16, Config())[1]


def _runtime(device: str, most: int) -> Runtime:
    model = _model(device)
    never_stopping(model.llm)
    kernels = kernels_here(torch.bfloat16) if device == "cuda" else None
    pages = (most + len(_VOICES) + 1) * pages_behind(_FRAMES)
    token2wav = BatchedToken2Wav(model.flow, model.vocoder, Hops(), most, pages, _FRAMES, kernels=kernels)
    generator = Generator(model.llm, most, _POSITIONS, piece=256, kernels=kernels)
    runtime = Runtime(generator, token2wav, torch.get_num_threads(), device)
    runtime.wait_until_prepared()
    return runtime


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--streams", type=int, default=1)
    parser.add_argument("--rate", type=float, default=20, help="words in a second")


async def _medians(runtime: Runtime, options: argparse.Namespace, results: Results) -> None:
    for name, given in _VOICES.items():
        clients = [Client(runtime, given, seed) for seed in range(options.streams)]
        await clients[0].first_sound("Yes.", 1000, interleave=False)  # so that the voice is known
        for length, text in _TEXTS.items():
            found = []
            for interleave in (False, True):
                each = (client.first_sound(text, options.rate, interleave=interleave) for client in clients)
                found.append(statistics.median(await asyncio.gather(*each)))
            sentence, turns = found
            results.add(
                f"{length}, {name}", sentence=seconds(sentence), turns=seconds(turns), ratio=ratio(turns / sentence)
            )


def measure(options: argparse.Namespace, results: Results) -> None:
    runtime = _runtime(options.device, options.streams)
    try:
        asyncio.run(_medians(runtime, options, results))
    finally:
        runtime.close()


BENCHMARK = Benchmark(measure, needs="a card, or `--device cpu`", arguments=arguments)

if __name__ == "__main__":
    BENCHMARK.run()
