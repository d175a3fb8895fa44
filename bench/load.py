"""The frozen load protocol: what listeners hear of one runtime, in process and below HTTP.

    python -m bench.load --output load.json [--plot load.svg] [--model FOLDER | --untrained] [--edition cosyvoice3]
                         [--short | --quick] [--compare FILE]

The model is the small one of the tests, or one in a folder, or (`--untrained`) one of the released size with weights
that need no file; on a CUDA device where there is one. Clients take what comes at once, as a client that buffers does,
and play it in real time (`bench.common.listening`). Parts, in their order:

- alone: one stream after the other; its first chunk, how much later the second comes, the real-time factor;
- a new voice: its first chunk, with features known and the flow yet to hear the recording, and again once it is known;
- closed loop: 1, 4, 16 and 32 at once, each of whom asks again as soon as the last sound has come;
- voices: four at once in eight voices in turn, against one voice;
- staggered: 32 who start one after another, each of whom asks again when the text has been played;
- open loop: arrivals at random, short and long texts, rates that rise until somebody hears silence in two running; in
  four voices, then in six, so that a cache of four shows.

What is frozen: texts, voices, seeds, rates (the powers of 1.3) and, except with `--short` and `--quick`, durations. The
stop tokens are never drawn, so a text of 4 s sounds for 4 s. Who has not been heard out some seconds after a part's end
gives up. The file is written after every part and every rate, so a run that is cut leaves what it has. Weights that are
not trained make no silence before they speak: audible is then the first chunk itself.
"""

import argparse
import asyncio
import json
import os
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timezone
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import nn
from torch.nn.utils import parametrize

from bench.common.benchmark import Benchmark
from bench.common.chosen import kernels_here
from bench.common.listening import (
    Figures,
    Listener,
    arrivals,
    figures,
    highest,
    milliseconds,
    next_step,
    percentile,
    rate_of,
    step_below,
)
from bench.common.load_clients import Clients, Gpu
from bench.common.load_picture import picture
from bench.common.load_report import Report, by_case, compared, head
from bench.common.results import Results
from cosyserve.cosyvoice.model.config import RELEASED, TOKENS_PER_SECOND, Config3, Sizes
from cosyserve.cosyvoice.model.flow import Solver
from cosyserve.cosyvoice.model.loading import flow_of, load_flow, load_hift, load_llm, load_sizes, vocoder_of
from cosyserve.cosyvoice.model.qwen2 import Llm
from cosyserve.cosyvoice.model.untrained import never_stopping, untrained
from cosyserve.cosyvoice.model.vocoder import Vocoder
from cosyserve.cosyvoice.runtime.batched import BatchedToken2Wav
from cosyserve.cosyvoice.runtime.generation import Generator
from cosyserve.cosyvoice.runtime.hops import Hops
from cosyserve.cosyvoice.runtime.memory import frames_behind, room, shared_out
from cosyserve.cosyvoice.runtime.runtime import Runtime
from cosyserve.cosyvoice.runtime.token2wav import SingleToken2Wav, Token2Wav
from cosyserve.files import write_atomically
from tests.cosyvoice.folder import SMALL3
from tests.cosyvoice.seeded import TINY, seeded, seeded3

if TYPE_CHECKING:
    from cosyserve.cosyvoice.kernels.kernels import Kernels

# As the settings have them.
_POSITIONS = 2560
_PAST_TOKENS, _RECORDING_TOKENS = 15 * TOKENS_PER_SECOND, 8 * TOKENS_PER_SECOND
_STREAMS, _STREAMS_ON_CPU = 16, 2

_NEW = 1000  # voices from here on are spoken once


@dataclass(frozen=True)
class Protocol:
    """Durations in seconds."""

    texts: tuple[float, ...] = (4, 12)  # one token of text is spoken for 0.8
    at_once: tuple[int, ...] = (1, 4, 16, 32)
    closed: float = 10
    repeats: int = 8
    many_voices: int = 8
    staggered: int = 32  # listeners
    staggering: float = 30
    open: float = 20
    open_voices: tuple[int, ...] = (4, 6)
    patience: float = 10  # after the end of a part, with what was asked before
    begin: float = 0.4  # of what the closed loop carried: the first rate of the open one
    limit: float = 440  # for everything, the making of the runtime too; the open loops share what is left


