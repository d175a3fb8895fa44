"""The estimator by Triton's kernels: all Euler steps of a batch of chunks, in the pages and slots of a `FlowBatch`.

It computes what `Flow.move` does, in 5 kernels for a transformer, 4 for a residual block, 1 or 2 for each other
convolution and 1 for the end of a step. Activations are (rows · frames, channels).
"""

from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor, nn

from cosyserve.cosyvoice.kernels.causal_conv import Conv, Tails
from cosyserve.cosyvoice.kernels.kernels import Kernels
from cosyserve.cosyvoice.kernels.norm_linear import Append, Norm
from cosyserve.cosyvoice.kernels.norm_mish import Branch
from cosyserve.cosyvoice.kernels.paged_attention import PageTable, parts_for
from cosyserve.cosyvoice.kernels.split import Parts
from cosyserve.cosyvoice.model.config import MELS
from cosyserve.cosyvoice.model.flow import Flow
from cosyserve.cosyvoice.runtime.flow_memory import CHUNK, ROWS, BatchRows, FlowMemory
from cosyserve.cosyvoice.runtime.fused_batch import Convolution, FusedBatch, Linear


@dataclass(frozen=True)
class _Block:
    """A convolution with its norm and Mish."""

    conv: Convolution
    norm: Norm


@dataclass(frozen=True)
class _Transformer:
    attention: nn.Module  # whose pages it reads and writes
    heads: int
    norm: Norm
    qkv: Tensor
    out: Linear
    norm_ff: Norm
    wide: Linear
    narrow: Linear


@dataclass(frozen=True)
class _Stage:
    first: _Block
    times: Tensor  # what the time of each Euler step adds behind it, (steps, C)
    second: _Block
    branch: Linear
    transformers: list[_Transformer]
    last: Convolution | None  # except in the middle


class FusedWeights:
    """The estimator as its kernels read it."""

    def __init__(self, flow: Flow) -> None:
        flow.fuse()
        estimator: Any = flow.estimator
        with torch.inference_mode():
            device = flow.encoder_proj.weight.device
            times = torch.cat([estimator.time_mlp(torch.tensor(begin, device=device)) for begin, _ in flow.times()])
            (down,), (up,) = estimator.down_blocks, estimator.up_blocks
            self.down, self.up = _stage(down, times), _stage(up, times)
            self.middle = [_stage(stage, times) for stage in estimator.mid_blocks]
            self.final = _block(estimator.final_block)
            self.project = estimator.final_proj.weight.squeeze(2), estimator.final_proj.bias


@dataclass(frozen=True)
class Activations:
    """What lies between the kernels, for so many frames of all rows together."""

    input: Tensor
    joined: Tensor
    """What the way up begins with: the middle's output, beside that of the way down."""
    even: Tensor
    odd: Tensor
    convolved: Tensor
    between: Tensor
    """The two convolutions of a residual block."""
    query: Tensor
    found: Tensor
    hidden: Tensor

    @classmethod
    def of(cls, weights: FusedWeights, frames: int) -> "Activations":
        some, channels = weights.down.transformers[0], weights.project[0].shape[1]
        inner = some.out[0].shape[1]
        columns = (4 * MELS, 2 * channels, channels, channels, channels, channels, inner, inner, 4 * channels)
        return cls(*(some.qkv.new_zeros(frames, each) for each in columns))

    def beginning(self, frames: int) -> "Activations":
        """The same memory, for fewer frames."""
        return Activations(*(getattr(self, each.name)[:frames] for each in fields(self)))


class FusedEstimator:
    """Makes what moves the rows of a batch, for batches of up to `width` chunks with up to `span` pages each. Not to be
    used from two threads."""

    def __init__(self, flow: Flow, memory: FlowMemory, width: int, span: int, kernels: Kernels) -> None:
        self._flow, self._memory, self._kernels = flow, memory, kernels
        self._weights = FusedWeights(flow)
        self._acts = Activations.of(self._weights, ROWS * width * CHUNK)
        some = self._weights.down.transformers[0]
        dim = some.out[0].shape[1] // some.heads
        self._parts = parts_for(ROWS * width, span, CHUNK, some.heads, dim, memory.like.device)

    def __call__(self, rows: BatchRows) -> "UnetBatch":
        acts = self._acts.beginning(len(rows.page) * CHUNK)
        return UnetBatch(self._flow, _Work(self._weights, acts, self._parts, self._memory, rows, self._kernels))


