"""How fast a processor is in bfloat16: some layers of the released size, timed in it and in float32."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

from cosyserve.cosyvoice.model.config import MELS, EstimatorConfig, LlmConfig
from cosyserve.cosyvoice.model.estimator import Estimator
from cosyserve.cosyvoice.model.past import Past
from cosyserve.cosyvoice.model.qwen2 import Llm
from cosyserve.cosyvoice.model.untrained import untrained

_TURNS = 6
_LAYERS, _PLACE = 2, 128  # of the language model: more than a processor's cache holds; and a place amid a sentence
_FRAMES = 50  # a chunk
_TYPES = (torch.float32, torch.bfloat16)


@dataclass(frozen=True)
class Comparison:
    """What bfloat16 takes of float32's time, for a token of the language model and for a call of the estimator."""

    token: float
    flow: float


def compare() -> Comparison:
    """Takes a second or two of one thread, and counts that thread's own time: several would wait for each other, and on
    a busy machine that is most of what a clock would show."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return Comparison(_ratio(_token_in), _ratio(_estimate_in))
    finally:
        torch.set_num_threads(before)


def _ratio(prepared: Callable[[torch.dtype], Callable[[], object]]) -> float:
    works = [prepared(dtype) for dtype in _TYPES]
    took = [[_seconds(work) for work in works] for _ in range(_TURNS)][1:]  # the first time shapes are compiled
    exact, rounded = (min(column) for column in zip(*took, strict=True))
    return rounded / exact


@torch.inference_mode()
def _seconds(work: Callable[[], object]) -> float:
    began = time.thread_time()
    work()
    return time.thread_time() - began


def _token_in(dtype: torch.dtype) -> Callable[[], object]:
    llm = untrained(Llm(LlmConfig(layers=_LAYERS, vocabulary=1))).to(dtype)
    llm.fuse()
    cache, token, place = llm.cache(1, 2 * _PLACE), torch.tensor([0]), torch.tensor([_PLACE])
    return lambda: llm.decode(token, place, cache)


def _estimate_in(dtype: torch.dtype) -> Callable[[], object]:
    estimator = untrained(Estimator(EstimatorConfig(transformers=1, mid_blocks=1))).to(dtype)
    x = torch.ones(2, MELS, _FRAMES, dtype=dtype)
    return lambda: estimator(x, x, torch.tensor(0.3), x[:, :, 0], x, Past())
