"""CosyVoice3's networks, whatever the hops: its flow goes on where it was, and its vocoder changes nothing it gave."""

import copy

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cosyserve.cosyvoice.model.causal_hift import MEL_AHEAD, PITCH_AHEAD
from cosyserve.cosyvoice.model.config import FRAMES_PER_TOKEN, MELS, SAMPLES_PER_FRAME
from cosyserve.cosyvoice.model.fixed_noise import FixedNoise, noise_generator
from cosyserve.cosyvoice.model.flow import FlowStream
from tests.cosyvoice.seeded import SIZES3, Model3, seeded3
from tests.parity import GOLDEN

HELD = PITCH_AHEAD + MEL_AHEAD + 1  # frames that the vocoder keeps until more come


@pytest.fixture(scope="module")
def model() -> Model3:
    return seeded3(SIZES3["tiny3"])


@pytest.mark.parametrize("size", SIZES3)
def test_the_source_s_noise_is_what_upstream_s_constructors_leave(size: str) -> None:
    expected = np.load(GOLDEN / f"{size}_native_noise.npz")
    head = torch.from_numpy(expected["sine_waves_head"])
    noise = FixedNoise(SIZES3[size].hift, SIZES3[size].flow.speaker).frames(0, 1, torch.device("cpu"))
    assert torch.equal(noise[None, : head.shape[1]], head)


@given(begin=st.integers(0, 400), counts=st.lists(st.integers(1, 700), min_size=1, max_size=4))
@settings(max_examples=5)
def test_the_source_s_noise_is_the_same_in_whatever_pieces_it_is_taken(begin: int, counts: list[int]) -> None:
    config, device = SIZES3["tiny3"], torch.device("cpu")
    expected = torch.rand(begin + sum(counts), 480, 9, generator=noise_generator(config.hift, config.flow.speaker))
    noise = FixedNoise(config.hift, config.flow.speaker)
    for count in counts:
        assert torch.equal(noise.frames(begin, count, device), expected[begin : begin + count].flatten(0, 1))
        begin += count


@settings(max_examples=10)
@given(seed=st.integers(0, 99), recorded=st.integers(1, 70), hops=st.lists(st.integers(0, 40), min_size=1, max_size=5))
def test_a_stream_is_the_whole_under_the_chunk_mask(model: Model3, seed: int, recorded: int, hops: list[int]) -> None:
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.randint(0, 6561, (1, sum(hops) + 1), generator=generator)
    recording = torch.randint(0, 6561, (1, recorded), generator=generator)
    mel = torch.randn(1, FRAMES_PER_TOKEN * recorded, MELS, generator=generator)
    speaker = torch.randn(1, 192, generator=generator)
    whole = model.flow.mel(tokens, recording, mel, speaker, chunked=True)
    stream = FlowStream(model.flow, recording, mel, speaker)
    parts = [stream.push(each) for each in tokens.split([*hops, 1], dim=1)]
    streamed = torch.cat([*parts, stream.push(tokens[:, :0], final=True)], dim=2)
    torch.testing.assert_close(streamed, whole, rtol=1e-4, atol=1e-4)


def test_a_fused_flow_moves_as_before_also_in_another_type(model: Model3) -> None:
    tokens = torch.arange(40)[None]
    given = torch.arange(10)[None], torch.randn(1, 20, MELS), torch.randn(1, 192)
    flow = copy.deepcopy(model.flow)
    expected = flow.mel(tokens, *given)
    weights = sum(each.numel() for each in flow.parameters())
    flow.fuse()
    assert sum(each.numel() for each in flow.parameters()) < 0.95 * weights
    torch.testing.assert_close(flow.mel(tokens, *given), expected, rtol=1e-4, atol=1e-4)
    exact = flow.double()  # its products are made anew, its times are not
    exact.fuse()
    noise = exact.noise.float()
    exact.noise = noise
    torch.testing.assert_close(exact.mel(tokens, *given).float(), expected, rtol=1e-4, atol=1e-4)


@settings(max_examples=5)
@given(seed=st.integers(0, 99), frames=st.integers(HELD + 1, 60), more=st.integers(1, 30))
@torch.inference_mode()
def test_what_the_vocoder_gives_before_the_end_is_what_the_whole_has(
    model: Model3, seed: int, frames: int, more: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    mel = torch.randn(1, MELS, frames + more, generator=generator)
    noise = torch.rand(1, SAMPLES_PER_FRAME * (frames + more), 9, generator=generator)
    begun = model.hift.speak(mel[:, :, :frames], noise, final=False)
    assert begun.shape[1] == SAMPLES_PER_FRAME * (frames - HELD)
    torch.testing.assert_close(begun, model.hift.speak(mel, noise)[:, : begun.shape[1]], rtol=1e-4, atol=1e-4)
