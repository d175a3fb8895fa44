"""Whether a card of each size speaks as many streams as it is said to, with its memory capped to that size.

    python -m bench.small_cards [--gib 8 12 16 24 48] [--past-seconds 15] [--edition cosyvoice3]

On a CUDA device, with untrained weights of the released size, each size in a process of its own: as many streams at
once as there is room for, in one voice.
"""

import argparse
import json
import subprocess
import sys

import torch

from bench.common.benchmark import Benchmark
from bench.common.chosen import kernels_here
from bench.common.results import Results, count, gib, seconds, words
from bench.load import of_released_size
from cosyserve.cosyvoice.frontend.prompt_encoder import Prompt
from cosyserve.cosyvoice.model.config import RELEASED, SAMPLE_RATE, TOKENS_PER_SECOND
from cosyserve.cosyvoice.model.untrained import never_stopping
from cosyserve.cosyvoice.runtime.batched import BatchedToken2Wav
from cosyserve.cosyvoice.runtime.generation import Generator
from cosyserve.cosyvoice.runtime.hops import Hops
from cosyserve.cosyvoice.runtime.memory import frames_behind, room, shared_out
from cosyserve.cosyvoice.runtime.request import Request, Slot
from cosyserve.cosyvoice.runtime.token2wav import Token2WavStream
from cosyserve.measure.model import speech, voice

_POSITIONS = 2560  # as the synthesizer has them
_RECORDED, _SPOKEN, _TEXT_TOKENS = 5 * TOKENS_PER_SECOND, 20 * TOKENS_PER_SECOND, 25


def measured(size: float, past_seconds: float, edition: str) -> dict[str, float]:
    """On a card of so many GiB: bytes free for pages and at the peak, what has room, and seconds of sound spoken."""
    total = size * 2**30
    torch.zeros(1, device="cuda")
    free, whole = torch.cuda.mem_get_info()
    context = whole - free - torch.cuda.memory_reserved()
    torch.cuda.set_per_process_memory_fraction(min(1.0, (total - context) / whole))
    sizes, model = of_released_size("cuda", torch.bfloat16, RELEASED[edition])
    never_stopping(model.llm)
    frames = frames_behind(round(past_seconds * TOKENS_PER_SECOND) or None)
    there = room(total - context - torch.cuda.memory_reserved())
    share = shared_out(there, sizes.flow, frames)
    streams = share.streams
    found = {"there": there, "streams": streams, "voices": share.voices, "pages": share.pages, "sound": 0.0}
    if streams:
        kernels = kernels_here(torch.bfloat16)
        token2wav = BatchedToken2Wav(model.flow, model.vocoder, Hops(), streams, share.pages, frames, kernels=kernels)
        generator = Generator(model.llm, streams, _POSITIONS, kernels=kernels)
        for make in (*generator.graphs(), *token2wav.graphs()):
            make()
        found["sound"] = _spoken(token2wav, generator)
    return {**found, "peak": context + torch.cuda.max_memory_reserved()}


@torch.inference_mode()
def _spoken(token2wav: BatchedToken2Wav, generator: Generator) -> float:
    """Seconds of sound of a request in every slot."""
    given, ids = voice(_RECORDED), torch.zeros(_TEXT_TOKENS, dtype=torch.long)
    streams: dict[int, Token2WavStream] = {}
    drawing: dict[int, tuple[Slot, int]] = {}
    prompt = Prompt(given.tokens[0], given.mel[0], given.embedding[0])
    for number in range(generator.slots):
        slot = generator.add(Request(ids, ids, speech(_RECORDED)[0], number))
        streams[id(slot)], drawing[id(slot)] = token2wav.stream(prompt, number), (slot, 0)
    samples = 0
    while streams:
        for slot, token in generator.advance():
            streams[id(slot)].tokens.add(token)
            drawing[id(slot)] = slot, drawing[id(slot)][1] + 1
        for slot, drawn in list(drawing.values()):
            if slot.done or drawn >= _SPOKEN:
                generator.remove(slot)
                streams[id(slot)].tokens.complete()
                del drawing[id(slot)]
        ready = [number for number, stream in streams.items() if stream.ready][: token2wav.width]
        spoken = [streams[number] for number in ready]
        hops = token2wav.hops(spoken) if ready else []
        for number, wave, (_, last) in zip(ready, token2wav.waves(spoken, hops), hops, strict=True):
            samples += len(wave)
            if last:
                token2wav.release(streams.pop(number))
    return samples / SAMPLE_RATE


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--gib", type=float, nargs="+", default=[8, 12, 16, 24, 48])
    parser.add_argument("--past-seconds", type=float, default=15)
    parser.add_argument("--edition", choices=RELEASED, default="cosyvoice2")


def measure(options: argparse.Namespace, results: Results) -> None:
    for size in options.gib:
        # In a process of its own, because reserved memory stays reserved.
        code = "import json; from bench.small_cards import measured; "
        code += f"print(json.dumps(measured({size}, {options.past_seconds}, {options.edition!r})))"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        if done.returncode:
            results.add(f"{size:g} GiB", failed=words(done.stderr.splitlines()[-1]))
            continue
        found = json.loads(done.stdout.splitlines()[-1])
        results.add(
            f"{size:g} GiB",
            free_for_pages=gib(found["there"]),
            streams=count(found["streams"]),
            voices=count(found["voices"]),
            pages=count(found["pages"]),
            sound=seconds(found["sound"], ".1f"),
            peak=gib(found["peak"]),
        )


BENCHMARK = Benchmark(measure, needs="a card", arguments=arguments)


if __name__ == "__main__":
    BENCHMARK.run()
