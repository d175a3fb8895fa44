"""All kernels on a card, beside PyTorch's, in one run:  python -m bench.kernels [--alone] [--model cosyvoice3]

For each at its released sizes: how far it and PyTorch are from float32, of the same rounded numbers, and the
microseconds of both in a graph. Then a chunk of the whole flow for several widths, by kernels and by PyTorch: the
milliseconds, and how far the mel is from that of float32. Weights are random. Needs a card and PyTorch with its Triton.
"""

import argparse
import gc
from collections.abc import Callable

import torch
from torch import Tensor

from bench.common.benchmark import Benchmark
from bench.common.results import Figure, Results, distance, ms, ratio
from cosyserve.cosyvoice.kernels.kernels import REFERENCES, Kernel, Kernels
from cosyserve.cosyvoice.kernels.self_test import Case, cases, vocoder_cases
from cosyserve.cosyvoice.kernels.self_test import distance as case_distance
from cosyserve.cosyvoice.model.config import MELS, RELEASED, Sizes
from cosyserve.cosyvoice.model.flow import Chunk, Solver
from cosyserve.cosyvoice.model.loading import flow_of
from cosyserve.cosyvoice.model.untrained import untrained
from cosyserve.cosyvoice.runtime.flow_batch import FlowBatch, FlowState, Work
from cosyserve.cosyvoice.runtime.flow_memory import CHUNK
from cosyserve.cosyvoice.runtime.graphs import captured, new_pool
from cosyserve.cosyvoice.runtime.memory import pages_behind
from cosyserve.measure.timing import seconds_of

_WIDTHS = (1, 4, 16)
_PAST_FRAMES = 750  # 15 s
_CALLS, _REPEATS = 20, 100


def microseconds(case: Case, kernel: Kernel) -> float:
    """Of one call among many in a graph."""

    def work() -> None:
        for _ in range(_REPEATS):
            kernel(*case.arguments, **case.options)

    graph = captured(work)
    return 1e6 * _best(graph.replay) / _REPEATS


def _apart(ours: Tensor, reference: Tensor) -> float:
    return float((ours.float() - reference.float()).norm() / reference.float().norm())


def _best(work: Callable[[], object]) -> float:
    return seconds_of(work, _CALLS)[0]


def chunks(batch: FlowBatch, width: int) -> tuple[list[FlowState], Callable[[], list[Tensor]]]:
    """Streams with a whole past, and what moves the next chunk of each."""
    states = [batch.begin() for _ in range(width)]
    like = batch.memory.like

    def move() -> list[Tensor]:
        works = []
        for number, state in enumerate(states):
            generator = torch.Generator().manual_seed(1000 * number + state.moved)
            mean = torch.randn(1, MELS, CHUNK, generator=generator).to(like)
            works.append(Work(state, Chunk(CHUNK * state.moved, mean, mean, 0), mean[:, :, 0]))
        return [moved.mel for moved in batch.move(works)]

    return states, move


def whole(flow: Solver, kernels: Kernels | None) -> dict[int, tuple[float, Tensor]]:
    """Seconds for a chunk of so many streams that have their whole past, and the mels of all their chunks."""
    frames, most = _PAST_FRAMES, max(_WIDTHS)
    batch = FlowBatch(flow, most, most * pages_behind(frames), frames, new_pool(), kernels)
    found = {}
    for width in _WIDTHS:
        states, move = chunks(batch, width)
        mels = [torch.cat(move()) for _ in range(pages_behind(frames))]
        found[width] = _best(move), torch.cat(mels)
        for state in states:
            batch.end(state)
    del batch, move, states  # and with them the pages, which the next one needs
    gc.collect()
    torch.cuda.empty_cache()
    return found


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--alone", action="store_true", help="each kernel in bfloat16, and nothing else")
    parser.add_argument("--model", choices=RELEASED, default="cosyvoice2")


@torch.inference_mode()
def measure(options: argparse.Namespace, results: Results) -> None:
    torch.manual_seed(0)
    for dtype in (torch.bfloat16,) if options.alone else (torch.float32, torch.bfloat16):
        each_kernel(RELEASED[options.model], dtype, results)
    if not options.alone:
        whole_flow(RELEASED[options.model], results)


def each_kernel(sizes: Sizes, dtype: torch.dtype, results: Results) -> None:
    like = torch.zeros(1, device="cuda", dtype=dtype)
    for case in (*cases(sizes, like), *vocoder_cases(sizes, like, streams=max(_WIDTHS))):
        ours, reference = getattr(Kernels(), case.kernel), getattr(REFERENCES, case.kernel)
        # Before the calls that follow add up: what a case writes to would grow.
        apart, torch_apart = case_distance(case, ours), case_distance(case, reference)
        mine, torchs = microseconds(case, ours), microseconds(case, reference)
        results.add(
            f"{case.kernel}, {case.size}, {str(dtype).removeprefix('torch.')}",
            kernel=Figure(mine, "µs", ".1f"),
            PyTorch=Figure(torchs, "µs", ".1f"),
            ratio=ratio(mine / torchs),
            from_float32=distance(apart),
            PyTorch_from_float32=distance(torch_apart),
        )


def whole_flow(sizes: Sizes, results: Results) -> None:
    flow = untrained(flow_of(sizes)).to("cuda")
    exact, near = whole(flow, None), whole(flow, Kernels())
    halved = flow.to(torch.bfloat16)
    halved.noise = halved.noise.float()
    eager, fused = whole(halved, None), whole(halved, Kernels())
    for width in _WIDTHS:
        reference, single = exact[width][1], near[width][1]
        (before, theirs), (after, ours) = eager[width], fused[width]
        results.add(
            f"a chunk of {width} streams",
            kernels=ms(after),
            PyTorch=ms(before),
            ratio=ratio(after / before),
            mel_float32_by_kernels=distance(_apart(single, reference)),
            mel_bfloat16=distance(_apart(ours, reference)),
            mel_bfloat16_by_PyTorch=distance(_apart(theirs, reference)),
        )


BENCHMARK = Benchmark(measure, needs="a card", arguments=arguments)


if __name__ == "__main__":
    BENCHMARK.run()
