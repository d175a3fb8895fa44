"""The estimator by PyTorch's own kernels: all Euler steps of a batch of chunks, in the pages of a `FlowBatch`."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from cosyserve.cosyvoice.model.flow import Solver
from cosyserve.cosyvoice.model.past import Past
from cosyserve.cosyvoice.runtime.flow_memory import CHUNK, BatchRows, FlowMemory
from cosyserve.cosyvoice.runtime.graphs import Make


class EagerEstimator:
    def __init__(self, flow: Solver, memory: FlowMemory, rows: BatchRows) -> None:
        self._flow, self._rows = flow, rows
        count, span = rows.pages.shape
        # Added to scores: 0 for what may be attended to. Written out for every query, as the kernel wants it.
        self._bias = memory.like.new_zeros(count, 1, CHUNK, span * CHUNK)
        self._pasts: list[Past] = [_StepPast(memory, rows, self._bias, step) for step in range(flow.steps)]

    def prepare(self) -> None:
        """The rows have changed."""
        at = torch.arange(self._bias.shape[3], device=self._bias.device)
        begin, end = self._rows.padding.split(1, dim=1)
        hidden = (at >= self._rows.filled[:, None]) | ((at >= begin) & (at < end))
        self._bias.zero_().masked_fill_(hidden[:, None, None], -torch.inf)

    def moves(self, noise: Tensor, mean: Tensor, speaker: Tensor, prompt: Tensor, mel: Tensor) -> Sequence[Make]:
        """All at once."""
        return [lambda: mel.copy_(self._flow.move(noise, mean, speaker, prompt, self._pasts))]


class _StepPast(Past):
    """The past of one Euler step."""

    def __init__(self, memory: FlowMemory, rows: BatchRows, bias: Tensor, step: int) -> None:
        super().__init__()
        self._memory, self._rows, self._bias, self._step = memory, rows, bias, step

    def before(self, layer: nn.Module, x: Tensor, width: int) -> Tensor:
        tails, left = self._memory.tails(layer, self._step).transpose(1, 2), self._memory.left
        tails[left : left + len(x)] = x[..., x.shape[2] - width :]
        return torch.cat((tails.index_select(0, self._rows.read), x), dim=2)

    def attend(self, layer: nn.Module, query: Tensor, new: Tensor, mask: Tensor | None, rate: int) -> Tensor:
        past = self._memory.past(layer, self._step)
        past.index_copy_(0, self._rows.page, new.flatten(2))
        behind = past.index_select(0, self._rows.pages.flatten()).unflatten(0, (len(new), -1)).flatten(1, 2)
        keys, values = behind.unflatten(2, new.shape[2:]).permute(2, 0, 3, 1, 4)
        return F.scaled_dot_product_attention(query, keys, values, self._bias)

    def begins(self, layers: nn.Module, new: int) -> Tensor:
        return self._rows.begin[:, None]

    def mask(self, layers: nn.Module, x: Tensor, chunk: int, rate: int) -> Tensor | None:
        """The same for all heads and layers: `attend` has it."""
        return None
