"""Each kernel of the language model equals its reference, on small and odd shapes, by Triton's interpreter."""

from dataclasses import fields
from unittest.mock import patch

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from cosyserve.cosyvoice.kernels import decode_attention
from cosyserve.cosyvoice.kernels.draw import draw, reference
from cosyserve.cosyvoice.model.config import SPEECH_TOKENS
from cosyserve.cosyvoice.model.sampling import Draws, Nucleus
from tests.cosyvoice.kernels.test_flow_kernels import SEEDS, TYPES, Random, close
from tests.cosyvoice.kernels.unshrunk import UNSHRUNK

FEW = settings(max_examples=15, phases=UNSHRUNK)
_KEYS = 16  # of a block
_WIDTH = 6564
EDGES = st.sampled_from((0, _KEYS - 1, _KEYS, _KEYS + 1, 2 * _KEYS, 3 * _KEYS - 1, 1000))


class Attended:
    """Slots with something in them, and the tokens that come next."""

    def __init__(self, random: Random, slots: int, kv_heads: int, group: int, dim: int, length: int) -> None:
        self.heads, self.dim = kv_heads * group, dim
        self.kept = random(2, slots, kv_heads, length, dim)
        self.qkv = random(slots, (self.heads + 2 * kv_heads) * dim)
        self.rotary = random(length, 2, dim).float()

    def attend(self, positions: Tensor, splits: int) -> Tensor:
        parts = decode_attention.parts_for(self.kept, self.heads)
        out = torch.empty(len(positions), self.heads * self.dim, dtype=self.kept.dtype)
        with patch.object(decode_attention, "_KEYS", _KEYS):
            decode_attention.decode_attention(self.qkv, self.rotary, positions, self.kept, out, parts, splits)
        assert not parts.arrived.any()
        return out


@FEW
@given(
    seed=SEEDS,
    dtype=TYPES,
    at=st.lists(EDGES | st.integers(0, 70), min_size=1, max_size=3),
    kv_heads=st.integers(1, 2),
    group=st.integers(1, 7),
    dim=st.sampled_from((8, 16, 24)),
    length=st.integers(1, 70),
    splits=st.integers(1, 4),
)
def test_attention_of_the_next_tokens(
    seed: int, dtype: torch.dtype, at: list[int], kv_heads: int, group: int, dim: int, length: int, splits: int
) -> None:
    attended = Attended(Random(seed, dtype), len(at), kv_heads, group, dim, length)
    expected = attended.kept.clone()
    positions = torch.tensor(at)
    found = torch.empty(len(at), attended.heads * dim, dtype=dtype)
    decode_attention.reference(attended.qkv, attended.rotary, positions, expected, found)
    close(attended.attend(positions, splits), found)
    close(attended.kept, expected)
    written = torch.arange(length) == positions.clamp(max=length - 1)[:, None]
    others = ~written[None, :, None, :, None].expand_as(expected)
    assert torch.equal(attended.kept[others], expected[others])


def test_a_free_slot_may_hold_anything() -> None:
    attended = Attended(Random(1, torch.float32), 3, 2, 3, 8, 40)
    expected = attended.attend(torch.tensor([20, 0, 39]), 2)
    attended.qkv[1], attended.kept[:, 1] = 1e3, -1e3
    out = attended.attend(torch.tensor([20, 1000, 39]), 2)
    assert torch.equal(out[::2], expected[::2])


def test_what_lies_beyond_the_position_is_not_read() -> None:
    attended = Attended(Random(1, torch.float32), 1, 1, 2, 8, 40)
    expected = attended.attend(torch.tensor([20]), 3)
    attended.kept[:, :, :, 21:] = torch.nan
    assert torch.equal(attended.attend(torch.tensor([20]), 3), expected)


def copied(draws: Draws) -> Draws:
    return Draws(*(getattr(draws, field.name).clone() for field in fields(draws)))


def some_draws(scores: Tensor, seed: int) -> Draws:
    """Some greedy, some that may not stop yet, and windows that hold much of what is likely."""
    random, slots = torch.Generator().manual_seed(seed), len(scores)

    def integers(high: int) -> Tensor:
        return torch.randint(0, high, (slots,), generator=random)

    temperature = 2 * torch.rand(slots, generator=random) * (integers(6) > 0)
    likely = scores.topk(12, dim=1).indices[:, torch.randperm(12, generator=random)[:10]]
    recent = torch.where(torch.rand(likely.shape, generator=random) < 0.3, likely, -1)
    return Draws(integers(9), integers(4), integers(999), integers(2**63 - 1), integers(999), temperature, recent)


@FEW
@given(seed=SEEDS, slots=st.integers(1, 5), columns=st.integers(30, 300), nucleus=st.sampled_from((3, 25)))
def test_a_draw_of_some_tokens(seed: int, slots: int, columns: int, nucleus: int) -> None:
    """Without tokens that end, as `sample` knows where those of the model begin."""
    same_as_sample(seed, slots, columns, Nucleus(top_k=nucleus))


def test_a_draw_of_all_tokens() -> None:
    same_as_sample(1, 24, _WIDTH, Nucleus())


def same_as_sample(seed: int, slots: int, columns: int, nucleus: Nucleus) -> None:
    scores = torch.randn(slots, columns, generator=torch.Generator().manual_seed(seed)) * 4
    scores[::2, SPEECH_TOKENS:] += 20  # they would be drawn if they might
    ours = some_draws(scores, seed)
    expected = copied(ours)
    reference(scores, expected, nucleus)
    draw(scores, ours, nucleus)
    for field in fields(Draws):
        assert torch.equal(getattr(ours, field.name), getattr(expected, field.name)), field.name


def test_of_equal_scores_the_lower_tokens_come_first() -> None:
    scores, slots = torch.zeros(1, 100), 12
    draws = some_draws(scores.expand(slots, -1), 1)
    draws.recent.fill_(-1)
    draw(scores.expand(slots, -1), draws, Nucleus())
    token = draws.token
    assert token[draws.temperature == 0].tolist() == [0] * int((draws.temperature == 0).sum())
    assert token.max() < Nucleus().top_k
    assert len(set(token.tolist())) > 3
