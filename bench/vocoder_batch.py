"""The vocoder of many streams on a card: its batches as graphs, against one stream after the other, kernel by kernel.

    python -m bench.vocoder_batch [--most 32] [--kernels]

For each kind of hop and number of streams: milliseconds of a batch, of the same streams one by one, and the greatest
difference between the samples of both. Untrained weights of the released size; needs nothing but PyTorch and a card.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from bench.common.benchmark import Benchmark
from bench.common.results import Results, distance, gib, ms, seconds
from cosyserve.cosyvoice.model.config import MELS, Config
from cosyserve.cosyvoice.model.hift import Hift
from cosyserve.cosyvoice.model.hift_stream import FIRST_HELD, HiftStream
from cosyserve.cosyvoice.model.untrained import untrained
from cosyserve.cosyvoice.runtime.graphs import new_pool
from cosyserve.cosyvoice.runtime.vocoder import VocoderBatch

_FIRST, _LATER = 20, 50  # frames of a stream's hops
_KINDS = {  # the frames of hops until the one that counts, and whether that is the last
    "first": ([_FIRST], False),
    "second": ([_FIRST, _LATER], False),
    "later": ([_FIRST, _LATER, _LATER], False),
    "last, short": ([_FIRST, _LATER, 6], True),
    "last, long": ([_FIRST, _LATER, 56], True),
    "all, short": ([26], True),
}
_STREAMS = (1, 4, 16, 32)
_TURNS = 5
_HERTZ = 150.0  # of untrained weights, which would be silent

Push = Callable[[Sequence[Tensor], bool], list[Tensor]]  # the mel of each stream, and whether it is the last


def vocoder() -> Hift:
    """With the weight norm worked out, as it is loaded."""
    hift = untrained(Hift(Config().hift))
    for module in list(hift.modules()):
        if parametrize.is_parametrized(module):
            parametrize.remove_parametrizations(module, "weight")
    nn.init.constant_(hift.f0_predictor.classifier.bias, _HERTZ)
    return hift.requires_grad_(False).to("cuda")


def spoken(push: Push, streams: int, sizes: Sequence[int], *, final: bool) -> tuple[float, list[Tensor]]:
    """Seconds that the last of those hops takes, and the samples of all of them."""
    heard: list[list[Tensor]] = [[] for _ in range(streams)]
    generator = torch.Generator().manual_seed(streams)
    took = 0.0
    for number, size in enumerate(sizes, 1):
        mels = [torch.randn(1, MELS, size, generator=generator).to("cuda") for _ in range(streams)]
        torch.cuda.synchronize()
        began = time.perf_counter()
        samples = push(mels, final and number == len(sizes))
        torch.cuda.synchronize()
        took = time.perf_counter() - began
        for mine, new in zip(heard, samples, strict=True):
            mine.append(new)
    return took, [torch.cat(each) for each in heard]


def together(batch: VocoderBatch, streams: int) -> Push:
    running = [batch.stream(seed) for seed in range(streams)]
    return lambda mels, final: batch.push([(stream, mel, final) for stream, mel in zip(running, mels, strict=True)])


def one_by_one(hift: Hift, streams: int) -> Push:
    running = [HiftStream(hift, seed, FIRST_HELD) for seed in range(streams)]
    return lambda mels, final: [stream.push(mel, final=final) for stream, mel in zip(running, mels, strict=True)]


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--most", type=int, default=max(_STREAMS))
    parser.add_argument("--kernels", action="store_true", help="with Triton's kernels, as a server on a card")
    parser.add_argument("--exact", action="store_true", help="as where COSYSERVE_DTYPE is float32")


def measure(options: argparse.Namespace, results: Results) -> None:
    torch.backends.cudnn.deterministic = True  # as a server has it
    hift = vocoder()
    hift.exact = options.exact
    before, began = torch.cuda.memory_reserved(), time.perf_counter()
    kernels = None
    if options.kernels:
        from cosyserve.cosyvoice.kernels.kernels import Kernels

        kernels = Kernels()
    batch = VocoderBatch(hift, options.most, _FIRST, _LATER, new_pool(), kernels)
    for make in batch.graphs():
        make()
    torch.cuda.synchronize()
    took, size = time.perf_counter() - began, torch.cuda.memory_reserved() - before
    results.add(f"graphs, up to {options.most} streams", made_in=seconds(took, ".1f"), memory=gib(size))
    for name, (sizes, final) in _KINDS.items():
        for streams in (each for each in _STREAMS if each <= options.most):
            ours = [spoken(together(batch, streams), streams, sizes, final=final) for _ in range(_TURNS)]
            alone = [spoken(one_by_one(hift, streams), streams, sizes, final=final) for _ in range(2)]
            apart = max(float((a - b).abs().max()) for a, b in zip(ours[-1][1], alone[-1][1], strict=True))
            batched, single = statistics.median(took for took, _ in ours), min(took for took, _ in alone)
            results.add(
                f"{name}, {streams} streams", batch=ms(batched), one_by_one=ms(single), difference=distance(apart)
            )


BENCHMARK = Benchmark(measure, needs="a card", arguments=arguments)


if __name__ == "__main__":
    BENCHMARK.run()
