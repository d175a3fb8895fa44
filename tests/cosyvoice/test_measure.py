import os
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cosyserve.cosyvoice.frontend.edition import COSYVOICE3, EDITIONS, Edition
from cosyserve.cosyvoice.model.config import Sizes
from cosyserve.cosyvoice.model.flow import Flow
from cosyserve.cosyvoice.model.untrained import untrained
from cosyserve.measure.flow_steps import flow_steps
from cosyserve.measure.model import growth, model
from cosyserve.speech.voices import BUNDLED
from cosyserve.store.manifest import model_of
from tests.cosyvoice.folder import SMALL3
from tests.cosyvoice.seeded import SHALLOW3, TINY


@given(exponent=st.floats(0.1, 3), scale=st.floats(0.01, 100))
def test_the_exponent_of_a_power_is_found(exponent: float, scale: float) -> None:
    assert growth({length: scale * length**exponent for length in (10, 20, 40)}) == pytest.approx(exponent)


def test_an_untrained_model_is_the_same_each_time_and_makes_finite_sound() -> None:
    one, two = (untrained(Flow(TINY.flow)) for _ in range(2))
    for key, tensor in one.state_dict().items():
        assert torch.equal(tensor, two.state_dict()[key]), key
    prompt = torch.zeros(1, 5, dtype=torch.long)
    mel = one.mel(torch.ones(1, 30, dtype=torch.long), prompt, torch.randn(1, 10, 80), torch.randn(1, 192))
    assert mel.isfinite().all()
    assert 0.1 < mel.std() < 100


@pytest.mark.parametrize("fetched", [True, False], ids=["the model that was fetched", "untrained weights"])
@pytest.mark.parametrize("edition", EDITIONS.values(), ids=EDITIONS)
def test_fewer_steps_are_measured_beside_ten(request: pytest.FixtureRequest, fetched: bool, edition: Edition) -> None:
    models = request.getfixturevalue("models3" if edition is COSYVOICE3 else "models")
    model = models / model_of(edition.model).folder
    if not fetched:  # the released size takes minutes
        small = SMALL3 if edition is COSYVOICE3 else TINY
        edition = replace(edition, sizes=lambda: small)  # type: ignore[arg-type]
    measured = dict(flow_steps(model if fetched else None, next(BUNDLED.iterdir()), edition))
    assert measured["weights"] == (str(model) if fetched else "untrained")
    strays = [measured[f"{steps} steps: relative deviation of the mel"] for steps in (10, 8, 6, 5)]
    assert strays[0] == 0
    assert all(0 < float(str(each)) < 1 for each in strays[1:])
    assert measured["10 steps: processor time, of that of 10"] == 1


@pytest.mark.parametrize("sizes", [TINY, SHALLOW3], ids=["CosyVoice2", "CosyVoice3"])
def test_either_generation_is_measured(sizes: Sizes) -> None:
    measured = dict(model([torch.bfloat16], sizes))
    assert measured["seconds of audio"] == pytest.approx(4.12)
    for name in ("real-time factor, offline", "real-time factor, streamed"):
        assert float(str(measured[name])) > 0
        assert float(str(measured[f"bfloat16: {name}"])) > 0


def test_a_bench_of_a_device_that_is_not_there_says_so() -> None:
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(
        [sys.executable, "-m", "cosyserve", "bench", "gpu"], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 2
    assert "CS-GPU-101" in done.stderr
    assert done.stdout == ""


def test_the_commands_measure_the_model_that_is_named() -> None:
    for command in ("model", "streaming", "flow-steps", "gpu"):
        told = subprocess.run(
            [sys.executable, "-m", "cosyserve", "bench", command, "--model", "cosyvoice9"],
            capture_output=True,
            text=True,
        )
        assert told.returncode == 2
        assert "cosyvoice3" in told.stderr
