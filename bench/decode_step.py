"""A step of the language model on a card, by PyTorch and by Triton's kernels, each as a graph.

    python -m bench.decode_step [--positions 1024]

For each number of slots, all in use from that position on: milliseconds of a step with its draw, and how far the scores
of one step are from those in float32. Untrained weights of the released size; needs PyTorch, Triton and a card.
"""

import argparse
import copy
import time

import torch

from cosyserve.cosyvoice.kernels.kernels import Kernels
from cosyserve.cosyvoice.model.config import Config
from cosyserve.cosyvoice.model.qwen2 import Llm
from cosyserve.cosyvoice.model.untrained import untrained
from cosyserve.cosyvoice.runtime.fused_decoder import FusedDecoder
from cosyserve.cosyvoice.runtime.generation import Generator, Request

_SLOTS = (1, 4, 16, 32)
_ROOM = 512  # positions behind those where the measurement begins
_TEXT = 200  # ids, so that nobody may stop before 400 steps
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


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--positions", type=int, default=1024)
    positions = parser.parse_args().positions
    llm = untrained(Llm(Config().llm)).requires_grad_(False).to("cuda", torch.bfloat16)
    print(f"{torch.cuda.get_device_name()}, PyTorch {torch.__version__}")
    exact = copy.deepcopy(llm).float()
    print(f"{'slots':>5} {'PyTorch, ms':>12} {'kernels, ms':>12} {'from float32: PyTorch':>22} {'kernels':>8}")
    for slots in _SLOTS:
        slow, fast = (seconds_a_step(llm, slots, positions, kernels) for kernels in (None, Kernels()))
        theirs, ours = apart(llm, exact, slots, positions)
        print(f"{slots:5} {1000 * slow:12.3f} {1000 * fast:12.3f} {theirs:22.1e} {ours:8.1e}", flush=True)


if __name__ == "__main__":
    main()