@dataclass(frozen=True)
class _Work:
    """What all Euler steps of a batch share."""

    weights: FusedWeights
    acts: Activations
    parts: Parts
    memory: FlowMemory
    rows: BatchRows
    kernels: Kernels


class UnetBatch(FusedBatch):
    def __init__(self, flow: Flow, work: _Work) -> None:
        super().__init__(flow, work.rows, work.acts.input, work.weights.project, work.kernels)
        self._work = work

    def conditions(self, mean: Tensor, speaker: Tensor, prompt: Tensor) -> tuple[Tensor, ...]:
        return mean, speaker, prompt

    def estimate(self, number: int) -> Tensor:
        return _Step(self._work, number).estimate()


@dataclass(frozen=True)
class _Step:
    """One pass of the estimator."""

    work: _Work
    number: int

    def estimate(self) -> Tensor:
        """What the last projection makes the flow of, (R · frames, C)."""
        weights, acts = self.work.weights, self.work.acts
        middle, skip = acts.joined.chunk(2, dim=1)
        self._stage(weights.down, acts.input, skip, acts.even)
        x, other = acts.even, acts.odd
        for stage in weights.middle[:-1]:
            self._stage(stage, x, other)
            x, other = other, x
        self._stage(weights.middle[-1], x, middle)
        self._stage(weights.up, acts.joined, acts.even, acts.odd)
        self._convolve(weights.final.conv, acts.odd, acts.convolved)
        self.work.kernels.norm_mish(acts.convolved, weights.final.norm, acts.even)
        return acts.even

    def _stage(self, stage: _Stage, x: Tensor, out: Tensor, convolved: Tensor | None = None) -> None:
        """`x` through a residual block and transformers into `out`, and what comes of that into `convolved`."""
        y, between, by = self.work.acts.convolved, self.work.acts.between, self.work.kernels
        self._convolve(stage.first.conv, x, y)
        by.norm_mish(y, stage.first.norm, between, time=stage.times[self.number])
        self._convolve(stage.second.conv, between, y)
        by.norm_mish(y, stage.second.norm, out, branch=Branch(x, *stage.branch))
        for transformer in stage.transformers:
            self._transform(transformer, out)
        if stage.last is not None and convolved is not None:
            self._convolve(stage.last, out, convolved)

    def _convolve(self, convolution: Convolution, x: Tensor, out: Tensor) -> None:
        memory = self.work.memory
        tails = Tails(memory.tails(convolution.layer, self.number).flatten(1), self.work.rows.read, memory.left)
        self.work.kernels.causal_conv(x, convolution.conv, tails, out)

    def _transform(self, layer: _Transformer, x: Tensor) -> None:
        acts, rows, by = self.work.acts, self.work.rows, self.work.kernels
        past = self.work.memory.past(layer.attention, self.number)
        table = PageTable(rows.pages, rows.filled, rows.padding)
        by.norm_linear(x, layer.norm, layer.qkv, acts.query, append=Append(past, rows.page))
        by.paged_attention(acts.query, past, table, acts.found, layer.heads, self.work.parts)
        by.linear_residual(acts.found, *layer.out, x)
        by.norm_linear(x, layer.norm_ff, layer.wide[0], acts.hidden, layer.wide[1], gelu=True)
        by.linear_residual(acts.hidden, *layer.narrow, x)


def _stage(stage: Any, times: Tensor) -> _Stage:
    residual, transformers, *last = stage
    return _Stage(
        _block(residual.block1),
        residual.mlp(times),
        _block(residual.block2),
        (residual.res_conv.weight.squeeze(2), residual.res_conv.bias),
        [_transformer(each) for each in transformers],
        Convolution(last[0], _conv(last[0])) if last else None,
    )


def _block(block: Any) -> _Block:
    layer, norm = block.block["0"], block.block["2"]
    return _Block(Convolution(layer, _conv(layer)), _norm(norm))


def _conv(layer: Any) -> Conv:
    return Conv(layer.weight.permute(2, 0, 1).contiguous(), layer.bias)


def _transformer(transformer: Any) -> _Transformer:
    attention, wide, narrow = transformer.attn1, transformer.ff.net["0"].proj, transformer.ff.net["2"]
    return _Transformer(
        attention,
        attention.heads,
        _norm(transformer.norm1),
        attention.fused,
        _linear(attention.to_out[0]),
        _norm(transformer.norm3),
        _linear(wide),
        _linear(narrow),
    )


def _linear(layer: Any) -> Linear:
    return layer.weight, layer.bias


def _norm(layer: Any) -> Norm:
    return Norm(layer.weight, layer.bias, layer.eps)
