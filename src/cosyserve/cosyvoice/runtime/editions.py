"""What of the runtime is made for which edition: the one place that asks."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol, cast

import torch
from torch import Tensor

from cosyserve.cosyvoice.model.causal_hift import CausalHift
from cosyserve.cosyvoice.model.flow import DitFlow, Flow, Solver
from cosyserve.cosyvoice.model.hift import Filtered, Hift, ResidualBlock, Snake, Snaked
from cosyserve.cosyvoice.model.vocoder import Vocoder
from cosyserve.cosyvoice.runtime.encoder_batch import EncoderBatch
from cosyserve.cosyvoice.runtime.flow_memory import BatchRows, FlowMemory
from cosyserve.cosyvoice.runtime.graphs import Make, Pool
from cosyserve.cosyvoice.runtime.look_ahead_batch import LookAheadBatch
from cosyserve.cosyvoice.runtime.mean_batch import MeanBatch
from cosyserve.cosyvoice.runtime.memory import ENCODER_TOKENS

if TYPE_CHECKING:
    from cosyserve.cosyvoice.kernels.kernels import Kernels


class Estimator(Protocol):
    """All Euler steps of the chunks of a batch, whoever computes them."""

    def prepare(self) -> None:
        """The rows have changed."""
        ...

    def moves(self, noise: Tensor, mean: Tensor, speaker: Tensor, prompt: Tensor, mel: Tensor) -> Sequence[Make]:
        """What makes the mel (B, 80, 50) of whatever is in the others then, one after the other; `noise`, `mean` and
        `prompt` are like it, `speaker` is (B, 80). Each is a graph of its own: while one runs the next is launched."""
        ...


MakeEstimator = Callable[[BatchRows], Estimator]


def mean_batch(flow: Solver, slots: int, pool: Pool | None) -> MeanBatch:
    """What makes the mean of so many utterances."""
    if isinstance(flow, DitFlow):
        return LookAheadBatch(flow, slots, pool)
    assert isinstance(flow, Flow)  # noqa: S101 - there are two
    return EncoderBatch(flow, slots, ENCODER_TOKENS, pool)


def fused_estimator(flow: Solver, memory: FlowMemory, width: int, span: int, kernels: "Kernels") -> MakeEstimator:
    """What moves batches of up to `width` chunks with up to `span` pages each by Triton's kernels."""
    # Triton is imported where a card is, and only then.
    from cosyserve.cosyvoice.runtime.fused_dit import FusedDit
    from cosyserve.cosyvoice.runtime.fused_estimator import FusedEstimator

    if isinstance(flow, DitFlow):
        return FusedDit(flow, memory, width, span, kernels)
    assert isinstance(flow, Flow)  # noqa: S101 - there are two
    return FusedEstimator(flow, memory, width, span, kernels)


def use_kernels(vocoder: Vocoder, kernels: "Kernels | None") -> None:
    """Have Triton's make the convolutions of CosyVoice2's vocoder, unless it is exact, as they round to TF32; and the
    activations of CosyVoice3's."""
    if isinstance(vocoder, Hift):
        vocoder.fused = None if kernels is None or vocoder.exact else _fused(vocoder, kernels)
    elif isinstance(vocoder, CausalHift) and kernels is not None:
        vocoder.snake = _snaked_by(kernels)
        for block in (*vocoder.source_resblocks, *vocoder.resblocks):
            cast("ResidualBlock", block).leave_biases()


def _fused(hift: Hift, kernels: "Kernels") -> Filtered:
    from cosyserve.cosyvoice.runtime.fused_hift import FusedHift

    return FusedHift(hift, kernels)


def _snaked_by(kernels: "Kernels") -> Snaked:
    def snaked(snake: Snake, x: Tensor, inside: Tensor | None, new: Tensor | None) -> tuple[Tensor, Tensor]:
        moved = None if new is None else torch.empty_like(x)
        out = torch.empty_like(x)
        kernels.snake(x, snake.alpha, out, inside, new, snake.bias, moved)
        return x if moved is None else moved, out

    return snaked
