"""A step of the language model on a card, by PyTorch and by Triton's kernels, each as a graph.

    python -m bench.decode_step [--positions 1024]

For each number of slots, all in use from that position on: milliseconds of a step with its draw, and how far the scores
of one step are from those in float32. Untrained weights of the released size; needs PyTorch, Triton and a card.
"""

import argparse
import copy
import time

import torch

from bench.common.benchmark import Benchmark
from bench.common.results import Results, distance, ms
from cosyserve.cosyvoice.kernels.kernels import Kernels
from cosyserve.cosyvoice.model.config import Config
from cosyserve.cosyvoice.model.qwen2 import Llm
from cosyserve.cosyvoice.model.untrained import untrained
from cosyserve.cosyvoice.runtime.fused_decoder import FusedDecoder
from cosyserve.cosyvoice.runtime.generation import Generator
from cosyserve.cosyvoice.runtime.request import Request

_SLOTS = (1, 4, 16, 32)
_ROOM = 512  # positions behind those where the measurement begins
_TEXT = 200  # ids, so that no request may stop before 400 steps
_STEPS = 200


def seconds_a_step(llm: Llm, slots: int, positions: int, kernels: Kernels | None) -> float:
    generator = Generator(llm, slots, positions + _ROOM, kernels=kernels)
    for make in generator.graphs():
        make()
    text = torch.zeros(_TEXT, dtype=torch.long)
    speech = torch.zeros(positions - _TEXT - 2, dtype=torch.long)
    for seed in range(slots):
        generator.add(Request(text, text[:0], speech, seed))
    while len(generator.advance()) < slots:
        pass
    torch.cuda.synchronize()
    began = time.perf_counter()
    for _ in range(_STEPS):
        generator.advance()
    torch.cuda.synchronize()
    return (time.perf_counter() - began) / _STEPS


@torch.inference_mode()
def apart(llm: Llm, exact: Llm, slots: int, positions: int) -> tuple[float, float]:
    """How far the scores by PyTorch and by kernels are from those in float32, where each slot is at a position of its
    own: the norm of the difference by that of the scores."""
    caches = [each.cache(slots, positions) for each in (exact, llm, llm)]
    caches[1].layers.normal_()
    for cache in (caches[0], caches[2]):
        cache.layers.copy_(caches[1].layers)
    tokens = torch.arange(slots, device="cuda")
    at = (tokens + 1) * positions // slots - 1
    expected = exact.decode(tokens, at, caches[0])
    scores = llm.decode(tokens, at, caches[1]).float(), FusedDecoder(llm, caches[2], Kernels()).step(tokens, at)
    by_torch, by_kernels = (float((each - expected).norm() / expected.norm()) for each in scores)
    return by_torch, by_kernels


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--positions", type=int, default=1024)


def measure(options: argparse.Namespace, results: Results) -> None:
    llm = untrained(Llm(Config().llm)).requires_grad_(False).to("cuda", torch.bfloat16)
    exact = copy.deepcopy(llm).float()
    for slots in _SLOTS:
        slow, fast = (seconds_a_step(llm, slots, options.positions, kernels) for kernels in (None, Kernels()))
        theirs, ours = apart(llm, exact, slots, options.positions)
        results.add(
            f"{slots} slots",
            PyTorch=ms(slow, ".3f"),
            kernels=ms(fast, ".3f"),
            PyTorch_from_float32=distance(theirs),
            kernels_from_float32=distance(ours),
        )


BENCHMARK = Benchmark(measure, needs="a card", arguments=arguments)


if __name__ == "__main__":
    BENCHMARK.run()
