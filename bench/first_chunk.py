"""Where the time to a first chunk goes, part by part, by Triton's kernels and by PyTorch's.

    python -m bench.first_chunk [--streams 1 16] [--picture FILE.svg] [--device cuda]

So many requests come at once, in a voice that is known. Each part is waited for, so that its time is its own: the whole
takes a little longer than without. A moment belongs to the part of the sound that is being made, else to the tokens,
else to the rest, which is the host's. Untrained weights of the released size on a card, small ones on a processor.
"""

import argparse
import functools
import statistics
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from bench.common import plot
from bench.common.benchmark import Benchmark
from bench.common.chosen import kernels_here
from bench.common.results import Results, ms
from bench.load import Model, of_released_size, small
from cosyserve.cosyvoice.frontend.prompt_encoder import Prompt
from cosyserve.cosyvoice.model.config import Config
from cosyserve.cosyvoice.model.untrained import never_stopping
from cosyserve.cosyvoice.runtime.batched import BatchedToken2Wav
from cosyserve.cosyvoice.runtime.generation import Generator
from cosyserve.cosyvoice.runtime.hops import Hops
from cosyserve.cosyvoice.runtime.memory import pages_behind
from cosyserve.cosyvoice.runtime.request import Request
from cosyserve.cosyvoice.runtime.runtime import Runtime
from cosyserve.cosyvoice.runtime.utterance import Pcm, Utterance
from cosyserve.files import write_atomically
from cosyserve.measure.model import speech, voice
from tests.cosyvoice.seeded import SHALLOW

if TYPE_CHECKING:
    from cosyserve.cosyvoice.kernels.kernels import Kernels

PARTS = ("prompt", "tokens", "encoder", "flow", "vocoder", "rest")
_SOUND = ("vocoder", "flow", "encoder")  # before tokens, which may be drawn meanwhile
_COLOURS = dict(zip(PARTS, (plot.PURPLE, plot.ORANGE, "#2aa", plot.BLUE, plot.GREEN, "#bbb"), strict=True))
_FRAMES, _POSITIONS, _RECORDED, _TURNS = 750, 1024, 125, 5
_BAR, _GAP, _LEFT, _TOP = 26, 12, 120, 40  # pixels


@dataclass(frozen=True)
class Span:
    part: str
    begin: float
    end: float


def shares(spans: Sequence[Span], begin: float, end: float) -> dict[str, float]:
    """Seconds of each part from `begin` to `end`, which come to the whole."""
    cuts = sorted({begin, end, *(at for each in spans for at in (each.begin, each.end) if begin < at < end)})
    found = dict.fromkeys(PARTS, 0.0)
    for first, last in pairwise(cuts):
        busy = {each.part for each in spans if each.begin <= first and last <= each.end}
        part = next((each for each in (*_SOUND, "prompt", "tokens") if each in busy), "rest")
        found[part] += last - first
    return found


class Watch:
    """Notes when the parts of a runtime are at work."""

    def __init__(self, generator: Generator, token2wav: BatchedToken2Wav) -> None:
        self.spans: list[Span] = []
        inner: Any = token2wav
        for owner, name, part in (
            (generator, "_read", "prompt"),
            (generator, "_decode", "tokens"),
            (inner._encoder, "push", "encoder"),
            (inner.batch, "move", "flow"),
            (inner._vocoder, "speak", "vocoder"),
        ):
            setattr(owner, name, self._watched(getattr(owner, name), part))

    def _watched(self, work: Callable[..., Any], part: str) -> Callable[..., Any]:
        @functools.wraps(work)
        def watched(*arguments: Any) -> Any:
            _wait()
            begin = time.perf_counter()
            try:
                return work(*arguments)
            finally:
                _wait()
                self.spans.append(Span(part, begin, time.perf_counter()))

        return watched


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.current_stream().synchronize()


class _Client:
    def __init__(self, runtime: Runtime, prompt: Prompt, seed: int) -> None:
        self._ended, self.first = threading.Event(), 0.0
        self._problem: Exception | None = None
        ids = torch.zeros(5, dtype=torch.long)
        self._runtime, self._utterance = runtime, Utterance(Request(ids, ids, prompt.speech, seed), prompt, self._give)
        runtime.start(self._utterance)

    def _give(self, item: Pcm | Exception | None) -> None:
        if item is None or isinstance(item, Exception):
            self._problem = item
            self._ended.set()
        else:
            self.first = self.first or time.perf_counter()
            self._runtime.taken(self._utterance)

    def wait(self) -> None:
        self._ended.wait()
        if self._problem is not None:
            raise self._problem


