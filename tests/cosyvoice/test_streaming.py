"""What is computed piece by piece equals what is computed at once, however the pieces fall."""

import math
from functools import cache
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from cosyserve.cosyvoice.frontend.features import mel
from cosyserve.cosyvoice.model.config import (
    CHUNK_TOKENS,
    FRAMES_PER_TOKEN,
    LOOK_AHEAD,
    SAMPLES_PER_FRAME,
    SPEECH_TOKENS,
)
from cosyserve.cosyvoice.model.flow import FlowStream
from cosyserve.cosyvoice.model.hift import Hift
from cosyserve.cosyvoice.model.hift_stream import FIRST_HELD, HELD, HiftStream
from cosyserve.cosyvoice.model.past import Bound, Past
from cosyserve.speech import recording
from tests.cosyvoice.seeded import SHALLOW, Model, fill, seeded


@cache
def model() -> Model:
    return seeded(SHALLOW)


def voice(seed: int, tokens: int) -> tuple[Tensor, Tensor, Tensor]:
    """A prompt's tokens, mel and speaker."""
    generator = torch.Generator().manual_seed(seed)
    mel = torch.randn(1, tokens * FRAMES_PER_TOKEN, 80, generator=generator)
    return speech(seed, tokens), mel, torch.randn(1, 192, generator=generator)


def speech(seed: int, tokens: int) -> Tensor:
    return torch.randint(0, SPEECH_TOKENS, (1, tokens), generator=torch.Generator().manual_seed(seed))


def error(ours: Tensor, expected: Tensor) -> float:
    return float((ours - expected).norm() / expected.norm())


PIECES = st.lists(st.integers(0, 60), min_size=1, max_size=8)


@settings(max_examples=25)
@given(prompt=st.integers(0, 90), pieces=PIECES, seed=st.integers(0, 2**31))
def test_the_flow_in_any_pieces_equals_the_flow_at_once(prompt: int, pieces: list[int], seed: int) -> None:
    tokens = speech(seed, max(1, sum(pieces)))
    prompt_tokens, mel, embedding = voice(seed, prompt)
    whole = model().flow.mel(tokens, prompt_tokens, mel, embedding, chunked=True)
    stream = FlowStream(model().flow, prompt_tokens, mel, embedding)
    parts = [stream.push(piece) for piece in tokens.split([*pieces, tokens.shape[1] - sum(pieces)], dim=1)]
    parts.append(stream.push(tokens[:, :0], final=True))
    streamed = torch.cat(parts, dim=2)
    assert streamed.shape == whole.shape
    assert error(streamed, whole) <= 1e-4


def test_a_chunk_comes_as_soon_as_its_look_ahead_is_there() -> None:
    prompt = 10
    stream = FlowStream(model().flow, *voice(1, prompt))
    needed = CHUNK_TOKENS - prompt + LOOK_AHEAD
    tokens = speech(1, 100)
    assert stream.push(tokens[:, : needed - 1]).shape[2] == 0
    assert stream.push(tokens[:, needed - 1 : needed]).shape[2] == (CHUNK_TOKENS - prompt) * FRAMES_PER_TOKEN


def test_a_bounded_past_holds_no_more_and_stays_near() -> None:
    tokens = speech(2, 400)
    arguments = voice(2, 25)
    exact = model().flow.mel(tokens, *arguments, chunked=True)
    stream = FlowStream(model().flow, *arguments, keep_tokens=100)
    parts, sizes = [], []
    for piece in tokens.split(CHUNK_TOKENS, dim=1):
        parts.append(stream.push(piece))
        sizes.append(stream.bytes)
    bounded = torch.cat([*parts, stream.push(tokens[:, :0], final=True)], dim=2)
    a_token = sizes[1] / (2 * CHUNK_TOKENS)
    assert (
        max(sizes) <= 0.75 * 425 * a_token
    )  # what still grows is the encoder's, in a model as small as this half of all
    assert error(bounded[:, :, :150], exact[:, :, :150]) <= 1e-4  # nothing is forgotten yet
    assert 1e-6 < error(bounded, exact) < 0.5


@given(sizes=st.lists(st.integers(1, 30), min_size=1, max_size=20), first=st.integers(0, 20), recent=st.integers(1, 40))
def test_a_bounded_past_keeps_the_recording_and_what_came_last(sizes: list[int], first: int, recent: int) -> None:
    layer, past = torch.nn.Identity(), Past(Bound(first, recent))
    came = 0
    for size in [first, *sizes] if first else sizes:
        new = torch.arange(came, came + size, dtype=torch.float32).reshape(1, 1, size, 1)
        past = past.fork()
        seen = past.seen(layer, size, 1)
        keys, values = past.attended(layer, new, -new, 1)
        came += size
        held = keys.flatten().tolist()
        assert torch.equal(values, -keys)
        assert len(held) == seen <= first + recent * 1.5 + size
        begun = min(first, came)
        assert held[:begun] == list(range(begun))
        assert held[begun:] == list(range(came - len(held) + begun, came))
        assert len(held) >= min(came, first + recent)


