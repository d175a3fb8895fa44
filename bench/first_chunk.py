"""The time to the first chunk of streams, from the prompt to samples, with an older source tree beside this one.

    git archive main src | tar -x -C /tmp/before
    python -m bench.first_chunk /tmp/before/src [--size tiny] [--device cuda] [--streams 4] [--turns 2]

Seeded weights. Both take turns, each time in a process of its own, so that what else the machine does falls on both.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

import torch

from cosyserve.cosyvoice.frontend.prompt_encoder import Prompt
from cosyserve.cosyvoice.model.config import SAMPLE_RATE
from cosyserve.cosyvoice.runtime.generation import Generator, Request
from cosyserve.cosyvoice.runtime.token2wav import BatchedToken2Wav, Hops, SingleToken2Wav, Token2Wav
from cosyserve.measure.model import speech, voice
from tests.cosyvoice.seeded import SIZES, seeded

_RECORDED = 125  # speech tokens of the voice's recording: 5 s
_TEXT_TOKENS = 2  # a short first sentence
_POSITIONS, _PAST_FRAMES = 512, 600
_REQUESTS = 5


def measured(size: str, device: str, streams: int) -> dict[str, list[float]]:
    """What `_run` tells of each request, after two that warm up."""
    model = seeded(SIZES[size])
    for module in (model.llm, model.flow, model.hift):
        module.to(device).requires_grad_(False)
    given = voice(_RECORDED)
    prompt = Prompt(given.tokens[0], given.mel[0], given.embedding[0])
    voicing: Token2Wav
    if device == "cpu":
        voicing = SingleToken2Wav(model.flow, model.hift, Hops(), 1, None)
    else:
        dtype = torch.bfloat16
        noise = model.flow.noise
        model.llm.to(dtype), model.flow.to(dtype)
        model.flow.noise = noise
        voicing = BatchedToken2Wav(model.flow, model.hift, Hops().first, streams, 1, _PAST_FRAMES)
        voicing.prepare()
    generator = Generator(model.llm, streams, _POSITIONS)
    runs = [_run(generator, voicing, prompt, seed) for seed in range(_REQUESTS + 2)][2:]
    return {name: [run[name] for run in runs] for name in runs[0]}


def _run(generator: Generator, voicing: Token2Wav, prompt: Prompt, seed: int) -> dict[str, float]:
    """A request in every slot: when the median stream has its first chunk, how long that sounds, how
    much later the second comes, and when all end."""
    ids = torch.zeros(_TEXT_TOKENS, dtype=torch.long)
    began = time.perf_counter()
    streams = []
    for number in range(generator.slots):
        slot = generator.add(Request(ids, ids, speech(_RECORDED)[0], 100 * seed + number))
        streams.append((slot, voicing.stream(prompt, seed)))
    running, chunks = list(streams), {id(slot): list[tuple[float, int]]() for slot, _ in streams}
    while running:
        for each, token in generator.advance():
            next(stream for slot, stream in streams if slot is each).tokens.add(token)
        for slot, stream in running:
            if slot.done:
                stream.tokens.complete()
        ready = [(slot, stream) for slot, stream in running if stream.tokens.ready][: voicing.width]
        hops = voicing.hops([stream for _, stream in ready]) if ready else []
        for (slot, stream), (mel, last) in zip(ready, hops, strict=True):
            if count := len(stream.wave(mel, last)):
                chunks[id(slot)].append((time.perf_counter() - began, count))
            if last:
                running = [each for each in running if each[0] is not slot]
                voicing.release(stream)
    firsts = [made[0] for made in chunks.values()]
    return {
        "first chunk, ms": 1000 * statistics.median(at for at, _ in firsts),
        "it sounds, ms": 1000 * firsts[0][1] / SAMPLE_RATE,
        "the second, ms": 1000 * statistics.median(made[1][0] - made[0][0] for made in chunks.values()),
        "all, ms": 1000 * max(made[-1][0] for made in chunks.values()),
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("before", type=Path)
    parser.add_argument("--size", choices=SIZES, default="full")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--streams", type=int, default=1)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--measure", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        print(json.dumps(measured(options.size, options.device, options.streams)))
        return
    here = Path(__file__).parents[1]
    results: dict[str, dict[str, list[float]]] = {"before": {}, "now": {}}
    for _ in range(options.turns):
        for name, source in (("before", options.before), ("now", here / "src")):
            environment = {**os.environ, "PYTHONPATH": f"{source}{os.pathsep}{here}"}
            command = [sys.executable, "-m", "bench.first_chunk", *sys.argv[1:], "--measure"]
            output = subprocess.run(command, env=environment, cwd=here, check=True, stdout=subprocess.PIPE).stdout
            for what, values in json.loads(output.splitlines()[-1]).items():
                results[name].setdefault(what, []).extend(values)
    print(
        f"{options.size} on {options.device}, {options.streams} streams; medians (least) of {options.turns * _REQUESTS}"
    )
    for what in results["now"]:
        both = [(statistics.median(each[what]), min(each[what])) for each in results.values()]
        (before, least_before), (now, least_now) = both
        shown = f"before {before:8.1f} ({least_before:.1f})   now {now:8.1f} ({least_now:.1f})"
        print(f"{what:18} {shown}   ratio {now / before:.2f} ({least_now / least_before:.2f})")


if __name__ == "__main__":
    main()
