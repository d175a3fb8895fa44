"""What is computed piece by piece equals what is computed at once, however the pieces fall."""

from functools import cache
from itertools import pairwise

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from cosyserve.cosyvoice2.config import CHUNK_TOKENS, FRAMES_PER_TOKEN, LOOK_AHEAD, SAMPLES_PER_FRAME, SPEECH_TOKENS
from cosyserve.cosyvoice2.flow import FlowStream
from cosyserve.cosyvoice2.hift import HiftStream
from tests.cosyvoice2.seeded import TINY, Model, seeded


@cache
def model() -> Model:
    return seeded(TINY)


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


@settings(max_examples=25, deadline=None)
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
    assert max(sizes) <= 2 * (100 + CHUNK_TOKENS) * a_token  # the buffer's size, whatever comes
    assert error(bounded[:, :, :150], exact[:, :, :150]) <= 1e-4  # nothing is forgotten yet
    assert 1e-6 < error(bounded, exact) < 0.5


@settings(max_examples=25, deadline=None)
@given(frames=st.integers(1, 120), cuts=st.lists(st.integers(0, 120), max_size=5), seed=st.integers(0, 1000))
def test_the_vocoder_in_pieces_says_the_same_length_and_is_repeatable(frames: int, cuts: list[int], seed: int) -> None:
    mel = torch.randn(1, 80, frames, generator=torch.Generator().manual_seed(seed))
    bounds = sorted({0, frames, *(cut for cut in cuts if cut < frames)})
    pieces = [mel[:, :, begin:end] for begin, end in pairwise(bounds)]

    def spoken() -> Tensor:
        stream = HiftStream(model().hift, seed)
        waves = [stream.push(piece, final=number == len(pieces) - 1) for number, piece in enumerate(pieces)]
        return torch.cat(waves)

    wave = spoken()
    assert wave.shape == (frames * SAMPLES_PER_FRAME,)
    assert torch.equal(spoken(), wave)
    assert wave.abs().max() < 0.991
