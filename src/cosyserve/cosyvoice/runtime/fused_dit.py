"""CosyVoice3's estimator by Triton's kernels and cuBLAS's products: all Euler steps of a batch of chunks, in the pages
and slots of a `FlowBatch`.

It computes what `DitFlow.move` does. Rows are 1024 wide, so that a product is best by itself; the kernels are what lies
between them, 5 for a transformer and 4 products. Activations are (rows · frames, channels).
"""

from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from cosyserve.cosyvoice.kernels.causal_conv import Conv, Tails
from cosyserve.cosyvoice.kernels.kernels import Kernels
from cosyserve.cosyvoice.kernels.norm_linear import Append, Norm
from cosyserve.cosyvoice.kernels.paged_attention import PageTable, parts_for
from cosyserve.cosyvoice.kernels.split import Parts
from cosyserve.cosyvoice.kernels.turn_append import Turns
from cosyserve.cosyvoice.model.config import MELS, NOISE_FRAMES
from cosyserve.cosyvoice.model.dit import EPSILON, Times
from cosyserve.cosyvoice.model.flow import DitFlow
from cosyserve.cosyvoice.runtime.flow_memory import CHUNK, ROWS, BatchRows, FlowMemory
from cosyserve.cosyvoice.runtime.fused_batch import Convolution, FusedBatch, Linear


@dataclass(frozen=True)
class _Transformer:
    attention: nn.Module  # whose pages it reads and writes
    qkv: Linear
    out: Linear
    wide: Linear
    narrow: Linear


@dataclass(frozen=True)
class _Modulated:
    """What the time of an Euler step makes of a transformer."""

    norm: Norm
    gate: Tensor
    norm_ff: Norm
    gate_ff: Tensor


@dataclass(frozen=True)
class _Step:
    transformers: list[_Modulated]
    norm: Norm  # behind all of them


class DitWeights:
    """The estimator as its kernels read it."""

    def __init__(self, flow: DitFlow) -> None:
        flow.fuse()
        dit: Any = flow.estimator
        with torch.inference_mode():
            self.steps = [_step(flow.clock(begin)) for begin, _ in flow.times()]
            self.turns: tuple[Tensor, Tensor] = dit.rotary_embed(0, NOISE_FRAMES)
        self.given = _linear(dit.input_embed.proj)
        positions = dit.input_embed.conv_pos_embed
        self.first, self.second = _convolution(positions.conv1), _convolution(positions.conv2)
        self.transformers = [_transformer(each) for each in dit.transformer_blocks]
        self.project = _linear(dit.proj_out)
        self.heads: int = dit.transformer_blocks[0].attn.heads


