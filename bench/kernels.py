"""The flow's kernels on a card, beside PyTorch's, in one run:  python -m bench.kernels

For each kernel at its released size: how far it is from its reference in float32, of the same rounded numbers, and the
microseconds of both in a graph. Then a chunk of the whole flow for several widths, by kernels and by PyTorch: the
milliseconds, and how far the mel is from that of float32. Weights are random. Needs a card and PyTorch with its Triton.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from cosyserve.cosyvoice.kernels import causal_conv, euler_step, linear_residual, norm_linear, paged_attention
from cosyserve.cosyvoice.kernels.causal_conv import Conv, Residual, Tails
from cosyserve.cosyvoice.kernels.norm_linear import Norm
from cosyserve.cosyvoice.kernels.paged_attention import PageTable
from cosyserve.cosyvoice.model.config import MELS, Config
from cosyserve.cosyvoice.model.flow import Chunk, Flow
from cosyserve.cosyvoice.model.untrained import untrained
from cosyserve.cosyvoice.runtime.flow_batch import FlowBatch, FlowState, Work
from cosyserve.cosyvoice.runtime.flow_memory import CHUNK
from cosyserve.cosyvoice.runtime.graphs import captured, new_pool
from cosyserve.cosyvoice.runtime.memory import pages_behind
from cosyserve.measure.timing import seconds_of

_WIDTHS = (1, 4, 16)
_PAST_FRAMES = 750  # 15 s
_CALLS, _REPEATS = 20, 100
_CHANNELS, _HEADS, _INNER = 256, 8, 512


@dataclass(frozen=True)
class Case:
    """A kernel with its arguments: `run` writes into `out`, `reference` is asked for in any type."""

    name: str
    run: Callable[[], object]
    out: Tensor
    reference: Callable[[Callable[[Tensor], Tensor]], Tensor]


def random(*shape: int, scale: float = 1.0, dtype: torch.dtype = torch.bfloat16) -> Tensor:
    return (scale * torch.randn(*shape, device="cuda")).to(dtype)


def weights(rows: int, width: int, dtype: torch.dtype) -> Tensor:
    return random(rows, width, scale=width**-0.5, dtype=dtype)


def cases(width: int, dtype: torch.dtype) -> list[Case]:
    rows, frames = 2 * width, 2 * width * CHUNK

    def tensor(*shape: int, scale: float = 1.0) -> Tensor:
        return random(*shape, scale=scale, dtype=dtype)

    x, wide = tensor(frames, _CHANNELS), tensor(frames, 4 * _CHANNELS)
    shift = tensor(_CHANNELS, scale=0.1)
    norm = Norm(1 + tensor(_CHANNELS, scale=0.1), shift, 1e-5)
    first, added = weights(4 * _CHANNELS, _CHANNELS, dtype), tensor(4 * _CHANNELS)
    second, bias = weights(_CHANNELS, 4 * _CHANNELS, dtype), tensor(_CHANNELS)
    hidden, summed = torch.empty_like(wide), torch.zeros_like(x)
    query, found = tensor(frames, _INNER), tensor(frames, _INNER)
    span = pages_behind(_PAST_FRAMES)
    past = tensor(rows * span, CHUNK, 2 * _INNER)
    pages = torch.randperm(rows * span, device="cuda").view(rows, span)
    filled = torch.full((rows,), span * CHUNK, device="cuda")
    table = PageTable(pages, filled, torch.tensor([[span * CHUNK - 5, span * CHUNK]] * rows, device="cuda"))
    conv = Conv(tensor(3, _CHANNELS, _CHANNELS, scale=(3 * _CHANNELS) ** -0.5), bias)
    tails = Tails(tensor(2 * rows, 2 * _CHANNELS), torch.arange(rows, device="cuda"), left=rows)
    residual = Residual(tensor(frames, 320), weights(_CHANNELS, 320, dtype), bias)
    convolved = torch.empty_like(x)
    moved, following = random(width, CHUNK, MELS, dtype=torch.float32), tensor(frames, 4 * MELS)
    project, offset = weights(MELS, _CHANNELS, dtype), tensor(MELS)
    before = moved.clone()

    def stepped() -> None:
        moved.copy_(before)
        euler_step.euler_step(x, project, offset, moved, following, 0.1, 0.7)

    def summed_up() -> None:
        summed.zero_()
        linear_residual.linear_residual(wide, second, bias, summed)

    def norm_in(like: Callable[[Tensor], Tensor]) -> Norm:
        return Norm(like(norm.weight), like(shift), norm.epsilon)

    return [
        Case(
            "norm, linear, GELU",
            lambda: norm_linear.norm_linear(x, norm, first, hidden, added, gelu=True),
            hidden,
            lambda like: norm_linear.reference(like(x), norm_in(like), like(first), like(added), gelu=True),
        ),
        Case(
            "linear, residual",
            summed_up,
            summed,
            lambda like: linear_residual.reference(like(wide), like(second), like(bias), like(torch.zeros_like(x))),
        ),
        Case(
            f"attention, {_PAST_FRAMES} frames",
            lambda: paged_attention.paged_attention(query, past, table, found, _HEADS),
            found,
            lambda like: paged_attention.reference(like(query), like(past), table, _HEADS),
        ),
        Case(
            "convolution, norm, Mish, residual",
            lambda: causal_conv.causal_conv(x, conv, tails, convolved, norm, residual=residual),
            convolved,
            lambda like: causal_conv.reference(
                like(x),
                Conv(like(conv.weight), like(conv.bias)),
                replace(tails, kept=like(tails.kept)),
                norm_in(like),
                residual=Residual(like(residual.x), like(residual.weight), like(residual.bias)),
            )[0],
        ),
        Case(
            "Euler step",
            stepped,
            moved,
            lambda like: euler_step.reference(like(x), like(project), like(offset), before, 0.1, 0.7),
        ),
    ]


def distance(ours: Tensor, reference: Tensor) -> float:
    return float((ours.float() - reference.float()).norm() / reference.float().norm())


def microseconds(work: Callable[[], object]) -> float:
    """Of one call among many in a graph."""
    graph = captured(lambda: [work() for _ in range(_REPEATS)])
    return 1e6 * _best(graph.replay) / _REPEATS


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


def whole(flow: Flow, *, kernels: bool) -> dict[int, tuple[float, Tensor]]:
    """Seconds for a chunk of so many streams that have their whole past, and the mels of all their chunks."""
    frames, most = _PAST_FRAMES, max(_WIDTHS)
    batch = FlowBatch(flow, most, most * pages_behind(frames), frames, new_pool(), kernels=kernels)
    found = {}
    for width in _WIDTHS:
        states, move = chunks(batch, width)
        mels = [torch.cat(move()) for _ in range(pages_behind(frames))]
        found[width] = _best(move), torch.cat(mels)
        for state in states:
            batch.end(state)
    return found


@torch.inference_mode()
def main() -> None:
    torch.manual_seed(0)
    print(f"{torch.cuda.get_device_name()}, PyTorch {torch.__version__}")
    for dtype in (torch.float32, torch.bfloat16):
        for width in (1, 16):
            for case in cases(width, dtype):
                case.run()
                away = distance(case.out, case.reference(lambda tensor: tensor.float()))
                mine, torchs = microseconds(case.run), microseconds(lambda case=case: case.reference(lambda t: t))  # type: ignore[misc]
                name = f"{case.name}, {width} streams, {str(dtype).removeprefix('torch.')}"
                print(f"{name}: {away:.1e} from float32; {mine:.1f} µs, PyTorch {torchs:.1f}, {mine / torchs:.2f}")
    flow = untrained(Flow(Config().flow)).to("cuda")
    exact = whole(flow, kernels=False)
    near = whole(flow, kernels=True)
    halved = flow.to(torch.bfloat16)
    halved.noise = halved.noise.float()
    eager, fused = whole(halved, kernels=False), whole(halved, kernels=True)
    for width in _WIDTHS:
        reference, single = exact[width][1], near[width][1]
        (before, theirs), (after, ours) = eager[width], fused[width]
        print(f"a chunk of {width} streams: {1000 * after:.1f} ms, PyTorch {1000 * before:.1f}, {after / before:.2f}")
        print(
            f"  its mel: float32 by kernels {distance(single, reference):.1e} from float32, "
            f"bfloat16 {distance(ours, reference):.1e}, PyTorch's {distance(theirs, reference):.1e}"
        )


if __name__ == "__main__":
    main()
