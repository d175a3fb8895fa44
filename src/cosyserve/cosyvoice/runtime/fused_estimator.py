"""The estimator by Triton's kernels: all Euler steps of a batch of chunks, in the pages and slots of a `FlowBatch`.

It computes what `Flow.move` does, in 5 kernels for a transformer, 2 for a residual block, 1 for each other convolution
and 1 for the end of a step. Activations are (rows · frames, channels): the channels of a frame lie side by side.
"""

from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor, nn

from cosyserve.cosyvoice.kernels.causal_conv import Conv, Residual, Tails, causal_conv
from cosyserve.cosyvoice.kernels.euler_step import euler_step
from cosyserve.cosyvoice.kernels.linear_residual import linear_residual
from cosyserve.cosyvoice.kernels.norm_linear import Append, Norm, norm_linear
from cosyserve.cosyvoice.kernels.paged_attention import PageTable, paged_attention
from cosyserve.cosyvoice.model.config import MELS
from cosyserve.cosyvoice.model.flow import Flow
from cosyserve.cosyvoice.runtime.flow_memory import CHUNK, ROWS, BatchRows, FlowMemory

Linear = tuple[Tensor, Tensor]  # weight (N, K) and bias (N,)


@dataclass(frozen=True)
class _Convolution:
    layer: nn.Module  # whose tails it reads and leaves
    conv: Conv
    norm: Norm | None = None  # with Mish behind it


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
    first: _Convolution
    times: Tensor  # what the time of each Euler step adds behind it, (steps, C)
    second: _Convolution
    branch: Linear
    transformers: list[_Transformer]
    last: _Convolution | None  # but for the middle


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
            self.final = _convolution(estimator.final_block)
            self.project = estimator.final_proj.weight.squeeze(2), estimator.final_proj.bias
        self.durations, self.guidance = [duration for _, duration in flow.times()], flow.guidance


@dataclass(frozen=True)
class Activations:
    """What lies between the kernels, for so many frames of all rows together."""

    input: Tensor
    joined: Tensor
    """What the way up begins with: the middle's output, beside that of the way down."""
    even: Tensor
    odd: Tensor
    between: Tensor
    query: Tensor
    found: Tensor
    hidden: Tensor

    @classmethod
    def of(cls, weights: FusedWeights, frames: int) -> "Activations":
        some, channels = weights.down.transformers[0], weights.project[0].shape[1]
        inner = some.out[0].shape[1]
        columns = (4 * MELS, 2 * channels, channels, channels, channels, inner, inner, 4 * channels)
        return cls(*(some.qkv.new_zeros(frames, each) for each in columns))

    def first(self, frames: int) -> "Activations":
        """The same memory, for fewer frames."""
        return Activations(*(getattr(self, each.name)[:frames] for each in fields(self)))


class FusedEstimator:
    """For the rows of one batch. Not to be used from two threads."""

    def __init__(self, weights: FusedWeights, activations: Activations, memory: FlowMemory, rows: BatchRows) -> None:
        self._weights, self._acts = weights, activations.first(len(rows.page) * CHUNK)
        self._steps = [_Step(weights, self._acts, memory, rows, step) for step in range(len(weights.durations))]

    def prepare(self) -> None:
        """The kernels read the rows themselves."""

    def move(self, noise: Tensor, mean: Tensor, speaker: Tensor, prompt: Tensor) -> Tensor:
        """The mel (B, 80, 50); `noise`, `mean` and `prompt` are like it, `speaker` is (B, 80)."""
        x = noise.transpose(1, 2).contiguous()
        conditions = torch.cat((mean, speaker[..., None].expand_as(mean), prompt), dim=1).transpose(1, 2)
        rows = torch.cat((x.to(mean.dtype), conditions), dim=2)[:, None].repeat(1, ROWS, 1, 1)
        rows[:, 1, :, MELS:] = 0  # without the conditions
        self._acts.input.copy_(rows.flatten(0, 2))
        for step, duration in zip(self._steps, self._weights.durations, strict=True):
            h = step.estimate()
            euler_step(h, *self._weights.project, x, self._acts.input, duration, self._weights.guidance)
        return x.transpose(1, 2)


@dataclass(frozen=True)
class _Step:
    """One pass of the estimator."""

    weights: FusedWeights
    acts: Activations
    memory: FlowMemory
    rows: BatchRows
    number: int

    def estimate(self) -> Tensor:
        """What the last projection makes the flow of, (R · frames, C)."""
        weights, acts = self.weights, self.acts
        middle, skip = acts.joined.chunk(2, dim=1)
        self._stage(weights.down, acts.input, skip, acts.even)
        x, other = acts.even, acts.odd
        for stage in weights.middle[:-1]:
            self._stage(stage, x, other)
            x, other = other, x
        self._stage(weights.middle[-1], x, middle)
        self._stage(weights.up, acts.joined, acts.even, acts.odd)
        self._convolve(weights.final, acts.odd, acts.even)
        return acts.even

    def _stage(self, stage: _Stage, x: Tensor, out: Tensor, convolved: Tensor | None = None) -> None:
        """`x` through a residual block and transformers into `out`, and what comes of that into `convolved`."""
        self._convolve(stage.first, x, self.acts.between, time=stage.times[self.number])
        self._convolve(stage.second, self.acts.between, out, residual=Residual(x, *stage.branch))
        for transformer in stage.transformers:
            self._transform(transformer, out)
        if stage.last is not None and convolved is not None:
            self._convolve(stage.last, out, convolved)

    def _convolve(
        self,
        convolution: _Convolution,
        x: Tensor,
        out: Tensor,
        time: Tensor | None = None,
        residual: Residual | None = None,
    ) -> None:
        kept = self.memory.tails(convolution.layer, self.number).flatten(1)
        tails = Tails(kept, self.rows.read, self.memory.left)
        causal_conv(x, convolution.conv, tails, out, convolution.norm, time, residual)

    def _transform(self, layer: _Transformer, x: Tensor) -> None:
        acts, past = self.acts, self.memory.past(layer.attention, self.number)
        table = PageTable(self.rows.pages, self.rows.filled, self.rows.padding)
        norm_linear(x, layer.norm, layer.qkv, acts.query, append=Append(past, self.rows.page))
        paged_attention(acts.query, past, table, acts.found, layer.heads)
        linear_residual(acts.found, *layer.out, x)
        norm_linear(x, layer.norm_ff, layer.wide[0], acts.hidden, layer.wide[1], gelu=True)
        linear_residual(acts.hidden, *layer.narrow, x)


def _stage(stage: Any, times: Tensor) -> _Stage:
    residual, transformers, *last = stage
    return _Stage(
        _convolution(residual.block1),
        residual.mlp(times),
        _convolution(residual.block2),
        (residual.res_conv.weight.squeeze(2), residual.res_conv.bias),
        [_transformer(each) for each in transformers],
        _Convolution(last[0], _conv(last[0])) if last else None,
    )


def _convolution(block: Any) -> _Convolution:
    layer, norm = block.block["0"], block.block["2"]
    return _Convolution(layer, _conv(layer), _norm(norm))


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
