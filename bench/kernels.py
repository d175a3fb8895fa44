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

from cosyserve.cosyvoice.kernels.kernels import REFERENCES, Kernel, Kernels
from cosyserve.cosyvoice.kernels.self_test import Case, cases, distance, vocoder_cases
from cosyserve.cosyvoice.model.config import MELS, RELEASED
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


@torch.inference_mode()
def main() -> None:
    torch.manual_seed(0)
    print(f"{torch.cuda.get_device_name()}, PyTorch {torch.__version__}")
    parser = argparse.ArgumentParser()
    parser.add_argument("--alone", action="store_true", help="each kernel in bfloat16, and nothing else")
    parser.add_argument("--model", choices=RELEASED, default="cosyvoice2")
    options = parser.parse_args()
    alone, sizes = options.alone, RELEASED[options.model]
    for dtype in (torch.bfloat16,) if alone else (torch.float32, torch.bfloat16):
        like = torch.zeros(1, device="cuda", dtype=dtype)
        for case in (*cases(sizes, like), *vocoder_cases(sizes, like, streams=max(_WIDTHS))):
            ours, reference = getattr(Kernels(), case.kernel), getattr(REFERENCES, case.kernel)
            name = f"{case.kernel}, {case.size}, {str(dtype).removeprefix('torch.')}"
            print(f"{name}: {distance(case, ours):.1e} from float32, PyTorch {distance(case, reference):.1e};", end=" ")
            mine, torchs = microseconds(case, ours), microseconds(case, reference)
            print(f"{mine:.1f} µs, PyTorch {torchs:.1f}, {mine / torchs:.2f}", flush=True)
    if alone:
        return
    flow = untrained(flow_of(sizes)).to("cuda")
    exact, near = whole(flow, None), whole(flow, Kernels())
    halved = flow.to(torch.bfloat16)
    halved.noise = halved.noise.float()
    eager, fused = whole(halved, None), whole(halved, Kernels())
    for width in _WIDTHS:
        reference, single = exact[width][1], near[width][1]
        (before, theirs), (after, ours) = eager[width], fused[width]
        print(f"a chunk of {width} streams: {1000 * after:.1f} ms, PyTorch {1000 * before:.1f}, {after / before:.2f}")
        print(
            f"  its mel: float32 by kernels {_apart(single, reference):.1e} from float32, "
            f"bfloat16 {_apart(ours, reference):.1e}, PyTorch's {_apart(theirs, reference):.1e}"
        )


if __name__ == "__main__":
    main()
