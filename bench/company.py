"""Whether a seed sounds the same alone, in company, and staggered; with text and speech in turns, too.

    python -m bench.company [--device cuda] [--size full | full3] [--streams 16] [--types bfloat16]

Prints, for each number type, the largest relative difference ‖in company − alone‖ / ‖alone‖ over all streams, and how
many are equal to the last bit. The language model draws the same tokens or not: a difference of 1 means that it did
not.
"""

import argparse
import threading
import time
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from bench.common.benchmark import Benchmark
from bench.common.chosen import kernels_here
from bench.common.results import Results, count, distance
from cosyserve.cosyvoice.frontend.prompt_encoder import Prompt
from cosyserve.cosyvoice.runtime.batched import BatchedToken2Wav
from cosyserve.cosyvoice.runtime.generation import Generator
from cosyserve.cosyvoice.runtime.hops import Hops
from cosyserve.cosyvoice.runtime.interleaving import LiveText
from cosyserve.cosyvoice.runtime.memory import pages_behind
from cosyserve.cosyvoice.runtime.request import Request
from cosyserve.cosyvoice.runtime.runtime import Runtime
from cosyserve.cosyvoice.runtime.utterance import Pcm, Utterance
from cosyserve.measure.model import speech, voice
from tests.cosyvoice.seeded import FULL, SHALLOW, SHALLOW3, SIZES3, Model, Model3, calm3, seeded

_FRAMES, _POSITIONS, _TEXT = 750, 1024, (5, 10, 15)
# Ids of a recording's words; of a text with which it begins to be spoken in turns; and of each piece that follows.
_WORDS, _BEGUN, _PIECE, _PIECES = 30, 20, 3, 7


class Client:
    def __init__(self, runtime: Runtime, prompt: Prompt, seed: int, *, in_turns: bool = False) -> None:
        self._chunks, self._ended = list[Pcm](), threading.Event()
        self._problem: Exception | None = None
        self._pieces = _PIECES if in_turns else 0
        request = _in_turns(prompt, seed) if in_turns else _complete(prompt, seed)
        self._utterance = Utterance(request, prompt, self._give)
        self._runtime = runtime
        runtime.start(self._utterance)

    def write(self) -> bool:
        """One more piece of its text, if any; whether there was."""
        self._pieces -= 1
        if self._pieces >= 0:
            self._runtime.written(self._utterance, [0] * _PIECE, last=not self._pieces)
        return self._pieces >= 0

    def _give(self, item: Pcm | Exception | None) -> None:
        if isinstance(item, np.ndarray):
            self._chunks.append(item)
            self._runtime.taken(self._utterance)
        else:
            self._problem = item
            self._ended.set()

    def sound(self) -> Pcm:
        self._ended.wait()
        if self._problem is not None:
            raise self._problem
        return np.concatenate(self._chunks)


def _complete(prompt: Prompt, seed: int) -> Request:
    ids = torch.zeros(_TEXT[seed % 3], dtype=torch.long)
    return Request(ids, ids, prompt.speech, seed)


def _in_turns(prompt: Prompt, seed: int) -> Request:
    words, live = torch.zeros(_WORDS, dtype=torch.long), LiveText()
    live.add([0] * _BEGUN)
    return Request(words[:0], words, prompt.speech, seed, live=live)


def runtime_of(model: Model | Model3, streams: int, device: str) -> Runtime:
    pages = (streams + 2) * pages_behind(_FRAMES)
    kernels = kernels_here(model.flow.like.dtype) if device == "cuda" else None
    token2wav = BatchedToken2Wav(model.flow, model.hift, Hops(), streams, pages, _FRAMES, kernels=kernels)
    return Runtime(Generator(model.llm, streams, _POSITIONS, kernels=kernels), token2wav, 2, device)


def differences(model: Model | Model3, streams: int, device: str) -> Iterator[tuple[str, float, int]]:
    runtime = runtime_of(model, streams, device)
    prompts = [_prompt(recorded) for recorded in (125, 75)]
    try:
        alone = [Client(runtime, prompts[seed % 2], seed).sound() for seed in range(streams)]
        for name, pause in (("all at once", 0.0), ("staggered", 0.2)):
            clients = []
            for seed in range(streams):
                clients.append(Client(runtime, prompts[seed % 2], seed))
                time.sleep(pause)
            sounds = [client.sound() for client in clients]
            yield name, max(map(_difference, sounds, alone)), sum(map(np.array_equal, sounds, alone))
        alone = [sound for seed in range(streams) for sound in _sounds_in_turns(runtime, prompts, [seed])]
        sounds = _sounds_in_turns(runtime, prompts, range(streams))
        yield "in turns", max(map(_difference, sounds, alone)), sum(map(np.array_equal, sounds, alone))
    finally:
        runtime.close()


def _sounds_in_turns(runtime: Runtime, prompts: Sequence[Prompt], seeds: Sequence[int]) -> list[Pcm]:
    """Each begins before its text is complete, and waits for the rest of it now and then."""
    clients = [Client(runtime, prompts[seed % 2], seed, in_turns=True) for seed in seeds]
    while [each for each in clients if each.write()]:
        time.sleep(0.05)
    return [client.sound() for client in clients]


def _prompt(recorded: int) -> Prompt:
    given = voice(recorded)
    return Prompt(speech(recorded)[0], given.mel[0], given.embedding[0])


def _difference(sound: Pcm, alone: Pcm) -> float:
    if sound.shape != alone.shape:
        return 1.0
    return float(np.linalg.norm(sound - alone) / np.linalg.norm(alone))


def _model(size: str, device: str, dtype: torch.dtype) -> Model | Model3:
    of_size: dict[str, Callable[[], Model | Model3]] = {
        "full": lambda: seeded(FULL),
        "small": lambda: seeded(SHALLOW),
        "full3": lambda: calm3(SIZES3["full3"]),
        "small3": lambda: calm3(SHALLOW3),
    }
    model = of_size[size]()
    noise: Tensor = model.flow.noise
    for module in (model.llm, model.flow):
        module.to(device, dtype).requires_grad_(False)
    model.flow.noise = noise.to(device)
    model.hift.to(device).requires_grad_(False)
    return model


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--size", choices=("full", "small", "full3", "small3"), default="full")
    parser.add_argument("--streams", type=int, default=16)
    parser.add_argument("--types", nargs="+", choices=("float32", "bfloat16"), default=["float32", "bfloat16"])


def measure(options: argparse.Namespace, results: Results) -> None:
    for name in options.types:
        model = _model(options.size, options.device, getattr(torch, name))
        for way, largest, equal in differences(model, options.streams, options.device):
            results.add(
                f"{name}, {way}", largest_difference=distance(largest), equal=count(equal), of=count(options.streams)
            )


BENCHMARK = Benchmark(measure, needs="a card, or `--device cpu --size small`", arguments=arguments)


if __name__ == "__main__":
    BENCHMARK.run()
