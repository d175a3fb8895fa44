"""The flow's encoder of many streams on a card, weights of the released size:  python -m bench.encoder_batch

Milliseconds of a step for each width and span, of the same for one stream without a graph, what all graphs take of
time and memory, and how far the chunks are from those that each stream has by itself. The weights are untrained; needs
nothing but PyTorch.
"""

import argparse
import time
from collections.abc import Callable
from dataclasses import replace

import torch

from bench.common.benchmark import Benchmark
from bench.common.results import Results, distance, mib, ms, seconds
from cosyserve.cosyvoice.model.config import CHUNK_TOKENS, LOOK_AHEAD, SPEECH_TOKENS, Config
from cosyserve.cosyvoice.model.flow import Flow, MeanStream
from cosyserve.cosyvoice.model.untrained import untrained
from cosyserve.cosyvoice.runtime.encoder_batch import EncoderBatch
from cosyserve.cosyvoice.runtime.graphs import new_pool
from cosyserve.cosyvoice.runtime.mean_batch import EncodedStream
from cosyserve.cosyvoice.runtime.memory import encoder_bytes
from cosyserve.measure.timing import seconds_of

_TOKENS = 2250
_WIDTHS = (1, 4, 16, 32)
_PAST_CHUNKS = (7, 23, 88)  # one more fills a span, or nearly
_HOPS = (CHUNK_TOKENS + LOOK_AHEAD, CHUNK_TOKENS, CHUNK_TOKENS, 11)
_COMPARED = 5
_CALLS = 20

Recording = tuple[torch.Tensor, torch.Tensor, torch.Tensor]


def recording(tokens: int, seed: int) -> Recording:
    generator = torch.Generator().manual_seed(seed)
    speech = torch.randint(0, SPEECH_TOKENS, (1, tokens), generator=generator)
    return speech, torch.zeros(1, 2 * tokens, 80, device="cuda"), torch.randn(1, 192, generator=generator)


def median(work: Callable[[], object]) -> float:
    return seconds_of(work, _CALLS)[_CALLS // 2]


def step_seconds(batch: EncoderBatch, voice: EncodedStream, width: int) -> float:
    """A step of `width` streams behind one recording, again and again from the same place."""
    streams = [batch.resume(batch.keep(voice), slot) for slot in range(width)]
    hop = torch.zeros(1, CHUNK_TOKENS, dtype=torch.long)
    for each in streams:
        each.add(hop)
    return median(lambda: batch.push([(replace(each), False) for each in streams]))


def alone_seconds(flow: Flow, given: Recording) -> float:
    """The same hop by a `MeanStream`."""
    voice = mean_stream(flow, given)
    voice.push(given[0][:, :0].cuda())
    hop = torch.zeros(1, CHUNK_TOKENS, dtype=torch.long, device="cuda")
    voice.push(hop)  # so that each fork finds a buffer with room, as it is in a stream
    return median(lambda: voice.push(hop))


def mean_stream(flow: Flow, given: Recording) -> MeanStream:
    return MeanStream(flow, *(each.cuda() for each in given))


def difference(flow: Flow, batch: EncoderBatch) -> float:
    """The largest, relative to the largest mean, over streams of different lengths side by side."""
    given = [recording(30 + 97 * row, row) for row in range(_COMPARED)]
    streams = [batch.begin(slot, *each) for slot, each in enumerate(given)]
    alone = [mean_stream(flow, each) for each in given]
    largest = furthest = 0.0
    for hop, count in enumerate(_HOPS):
        tokens, final = recording(count, 100 + hop)[0], hop == len(_HOPS) - 1
        for stream in streams:
            stream.add(tokens)
        pushed = batch.push([(stream, final) for stream in streams])
        for chunks, mean in zip(pushed, alone, strict=True):
            expected = mean.push(tokens.cuda(), final=final)
            if expected is None:
                continue
            ours = torch.cat([each.mean for each in chunks], dim=2)
            furthest = max(furthest, (ours - expected.mean).abs().max().item())
            largest = max(largest, expected.mean.abs().max().item())
    return furthest / largest


def measured(dtype: torch.dtype, results: Results) -> None:
    config, name = Config().flow, str(dtype).removeprefix("torch.")
    flow = untrained(Flow(config)).to("cuda", dtype)
    slots = max(_WIDTHS) + 1
    batch = EncoderBatch(flow, slots, _TOKENS, new_pool())
    slot = encoder_bytes(config, _TOKENS, flow.encoder_proj.weight.element_size())
    torch.cuda.synchronize()
    before, began = torch.cuda.mem_get_info()[0], time.perf_counter()
    for make in batch.graphs(max(_WIDTHS)):
        make()
    torch.cuda.synchronize()
    results.add(
        f"{name}, all graphs",
        made_in=seconds(time.perf_counter() - began, ".1f"),
        memory=mib(before - torch.cuda.mem_get_info()[0], ".0f"),
        a_slot=mib(slot),
        largest_difference=distance(difference(flow, batch)),
    )
    for chunks in _PAST_CHUNKS:
        given = recording(CHUNK_TOKENS * chunks + LOOK_AHEAD, 0)
        voice = batch.begin(slots - 1, *given)
        batch.push([(voice, False)])
        steps = {f"{width}_streams": ms(step_seconds(batch, voice, width), ".2f") for width in _WIDTHS}
        alone = ms(alone_seconds(flow, given), ".2f")
        results.add(f"{name}, {chunks} chunks behind", **steps, one_without_a_graph=alone)


def measure(options: argparse.Namespace, results: Results) -> None:
    torch.backends.cudnn.allow_tf32 = False  # or float32 would not be
    for dtype in (torch.bfloat16, torch.float32):
        measured(dtype, results)


BENCHMARK = Benchmark(measure, needs="a card")


if __name__ == "__main__":
    BENCHMARK.run()