SHORT = replace(Protocol(), closed=4, repeats=5, staggering=20, open=15, patience=6, begin=0.7, limit=330)
QUICK = replace(Protocol(), closed=2, repeats=3, staggering=6, open=4, patience=5, limit=80)


# The model and the runtime.


V = TypeVar("V", bound=nn.Module)


@dataclass(frozen=True)
class Model:
    llm: Llm
    flow: Solver
    vocoder: Vocoder


def small(device: str, config: Sizes = TINY) -> tuple[Sizes, Model]:
    model = seeded3(config) if isinstance(config, Config3) else seeded(config)
    for module in (model.llm, model.flow, settled(model.hift)):
        module.to(device).requires_grad_(False)
    return config, Model(model.llm, model.flow, model.hift)


def of_released_size(device: str, dtype: torch.dtype, config: Sizes) -> tuple[Sizes, Model]:
    llm, flow, vocoder = untrained(Llm(config.llm)), untrained(flow_of(config)), untrained(vocoder_of(config))
    noise = flow.noise
    flow.to(device, dtype)
    flow.noise = noise.to(device)
    vocoder.exact = dtype == torch.float32
    return config, Model(llm.to(device, dtype), flow, settled(vocoder).to(device))


def settled(vocoder: V) -> V:
    """As `load_hift` leaves it."""
    vocoder.f0_predictor.double()
    for module in list(vocoder.modules()):
        if parametrize.is_parametrized(module):
            parametrize.remove_parametrizations(module, "weight")
    return vocoder


def from_folder(folder: Path, device: str, dtype: torch.dtype) -> tuple[Sizes, Model]:
    config = load_sizes(folder)
    llm, flow = load_llm(folder, config, dtype, device), load_flow(folder, config, dtype, device)
    return config, Model(llm, flow, load_hift(folder, config, device))


def runtime_of(config: Sizes, model: Model, device: str, streams: int, kernels: "Kernels | None" = None) -> Runtime:
    """As the synthesizer makes its own, for so many streams or as many as there is room for."""
    never_stopping(model.llm)
    if device == "cpu":
        token2wav: Token2Wav = SingleToken2Wav(model.flow, model.vocoder, Hops(), 1, _PAST_TOKENS, _RECORDING_TOKENS)
    else:
        model.flow.fuse()  # as the synthesizer does, before it looks at what is free
        frames, there = frames_behind(_PAST_TOKENS), room(torch.cuda.mem_get_info()[0])
        share = shared_out(there, config.flow, frames, model.flow.like.element_size())
        streams = min(streams, share.streams)
        parts = model.flow, model.vocoder, Hops(), streams, share.pages, frames, _RECORDING_TOKENS
        token2wav = BatchedToken2Wav(*parts, kernels=kernels)
    generator = Generator(model.llm, streams, _POSITIONS, kernels=kernels)
    return Runtime(generator, token2wav, torch.get_num_threads(), device)


# The parts.