@dataclass(frozen=True)
class Activations:
    """What lies between the kernels, for so many frames of all rows together."""

    given: Tensor
    x: Tensor
    normed: Tensor
    convolved: Tensor
    attended: Tensor
    found: Tensor
    query: Tensor
    qkv: Tensor
    hidden: Tensor

    @classmethod
    def of(cls, weights: DitWeights, frames: int) -> "Activations":
        some = weights.transformers[0]
        (inner, width), wide = some.qkv[0].shape, len(some.wide[0])
        columns = (4 * MELS, width, width, width, inner // 3, width, inner // 3, inner, wide)
        return cls(*(some.qkv[0].new_zeros(frames, each) for each in columns))

    def beginning(self, frames: int) -> "Activations":
        """The same memory, for fewer frames."""
        return Activations(*(getattr(self, each.name)[:frames] for each in fields(self)))


class FusedDit:
    """Makes what moves the rows of a batch, for batches of up to `width` chunks. Not to be used from two threads."""

    def __init__(self, flow: DitFlow, memory: FlowMemory, width: int, span: int, kernels: Kernels) -> None:
        self._flow, self._memory, self._kernels = flow, memory, kernels
        self._weights = DitWeights(flow)
        self._acts = Activations.of(self._weights, ROWS * width * CHUNK)
        heads = self._weights.heads
        dim = self._acts.query.shape[1] // heads
        self._parts = parts_for(ROWS * width, span, CHUNK, heads, dim, memory.like.device)

    def __call__(self, rows: BatchRows) -> "DitBatch":
        acts = self._acts.beginning(len(rows.page) * CHUNK)
        return DitBatch(self._flow, self._weights, acts, self._parts, self._memory, rows, self._kernels)


class DitBatch(FusedBatch):
    def __init__(
        self,
        flow: DitFlow,
        weights: DitWeights,
        acts: Activations,
        parts: Parts,
        memory: FlowMemory,
        rows: BatchRows,
        kernels: Kernels,
    ) -> None:
        super().__init__(flow, rows, acts.given, weights.project, kernels)
        self._weights, self._acts, self._parts = weights, acts, parts
        self._memory, self._rows, self._by = memory, rows, kernels

    def conditions(self, mean: Tensor, speaker: Tensor, prompt: Tensor) -> tuple[Tensor, ...]:
        return prompt, mean, speaker

    def estimate(self, number: int) -> Tensor:
        weights, acts, step = self._weights, self._acts, self._weights.steps[number]
        _product(acts.given, weights.given, acts.normed)
        self._convolve(weights.first, number, acts.normed, acts.convolved)
        self._convolve(weights.second, number, acts.convolved, acts.x, acts.normed)
        norms = [*(each.norm for each in step.transformers[1:]), step.norm]  # each behind the transformer before it
        self._by.gated_norm(acts.x, step.transformers[0].norm, acts.normed)
        for layer, modulated, following in zip(weights.transformers, step.transformers, norms, strict=True):
            self._attend(layer, number)
            self._by.gated_norm(acts.x, modulated.norm_ff, acts.normed, acts.found, modulated.gate)
            _product(acts.normed, layer.wide, acts.hidden)
            _product(F.gelu(acts.hidden, approximate="tanh"), layer.narrow, acts.found)
            self._by.gated_norm(acts.x, following, acts.normed, acts.found, modulated.gate_ff)
        return acts.normed

    def _attend(self, layer: _Transformer, number: int) -> None:
        """Attention over the normalised frames, into `found`."""
        acts, rows = self._acts, self._rows
        past = self._memory.past(layer.attention, number)
        _product(acts.normed, layer.qkv, acts.qkv)
        turns = Turns(*self._weights.turns, begin=rows.begin)
        self._by.turn_append(acts.qkv, turns, acts.query, Append(past, rows.page))
        table = PageTable(rows.pages, rows.filled, rows.padding)
        self._by.paged_attention(acts.query, past, table, acts.attended, self._weights.heads, self._parts)
        _product(acts.attended, layer.out, acts.found)

    def _convolve(
        self, convolution: Convolution, number: int, x: Tensor, out: Tensor, residual: Tensor | None = None
    ) -> None:
        kept = self._memory.tails(convolution.layer, number).flatten(1)
        self._by.group_conv(x, convolution.conv, Tails(kept, self._rows.read, self._memory.left), out, residual)


def _product(x: Tensor, linear: Linear, out: Tensor) -> None:
    weight, bias = linear
    torch.addmm(bias, x, weight.t(), out=out)


def _step(times: Times) -> _Step:
    scale, shift = times[-1]
    return _Step([_modulated(each) for each in times[:-1]], _norm(scale, shift))


def _modulated(time: tuple[Tensor, ...]) -> _Modulated:
    shift, scale, gate, shift_ff, scale_ff, gate_ff = time
    return _Modulated(
        _norm(scale, shift), gate.flatten().contiguous(), _norm(scale_ff, shift_ff), gate_ff.flatten().contiguous()
    )


def _norm(scale: Tensor, shift: Tensor) -> Norm:
    return Norm((1 + scale).flatten().contiguous(), shift.flatten().contiguous(), EPSILON)


def _convolution(layer: Any) -> Convolution:
    return Convolution(layer, Conv(layer[0].weight.permute(2, 0, 1).contiguous(), layer[0].bias))


def _transformer(layer: Any) -> _Transformer:
    attention, wide, narrow = layer.attn, layer.ff.ff["0"][0], layer.ff.ff["2"]
    return _Transformer(attention, attention.fused, _linear(attention.to_out[0]), _linear(wide), _linear(narrow))


def _linear(layer: Any) -> Linear:
    return layer.weight, layer.bias
