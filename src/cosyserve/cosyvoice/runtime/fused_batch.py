"""All Euler steps of a batch by Triton's kernels, whichever estimator they make."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from cosyserve.cosyvoice.kernels.causal_conv import Conv
from cosyserve.cosyvoice.kernels.kernels import Kernels
from cosyserve.cosyvoice.model.config import MELS
from cosyserve.cosyvoice.model.flow import Solver
from cosyserve.cosyvoice.runtime.flow_memory import CHUNK, ROWS, BatchRows
from cosyserve.cosyvoice.runtime.graphs import Make

Linear = tuple[Tensor, Tensor]  # weight (N, K) and bias (N,)


@dataclass(frozen=True)
class Convolution:
    layer: nn.Module  # whose tails it reads and leaves
    conv: Conv


class FusedBatch(ABC):
    """The rows of one batch. Not to be used from two threads."""

    def __init__(self, flow: Solver, rows: BatchRows, given: Tensor, project: Linear, kernels: Kernels) -> None:
        """`given` (rows · frames, 4 · 80) is the estimator's input, `project` its last layer."""
        self._durations, self._guidance = [duration for _, duration in flow.times()], flow.guidance
        self._given, self._project, self._kernels = given, project, kernels
        self._x = given.new_zeros(len(rows.page) // ROWS, CHUNK, MELS, dtype=torch.float32)

    def prepare(self) -> None:  # noqa: B027 - there is nothing to do
        """The kernels read the rows themselves."""

    def moves(self, noise: Tensor, mean: Tensor, speaker: Tensor, prompt: Tensor, mel: Tensor) -> Sequence[Make]:
        """Its beginning, each Euler step, and its end."""
        steps = [partial(self._step, number) for number in range(len(self._durations))]
        begin = partial(self._begin, noise, mean, speaker, prompt)
        return [begin, *steps, lambda: mel.copy_(self._x.transpose(1, 2))]

    def _begin(self, noise: Tensor, mean: Tensor, speaker: Tensor, prompt: Tensor) -> None:
        self._x.copy_(noise.transpose(1, 2))
        conditions = self.conditions(mean, speaker[..., None].expand_as(mean), prompt)
        given = torch.cat((self._x.to(mean.dtype), torch.cat(conditions, dim=1).transpose(1, 2)), dim=2)
        rows = given[:, None].repeat(1, ROWS, 1, 1)
        rows[:, 1, :, MELS:] = 0  # without the conditions
        self._given.copy_(rows.flatten(0, 2))

    def _step(self, number: int) -> None:
        h = self.estimate(number)
        duration = self._durations[number]
        self._kernels.euler_step(h, *self._project, self._x, self._given, duration, self._guidance)

    @abstractmethod
    def conditions(self, mean: Tensor, speaker: Tensor, prompt: Tensor) -> tuple[Tensor, ...]:
        """All three, (B, 80, 50) each, in the order in which the estimator was trained with them."""

    @abstractmethod
    def estimate(self, number: int) -> Tensor:
        """What the last layer makes the flow of, (rows · frames, C), in that Euler step."""
