"""Weights that need no file: every tensor of a model is drawn from a seed made of its module's name and its key.

The reference outputs were computed by the public implementation after it had been filled in this very way, so the
numbers here (which noise, which gains) are part of the references and not a choice.
"""

import math
import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from cosyserve.cosyvoice.model.causal_hift import CausalHift
from cosyserve.cosyvoice.model.config import (
    Config,
    Config3,
    DitConfig,
    DitFlowConfig,
    EncoderConfig,
    EstimatorConfig,
    FlowConfig,
    HiftConfig,
    LlmConfig,
)
from cosyserve.cosyvoice.model.flow import DitFlow, Flow
from cosyserve.cosyvoice.model.hift import Hift
from cosyserve.cosyvoice.model.qwen2 import Llm

FULL = Config()
TINY = Config(
    llm=LlmConfig(hidden=64, feed_forward=128, layers=2, heads=4, kv_heads=2, vocabulary=1024),
    flow=FlowConfig(
        encoder=EncoderConfig(feed_forward=128, blocks=1),
        estimator=EstimatorConfig(channels=32, head_dim=16, heads=2, transformers=1, mid_blocks=2),
    ),
    hift=HiftConfig(channels=64, f0_channels=64),
)
# Fewer layers and steps, for what holds with any: no reference was computed with them.
_FLOW = replace(TINY.flow, encoder=replace(TINY.flow.encoder, up_blocks=2), steps=3)
SHALLOW = replace(TINY, flow=_FLOW)
M = TypeVar("M", bound=nn.Module)
SIZES = {"tiny": TINY, "full": FULL}
_CALM = 0.02  # of the pitch of CosyVoice3's
_QUIET = 0.25  # of CosyVoice3's last layer, without which most of the waveform would be clipped
SIZES3 = {
    "tiny3": Config3(
        llm=LlmConfig(hidden=64, feed_forward=128, layers=2, heads=4, kv_heads=2, speech_rows=6761, marks=False),
        flow=DitFlowConfig(DitConfig(width=64, blocks=3, heads=4, head_dim=16, look_ahead=64)),
        hift=TINY.hift,
    ),
    "full3": Config3(),
}


SHALLOW3 = replace(
    SIZES3["tiny3"],
    flow=replace(SIZES3["tiny3"].flow, estimator=replace(SIZES3["tiny3"].flow.estimator, blocks=2), steps=3),
)


@dataclass(frozen=True)
class Model:
    llm: Llm
    flow: Flow
    hift: Hift


@dataclass(frozen=True)
class Model3:
    llm: Llm
    flow: DitFlow
    hift: CausalHift


class _Undrawn(TorchFunctionMode):
    """Modules are made without weights of their own, because `fill` replaces them."""

    def __torch_function__(
        self, function: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        given = kwargs or {}
        if "tensor" in given and getattr(function, "__module__", "") == nn.init.__name__:
            return given["tensor"]
        return function(*args, **given)


def seeded3(config: Config3) -> Model3:
    with _Undrawn():
        model = Model3(Llm(config.llm), DitFlow(config.flow), CausalHift(config.hift))
    _fill(model)
    with torch.no_grad():
        model.hift.conv_post.parametrizations.weight.original0.mul_(_QUIET)
    return model


def calm3(config: Config3) -> Model3:
    """The same with a pitch that is not as steep, which would make a thousand times as much of what is rounded."""
    model = seeded3(config)
    with torch.no_grad():
        model.hift.f0_predictor.classifier.weight.mul_(_CALM)
    return model


def seeded(config: Config) -> Model:
    with _Undrawn():
        model = Model(Llm(config.llm), Flow(config.flow), Hift(config.hift))
    _fill(model)
    return model


def _fill(model: Model | Model3) -> None:
    fill("llm", model.llm)
    fill("flow", model.flow)
    fill("hift", model.hift)


@torch.no_grad()
def fill(name: str, module: M) -> M:
    filled = set()
    for key, tensor in module.state_dict().items():
        if key.endswith("inv_freq"):  # a constant
            continue
        if (tensor.data_ptr(), tensor.shape) not in filled:  # a tied one has the value of its first key
            tensor.copy_(_value(name, key, tensor))
            filled.add((tensor.data_ptr(), tensor.shape))
    return module.eval()


def _value(name: str, key: str, like: Tensor) -> Tensor:
    generator = torch.Generator().manual_seed(zlib.crc32(f"{name}/{key}".encode()))
    noise = torch.randn(tuple(like.shape), generator=generator)
    leaf = key.rsplit(".", 1)[-1]
    if leaf == "bias":
        value = 0.02 * noise
        return value + 150 if (name, key) == ("hift", "f0_predictor.classifier.bias") else value  # Hz: voiced
    if leaf == "original0":
        return 1 + 0.05 * noise
    if leaf == "original1":
        return noise
    if leaf == "alpha":
        return 1 + 0.1 * noise
    if like.dim() == 1:
        return 1 + 0.05 * noise
    if like.dim() == 2 and leaf == "weight" and ("embedding" in key or "embed_tokens" in key):
        return (0.05 if name == "llm" else 1.0) * noise
    value = noise / math.sqrt(max(1, math.prod(like.shape[1:])))
    return 40 * value if key.endswith("f0_predictor.classifier.weight") else value
