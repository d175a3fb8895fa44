"""Each kernel of a prompt equals its reference, on small and odd shapes, by Triton's interpreter; and a piece is the
same to the last bit, whatever is beside it."""

from unittest.mock import patch

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from cosyserve.cosyvoice.kernels import linear_residual, prompt_attention, rms_linear, rotary_append
from cosyserve.cosyvoice.kernels.rotary_append import Places
from cosyserve.cosyvoice.kernels.tile import Tile
from tests.cosyvoice.kernels.test_flow_kernels import SEEDS, TILES, TYPES, Random, close
from tests.cosyvoice.kernels.unshrunk import UNSHRUNK

FEW = settings(max_examples=15, phases=UNSHRUNK)


@FEW
@given(
    seed=SEEDS,
    dtype=TYPES,
    rows=st.integers(1, 40),
    depth=st.integers(1, 50),
    columns=st.integers(1, 40),
    biased=st.booleans(),
    swiglu=st.booleans(),
    tile=TILES,
)
def test_a_norm_and_the_layer_behind_it(
    seed: int, dtype: torch.dtype, rows: int, depth: int, columns: int, biased: bool, swiglu: bool, tile: Tile
) -> None:
    random = Random(seed, dtype)
    x, norm, weight = random(rows, depth), random.norm(depth, rms=True), random.weights(columns * (1 + swiglu), depth)
    bias = random(columns) if biased and not swiglu else None
    ours, expected = random(rows, columns), random(rows, columns)
    rms_linear.reference(x, norm, weight, expected, bias, swiglu=swiglu)
    with patch.object(rms_linear, "_TILE", tile):
        rms_linear.rms_linear(x, norm, weight, ours, bias, swiglu=swiglu)
        close(ours, expected)
        first = random(1, columns)
        rms_linear.rms_linear(x[:1], norm, weight, first, bias, swiglu=swiglu)
    assert torch.equal(first, ours[:1])


@FEW
@given(
    seed=SEEDS, dtype=TYPES, rows=st.integers(1, 40), depth=st.integers(1, 90), columns=st.integers(1, 40), tile=TILES
)
def test_a_prompt_s_sums_are_shared(
    seed: int, dtype: torch.dtype, rows: int, depth: int, columns: int, tile: Tile
) -> None:
    random = Random(seed, dtype)
    a, weight, x = random(rows, depth), random.weights(columns, depth), random(rows, columns)
    expected = x.clone()
    linear_residual.reference(a, weight, None, expected)
    with patch.multiple(linear_residual, _PROMPT=tile, _LONGER=32):
        parts = linear_residual.parts_for(rows, columns, x.device, prompt=True)
        linear_residual.linear_residual(a, weight, None, x, parts, prompt=True)
    close(x, expected)
    assert not parts.arrived.any()


class Prompts:
    """Pieces that go into slots in which something is."""

    def __init__(self, random: Random, begin: list[int], rows: int, kv_heads: int, group: int, dim: int) -> None:
        length, heads, count = max(begin) + rows + 3, kv_heads * group, len(begin)
        self.kept = random(2, count + 1, kv_heads, length, dim)
        self.qkv = random(count * rows, (heads + 2 * kv_heads) * dim)
        self.rotary = random(length, 2, dim).float()
        self.query = random(count * rows, heads * dim)
        self.places = Places(torch.arange(count, 0, -1), torch.tensor(begin))

    def part(self, piece: int, rows: int) -> tuple[Tensor, Places]:
        one = slice(piece, piece + 1)
        return self.query[piece * rows :][:rows], Places(self.places.slots[one], self.places.begin[one])


@FEW
@given(
    seed=SEEDS,
    dtype=TYPES,
    begin=st.lists(st.integers(0, 50), min_size=1, max_size=3),
    rows=st.integers(1, 40),
    kv_heads=st.integers(1, 2),
    group=st.integers(1, 3),
    dim=st.sampled_from((8, 16, 24)),
    tile=TILES,
)
def test_pieces_go_into_their_slots_and_attend(
    seed: int, dtype: torch.dtype, begin: list[int], rows: int, kv_heads: int, group: int, dim: int, tile: Tile
) -> None:
    given = Prompts(Random(seed, dtype), begin, rows, kv_heads, group, dim)
    kept, query, found = given.kept.clone(), given.query.clone(), torch.empty_like(given.query)
    rotary_append.reference(given.qkv, given.rotary, given.places, kept, query)
    prompt_attention.reference(query, kept, given.places, found)
    with patch.object(rotary_append, "_ROWS", tile.rows), patch.object(prompt_attention, "_TILE", tile):
        rotary_append.rotary_append(given.qkv, given.rotary, given.places, given.kept, given.query)
        close(given.kept, kept)
        close(given.query, query)
        given.kept[:, given.places.slots[0], :, begin[0] + rows :] = torch.nan  # which nothing has to see
        ours = torch.empty_like(found)
        prompt_attention.prompt_attention(given.query, given.kept, given.places, ours)
        close(ours, found)
        alone, places = given.part(len(begin) - 1, rows)
        last = torch.empty_like(alone)
        prompt_attention.prompt_attention(alone, given.kept, places, last)
    assert torch.equal(last, ours[-rows:])