class Run:
    def __init__(self, clients: Clients, gpu: Gpu, protocol: Protocol, report: Report, began: float) -> None:
        self._clients, self._gpu, self._protocol, self._report, self._began = clients, gpu, protocol, report, began

    async def all(self) -> None:
        await self.warm_up()
        print(head(), flush=True)
        await self.alone()
        await self.new_voice()
        carried = [await self.closed(number) for number in self._protocol.at_once]
        await self.voices()
        await self.staggered()
        most = max(each.sound_per_s for each in carried) or 1.0  # where nothing came within the time, real time
        begin = self._protocol.begin * most / statistics.fmean(self._protocol.texts)
        for number, voices in enumerate(self._protocol.open_voices):
            left = self._protocol.limit - (time.perf_counter() - self._began)
            await self.open(voices, begin, left / (len(self._protocol.open_voices) - number))
        self._report.add(True, "complete")

    async def warm_up(self) -> None:
        """As many at once as there is room for, as the first requests to a server."""
        texts, voices, ignored = self._protocol.texts, max(self._protocol.open_voices), list[Listener]()
        asked = (
            self._clients.listen(texts[number % len(texts)], number % voices, ignored)
            for number in range(min(self._clients.slots, max(self._protocol.at_once)))
        )
        await asyncio.gather(*asked)

    async def alone(self) -> None:
        listeners = list[Listener]()
        for _ in range(self._protocol.repeats):
            await self._clients.listen(self._protocol.texts[-1], 0, listeners)
        whole = [each for each in listeners if each.complete]
        seconds = [each.chunks[1].at - each.chunks[0].at for each in whole if len(each.chunks) > 1]
        spent = [(each.chunks[-1].at - each.asked) / each.sound for each in whole]
        found = {
            "first_chunk_p50_ms": milliseconds(percentile([each.first_chunk for each in whole], 0.5)),
            "first_chunk_sounds_ms": milliseconds(percentile([each.chunks[0].seconds for each in whole], 0.5)),
            "second_after_p50_ms": milliseconds(percentile(seconds, 0.5)),
            "real_time_factor": round(statistics.fmean(spent), 4) if spent else None,
            "silence_s": round(sum(each.silence for each in listeners), 3),
        }
        self._report.add(found, "alone")

    async def new_voice(self) -> None:
        """Each new voice, and the same voice right after."""
        new, known = list[Listener](), list[Listener]()
        for number in range(self._protocol.repeats):
            for listeners in (new, known):
                await self._clients.listen(self._protocol.texts[0], _NEW + number, listeners)
        firsts = {"new": new, "known": known}
        found = {
            f"{name}_first_chunk_p50_ms": milliseconds(percentile([each.first_chunk for each in listeners], 0.5))
            for name, listeners in firsts.items()
        }
        self._report.add(found, "new voice")

    async def closed(self, at_once: int) -> Figures:
        found = await self._closed(at_once, min(self._protocol.open_voices))
        self._report.add(found, "closed loop", f"{at_once} at once")
        return found

    async def voices(self) -> None:
        one, many = [await self._closed(4, voices) for voices in (1, self._protocol.many_voices)]
        self._report.add(one, "voices", "1")
        self._report.add(many, "voices", str(self._protocol.many_voices))
        ratio = round(many.sound_per_s / one.sound_per_s, 3) if one.sound_per_s else None
        self._report.add(ratio, "voices", "ratio of sound per second")

    async def _closed(self, at_once: int, voices: int) -> Figures:
        """So many short texts at once, each followed by the next, in so many voices in turn."""
        listeners, turns = list[Listener](), count()
        begin = time.perf_counter()
        end = begin + self._protocol.closed

        async def ask() -> None:
            while time.perf_counter() < end:
                await self._clients.listen(self._protocol.texts[0], next(turns) % voices, listeners)

        await self._heard_out([asyncio.create_task(ask()) for _ in range(at_once)], end)
        return self._figures(listeners, begin, end)

    async def staggered(self) -> None:
        """The listeners come one after another in the first third of the time."""
        texts, number_of, voices = self._protocol.texts, self._protocol.staggered, min(self._protocol.open_voices)
        listeners = list[Listener]()
        begin = time.perf_counter()
        end = begin + self._protocol.staggering

        async def ask(number: int) -> None:
            await asyncio.sleep(self._protocol.staggering / 3 * number / number_of)
            for turn in count(number):
                if time.perf_counter() >= end:
                    return
                listener = await self._clients.listen(texts[turn % len(texts)], number % voices, listeners)
                await asyncio.sleep(max(0.0, min(listener.plays_until, end) - time.perf_counter()))

        await self._heard_out([asyncio.create_task(ask(number)) for number in range(number_of)], end)
        self._report.add(self._figures(listeners, begin, end), "staggered", f"{number_of} listeners")

    async def open(self, voices: int, begin: float, seconds: float) -> None:
        """Rates around `begin`, as long as there is time for one more."""
        name, until = f"{voices} voices", time.perf_counter() + seconds
        carried: dict[int, bool] = {}
        step: int | None = step_below(begin)
        while step is not None:
            if carried and time.perf_counter() + self._protocol.open > until:
                break
            found = await self._at(rate_of(step), voices)
            carried[step] = found.carried
            self._report.add(found, "open loop", name, "rates", f"{rate_of(step):.2f}")
            step = next_step(carried)
        self._report.add(highest(carried), "open loop", name, "highest rate without silence")
        self._report.add(step is not None, "open loop", name, "out of time")

    async def _at(self, rate: float, voices: int) -> Figures:
        listeners, asked = list[Listener](), list[asyncio.Task[Listener]]()
        begin = time.perf_counter()
        end = begin + self._protocol.open
        for arrival in arrivals(rate, self._protocol.open, self._protocol.texts, voices):
            await asyncio.sleep(max(0.0, begin + arrival.at - time.perf_counter()))
            asked.append(asyncio.create_task(self._clients.listen(arrival.seconds, arrival.voice, listeners)))
        await self._heard_out(asked, end)
        return self._figures(listeners, begin, end)

    async def _heard_out(self, asked: Sequence[asyncio.Task[Any]], end: float) -> None:
        """Until the end of a part, and until all have heard what they asked for, or have lost their patience."""
        await asyncio.sleep(max(0.0, end - time.perf_counter()))
        heard, waiting = await asyncio.wait(asked, timeout=self._protocol.patience)
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        for task in heard:
            task.result()

    def _figures(self, listeners: list[Listener], begin: float, end: float) -> Figures:
        return figures(listeners, begin, end, self._gpu.busy(begin, end))


