"""What becomes a graph on a card waits for nothing and makes nothing on the host, which no graph could replay."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from cosyserve.cosyvoice.kernels.kernels import REFERENCES, Kernels
from cosyserve.cosyvoice.model.loading import fold_weight_norm
from cosyserve.cosyvoice.runtime.editions import mean_batch
from cosyserve.cosyvoice.runtime.flow_batch import FlowBatch
from cosyserve.cosyvoice.runtime.prefill import KernelPrefill
from cosyserve.cosyvoice.runtime.vocoder import VocoderBatch
from tests.cosyvoice.kernels.test_fused_streams import EDITIONS
from tests.cosyvoice.seeded import Model, Model3

WAITING = ("item", "_local_scalar_dense", "nonzero", "masked_select", "_unique2")


class Capturing(TorchDispatchMode):
    """Refuses what would wait for a device, and tensors that are not made on that of the others."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.name().removeprefix("aten::").split(".")[0] in WAITING:
            raise AssertionError(f"{func.name()} waits")
        made = func(*args, **(kwargs or {}))
        if isinstance(made, torch.Tensor) and made.is_meta:
            raise AssertionError(f"{func.name()} makes a tensor of the host's")
        return made


@contextmanager
def as_captured() -> Iterator[None]:
    """Here both are the processor; but what does not say on which device it is made is made nowhere."""
    with torch.inference_mode(), torch.device("meta"), Capturing(), patch.object(torch.Tensor, "tolist", _waits):
        yield


def _waits(_: torch.Tensor) -> None:
    """PyTorch dispatches nothing for it on a processor."""
    raise AssertionError("tolist waits")


@pytest.fixture(params=EDITIONS, ids=["CosyVoice2", "CosyVoice3"])
def model(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Model | Model3:
    made: Model | Model3 = request.param()
    times = made.flow.times()  # numbers of the host's, which a graph has as constants
    monkeypatch.setattr(made.flow, "times", lambda: times)
    fold_weight_norm(made.hift)
    return made


def run(works: Sequence[Callable[[], object]]) -> None:
    for work in works:
        with as_captured():
            work()


def test_a_wait_and_a_tensor_of_the_host_are_noticed() -> None:
    number = torch.ones(1)
    with pytest.raises(AssertionError, match="waits"), as_captured():
        number.item()
    with pytest.raises(AssertionError, match="waits"), as_captured():
        number.tolist()
    with pytest.raises(AssertionError, match="host"), as_captured():
        number.add_(torch.arange(1))


def test_the_mean(model: Model | Model3) -> None:
    run([mean_batch(model.flow, 3, None).batch(2, 8 if isinstance(model, Model) else 1).step])


@pytest.mark.parametrize("kernels", [None, REFERENCES], ids=["PyTorch", "the kernels' references"])
def test_the_flow(model: Model | Model3, kernels: Kernels | None) -> None:
    batch = FlowBatch(model.flow, 3, 60, 600, None, kernels)._batch(2, 1)
    batch._fill([])
    run(batch._works)


def test_a_prompt(model: Model | Model3) -> None:
    prefill = KernelPrefill(model.llm, 40, 16, None, REFERENCES)
    rows, numbers = torch.zeros(2, 16, model.llm.config.hidden), torch.tensor([[0, 1], [0, 16], [15, 3]])
    run([lambda: prefill._work(rows, numbers)])


@pytest.mark.parametrize("kernels", [None, REFERENCES], ids=["PyTorch", "the kernels' references"])
def test_the_vocoder(model: Model | Model3, kernels: Kernels | None) -> None:
    model.hift.exact = False  # as in bfloat16
    batch = VocoderBatch(model.hift, 4, 20, 50, None, kernels)
    run([batch._batch(frames, 2)._speak for frames in batch._windows])