def breakdowns(
    model: Model, device: str, streams: Sequence[int], kernels: "Kernels | None"
) -> Iterator[tuple[int, dict[str, float]]]:
    """For each number of streams the parts of the median first chunk, of the turn whose first chunk is the median."""
    most = max(streams)
    never_stopping(model.llm)
    pages = (most + 1) * pages_behind(_FRAMES)
    token2wav = BatchedToken2Wav(model.flow, model.vocoder, Hops(), most, pages, _FRAMES, kernels=kernels)
    generator = Generator(model.llm, most, _POSITIONS, piece=256, kernels=kernels)
    for make in (*generator.graphs(), *token2wav.graphs()):
        make()
    watch = Watch(generator, token2wav)
    runtime = Runtime(generator, token2wav, torch.get_num_threads(), device)
    given = voice(_RECORDED)
    prompt = Prompt(speech(_RECORDED)[0], given.mel[0], given.embedding[0])
    try:
        _Client(runtime, prompt, 0).wait()
        for count in streams:
            turns = sorted((_turn(runtime, prompt, count, watch) for _ in range(_TURNS)), key=lambda turn: turn[0])
            yield count, turns[_TURNS // 2][1]
    finally:
        runtime.close()


def _turn(runtime: Runtime, prompt: Prompt, count: int, watch: Watch) -> tuple[float, dict[str, float]]:
    watch.spans.clear()
    began = time.perf_counter()
    clients = [_Client(runtime, prompt, seed) for seed in range(count)]
    for client in clients:
        client.wait()
    first = statistics.median(client.first for client in clients)
    return first - began, shares(list(watch.spans), began, first)


def picture(found: Mapping[str, Mapping[str, float]]) -> str:
    """A bar for each case."""
    longest = max(sum(parts.values()) for parts in found.values())
    scale = (plot.WIDTH - _LEFT - 80) / longest
    drawn = plot.legend([(part, _COLOURS[part]) for part in PARTS], _LEFT, step=90)
    for number, (case, parts) in enumerate(found.items()):
        x, y = float(_LEFT), _TOP + number * (_BAR + _GAP)
        drawn.append(plot.text(x - 8, y + 17, case, anchor="end"))
        for part in PARTS:
            width = scale * parts[part]
            drawn.append(f'<rect x="{x:.1f}" y="{y}" width="{width:.1f}" height="{_BAR}" fill="{_COLOURS[part]}"/>')
            x += width
        drawn.append(plot.text(x + 6, y + 17, f"{1000 * sum(parts.values()):.0f} ms"))
    return plot.svg(_TOP + len(found) * (_BAR + _GAP), drawn)


def _model(device: str) -> Model:
    return small(device, SHALLOW)[1] if device == "cpu" else of_released_size(device, torch.bfloat16, Config())[1]


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--streams", type=int, nargs="+", default=[1, 16])
    parser.add_argument("--picture", type=Path, metavar="FILE")


def measure(options: argparse.Namespace, results: Results) -> None:
    ways: dict[str, Kernels | None] = {"PyTorch": None}
    if options.device == "cuda" and (kernels := kernels_here(torch.bfloat16)) is not None:
        ways["Triton"] = kernels
    found: dict[str, dict[str, float]] = {}
    for name, kernels in ways.items():
        model = _model(options.device)
        for count, parts in breakdowns(model, options.device, options.streams, kernels):
            case = f"{count}, {name}"
            found[case] = parts
            results.add(case, **{part: ms(took) for part, took in parts.items()}, whole=ms(sum(parts.values())))
    if options.picture is not None:
        ordered = dict(sorted(found.items(), key=lambda each: int(each[0].split(",")[0])))
        write_atomically(options.picture, picture(ordered))


BENCHMARK = Benchmark(measure, needs="a card, or `--device cpu`", arguments=arguments)

if __name__ == "__main__":
    BENCHMARK.run()