def measured(runtime: Runtime, vocabulary: int, protocol: Protocol, report: Report, began: float) -> None:
    """The whole protocol, which began when the model did; the runtime is closed at the end."""
    gpu = Gpu()
    report.add(asdict(protocol), "protocol")
    try:
        with gpu.watched():
            asyncio.run(Run(Clients(runtime, vocabulary), gpu, protocol, report, began).all())
    finally:
        runtime.close()


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--output", type=Path, required=True, help="JSON, as --compare reads it")
    parser.add_argument("--plot", type=Path, help="SVG")
    kind = parser.add_mutually_exclusive_group()
    kind.add_argument("--model", type=Path, metavar="FOLDER", help="released files; the voices are drawn all the same")
    kind.add_argument("--untrained", action="store_true", help="the released size, weights that need no file")
    parser.add_argument("--edition", choices=RELEASED, default="cosyvoice2", help="of a model without a file")
    parser.add_argument("--streams", type=int, help=f"default {_STREAMS}, on a processor {_STREAMS_ON_CPU}")
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--short", action="store_true", help="five and a half minutes, the same rates")
    length.add_argument("--quick", action="store_true", help="a minute and a half, for a look")
    parser.add_argument("--torch", action="store_true", help="PyTorch's kernels, even where a server uses Triton's")
    parser.add_argument("--compare", type=Path, metavar="FILE", help="an earlier run on the same machine")


def measure(options: argparse.Namespace, results: Results) -> None:
    began = time.perf_counter()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    dtype = torch.bfloat16 if device == "cuda" else torch.float32
    streams = options.streams or (_STREAMS if device == "cuda" else _STREAMS_ON_CPU)
    before = json.loads(options.compare.read_text()) if options.compare else {}
    if options.model:
        name, (config, model) = "released files", from_folder(options.model, device, dtype)
    elif options.untrained:
        name, sizes = f"{options.edition}, released size, untrained", RELEASED[options.edition]
        config, model = of_released_size(device, dtype, sizes)
    else:
        name = f"{options.edition}, small"
        config, model = small(device, SMALL3 if options.edition == "cosyvoice3" else TINY)
    card = torch.cuda.get_device_name() if device == "cuda" else f"{os.cpu_count()} cores"
    if before and before["machine"]["device"] != card:
        sys.exit(f"{options.compare} was measured on another machine: {before['machine']['device']}, not {card}")
    report = Report(options.output)
    kernels = None if options.torch else kernels_here(dtype, config)
    runtime = runtime_of(config, model, device, streams, kernels)
    machine = {
        "device": card,
        "date": f"{datetime.now(timezone.utc):%Y-%m-%d %H:%M} UTC",
        "torch": torch.__version__,
        "kernels": "PyTorch's" if kernels is None else "Triton's",
        "model": name,
        "dtype": str(model.flow.like.dtype).removeprefix("torch."),
        "streams": runtime.slots,
    }
    report.add(machine, "machine")
    protocol = QUICK if options.quick else SHORT if options.short else Protocol()
    measured(runtime, config.llm.vocabulary, protocol, report, began)
    if options.plot:
        write_atomically(options.plot, picture(report.found))
    for line in compared(report.found, before):
        print(line)
    for case, found in by_case(report.found).items():
        results.add(case, **found)


BENCHMARK = Benchmark(measure, arguments=arguments)


if __name__ == "__main__":
    BENCHMARK.run()