@cache
def vocoder(device: str) -> Hift:
    """One that clips nothing, since what is clipped is equal however wrong it is."""
    hift = fill("hift", Hift(SHALLOW.hift)).to(device)
    with torch.no_grad():
        hift.conv_post.parametrizations.weight.original0 *= 0.25
    return hift


def mel_of(frames: int, seed: int, device: str) -> Tensor:
    return torch.randn(1, 80, frames, generator=torch.Generator().manual_seed(seed)).to(device)


@cache
def mel_of_a_recording() -> Tensor:
    """(1, 80, T) of the voice that comes with the project: 6.7 s."""
    file = next((Path(recording.__file__).parent / "recordings").glob("*.flac"))
    return mel(torch.from_numpy(recording.read(file.read_bytes()))).transpose(1, 2)


def vocoded(mel: Tensor, sizes: list[int], seed: int, first_held: int = HELD) -> Tensor:
    """`mel` in hops of those sizes and of what is left."""
    stream = HiftStream(vocoder(mel.device.type), seed, first_held)
    *hops, last = mel.split([*sizes, mel.shape[2] - sum(sizes)], dim=2)
    return torch.cat([*map(stream.push, hops), stream.push(last, final=True)])


DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]


@pytest.mark.parametrize("device", DEVICES)
@settings(max_examples=15)
@given(sizes=st.lists(st.integers(0, 60), max_size=5), left=st.integers(1, 60), seed=st.integers(0, 1000))
def test_the_vocoder_in_any_hops_equals_the_vocoder_at_once(
    device: str, sizes: list[int], left: int, seed: int
) -> None:
    mel = mel_of(sum(sizes) + left, seed, device)
    with torch.inference_mode():
        hift = vocoder(device)
        whole = hift.decode(mel, hift.source(mel, hift.noise(seed)))[0]
    streamed = vocoded(mel, sizes, seed)
    assert streamed.shape == whole.shape
    assert error(streamed, whole) <= 1e-4
    assert torch.equal(vocoded(mel, sizes, seed), streamed)


def test_phases_are_as_exact_after_half_a_minute_as_at_the_start() -> None:
    mel = mel_of(1500, 0, "cpu")
    whole, streamed = vocoded(mel, [], 1), vocoded(mel, [200] * 7, 1)
    assert error(streamed[-100_000:], whole[-100_000:]) <= 1e-4


def test_a_first_hop_that_is_soon_differs_at_its_seam_alone() -> None:
    mel = mel_of(120, 0, "cpu")
    whole, streamed = vocoded(mel, [], 1), vocoded(mel, [20, 50], 1, first_held=FIRST_HELD)
    given = 20 - FIRST_HELD
    seam = slice((given - 8) * SAMPLES_PER_FRAME, (given + 2) * SAMPLES_PER_FRAME)
    assert 1e-3 < error(streamed[seam], whole[seam]) < 0.1
    streamed[seam] = whole[seam]
    assert error(streamed, whole) <= 1e-4


@settings(max_examples=5)
@given(sizes=st.lists(st.integers(1, 60), max_size=4), seed=st.integers(0, 1000))
def test_of_speech_the_first_hop_and_all_others_change_less_than_a_thousandth(sizes: list[int], seed: int) -> None:
    mel = mel_of_a_recording()
    whole, streamed = vocoded(mel, [], seed), vocoded(mel, [20, *sizes], seed, first_held=FIRST_HELD)
    assert error(streamed, whole) <= 1e-3


def test_all_harmonics_begin_in_phase_whatever_the_seed() -> None:
    hift = vocoder("cpu")
    f0 = torch.tensor([[152.0, 155, 0, 160]])
    sines = hift.m_source.sines(f0, hift.m_source.turns(f0))[0].unflatten(0, (4, SAMPLES_PER_FRAME))
    turns = 152 / 50 * torch.arange(1, 10)  # after the frame with which an utterance begins
    assert torch.allclose(sines[0, 0], 0.1 * (2 * math.pi * turns).sin(), atol=1e-5)
    assert sines.abs().amax((1, 2)).tolist() == pytest.approx([0.1, 0.1, 0, 0.1], abs=1e-3)
    assert error(hift.noise(1).take(7), hift.noise(2).take(7)) > 1


@settings(max_examples=20)
@given(pieces=st.lists(st.integers(0, 30), max_size=8))
def test_noise_is_the_same_in_whatever_pieces_it_is_taken(pieces: list[int]) -> None:
    noise = vocoder("cpu").noise(3)
    taken = torch.cat([noise.take(piece) for piece in pieces] or [noise.take(0)], dim=1)
    assert torch.equal(taken, vocoder("cpu").noise(3).take(sum(pieces)))
    assert taken.shape == (1, sum(pieces) * SAMPLES_PER_FRAME, 9)
