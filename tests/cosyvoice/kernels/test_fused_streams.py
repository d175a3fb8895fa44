"""Whole streams by what a card computes with: the kernels' references, where the interpreter would take minutes.

Each kernel is held to its reference elsewhere; here the way through them is, with all that pages and slots are for.
"""

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cosyserve.cosyvoice.kernels.kernels import REFERENCES
from cosyserve.cosyvoice.runtime.batched import BatchedToken2Wav
from cosyserve.cosyvoice.runtime.hops import Hops
from cosyserve.cosyvoice.runtime.memory import pages_behind
from tests.cosyvoice.seeded import SHALLOW, SHALLOW3, Model, Model3, calm3, seeded
from tests.cosyvoice.test_token2wav import assert_each_is_the_whole, prompt, tokens_of, wave_of

FRAMES = 600


EDITIONS: list[Callable[[], Model | Model3]] = [lambda: seeded(SHALLOW), lambda: calm3(SHALLOW3)]


@pytest.fixture(scope="module", params=EDITIONS, ids=["CosyVoice2", "CosyVoice3"])
def model(request: pytest.FixtureRequest) -> Model | Model3:
    made: Model | Model3 = request.param()
    return made


def token2wav_of(model: Model | Model3, first: int = 10) -> BatchedToken2Wav:
    pages = 5 * pages_behind(FRAMES)
    model.hift.exact = False  # as in bfloat16
    return BatchedToken2Wav(model.flow, model.hift, Hops(first), 3, pages, FRAMES, kernels=REFERENCES)


@settings(max_examples=5)
@given(
    first=st.integers(1, 25),
    recorded=st.lists(st.integers(0, 80), min_size=2, max_size=2),
    spoken=st.lists(st.integers(1, 110), min_size=3, max_size=3),
)
def test_streams_side_by_side_give_the_chunk_masked_result(
    model: Model | Model3, first: int, recorded: list[int], spoken: list[int]
) -> None:
    assert_each_is_the_whole(token2wav_of(model, first), model, first, recorded, spoken)


@pytest.mark.parametrize("make", EDITIONS, ids=["CosyVoice2", "CosyVoice3"])
def test_the_sound_is_that_of_pytorch_s_path(make: Callable[[], Model | Model3]) -> None:
    """A vocoder that has kernels is another one from then on: CosyVoice3's leaves its biases to them. The products of
    CosyVoice2's are of numbers rounded to TF32, so its waveform is as near as `test_vocoder_kernels` has it."""
    model, spoken, given_prompt = make(), tokens_of(70, 1), prompt(40)
    plain = BatchedToken2Wav(model.flow, model.hift, Hops(), 3, 5 * pages_behind(FRAMES), FRAMES)
    expected = wave_of(plain, plain.stream(given_prompt, 5), spoken)
    token2wav = token2wav_of(model)
    heard = wave_of(token2wav, token2wav.stream(given_prompt, 5), spoken)
    assert heard.shape == expected.shape
    near = 1e-3 if isinstance(model, Model3) else 2e-2
    assert (heard - expected).norm() <= near * expected.norm()
    assert torch.isfinite(heard).all()
