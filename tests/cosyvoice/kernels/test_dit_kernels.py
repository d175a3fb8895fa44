"""Each kernel of CosyVoice3's flow equals its reference, on small and odd shapes, by Triton's interpreter."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cosyserve.cosyvoice.kernels import gated_norm, group_conv, turn_append
from cosyserve.cosyvoice.kernels.causal_conv import Conv, Tails
from cosyserve.cosyvoice.kernels.norm_linear import Append
from cosyserve.cosyvoice.kernels.turn_append import Turns
from tests.cosyvoice.kernels.test_flow_kernels import FEW, SEEDS, TILES, TYPES, Random, close


@FEW
@given(seed=SEEDS, dtype=TYPES, rows=st.integers(1, 9), channels=st.integers(2, 70), found=st.booleans())
def test_a_gate_and_the_norm_behind_it(seed: int, dtype: torch.dtype, rows: int, channels: int, found: bool) -> None:
    random = Random(seed, dtype)
    x, norm = random(rows, channels), random.norm(channels)
    more = (random(rows, channels), random(channels)) if found else ()
    ours, theirs = (x.clone(), torch.empty_like(x)), (x.clone(), torch.empty_like(x))
    gated_norm.gated_norm(ours[0], norm, ours[1], *more)
    gated_norm.reference(theirs[0], norm, theirs[1], *more)
    for mine, expected in zip(ours, theirs, strict=True):
        close(mine, expected)


@FEW
@given(
    seed=SEEDS,
    dtype=TYPES,
    rows=st.integers(1, 3),
    frames=st.integers(1, 9),
    dim=st.integers(1, 8),
    heads=st.integers(1, 3),
)
def test_the_first_head_is_turned_and_keys_and_values_go_into_their_pages(
    seed: int, dtype: torch.dtype, rows: int, frames: int, dim: int, heads: int
) -> None:
    random, dim = Random(seed, dtype), 2 * dim
    columns, pages = dim * heads, rows + 2
    angles = Random(seed, torch.float32)(200, dim // 2).repeat_interleave(2, dim=1)
    turns = Turns(angles.cos(), angles.sin(), random.integers(0, 190, rows))
    written = torch.randperm(pages, generator=torch.Generator().manual_seed(seed))[:rows]
    qkv, past = random(rows * frames, 3 * columns), random(pages, frames, 2 * columns)
    found = []
    for turn in (turn_append.turn_append, turn_append.reference):
        query, kept = torch.empty(rows * frames, columns, dtype=dtype), past.clone()
        turn(qkv, turns, query, Append(kept, written))
        found.append((query, kept))
    for mine, expected in zip(*found, strict=True):
        close(mine, expected)
    untouched = [page for page in range(pages) if page not in written]
    assert torch.equal(found[0][1][untouched], past[untouched])


@FEW
@given(
    seed=SEEDS,
    dtype=TYPES,
    rows=st.integers(1, 3),
    frames=st.integers(0, 20),
    taps=st.integers(2, 6),
    width=st.integers(1, 18),
    groups=st.integers(1, 3),
    residual=st.booleans(),
    tile=TILES,
    data=st.data(),
)
def test_a_convolution_in_groups_goes_on_where_each_row_says(
    seed: int,
    dtype: torch.dtype,
    rows: int,
    frames: int,
    taps: int,
    width: int,
    groups: int,
    residual: bool,
    tile: object,
    data: st.DataObject,
) -> None:
    random, frames, channels = Random(seed, dtype), frames + taps - 1, width * groups
    left = 4
    # A slot, or an earlier row of the batch.
    read = [data.draw(st.sampled_from([0, 1, 2, 3, *range(left, left + row)])) for row in range(rows)]
    x = random(rows * frames, channels)
    conv = Conv(random(taps, channels, width, scale=(taps * width) ** -0.5), random(channels))
    tails = random(left + rows, channels * (taps - 1))
    more = random(rows * frames, channels) if residual else None
    ours, theirs = (Tails(tails.clone(), torch.tensor(read), left) for _ in range(2))
    out, expected = torch.empty_like(x), torch.empty_like(x)
    group_conv.group_conv(x, conv, ours, out, more, tile)  # type: ignore[arg-type]
    group_conv.reference(x, conv, theirs, expected, more)
    close(out, expected)
    assert torch.equal(ours.kept, theirs.kept)


def test_a_chunk_shorter_than_what_is_looked_back_at_is_refused() -> None:
    x, conv = torch.zeros(2, 4), Conv(torch.zeros(5, 4, 4), torch.zeros(4))
    with pytest.raises(AssertionError):
        group_conv.group_conv(x, conv, Tails(torch.zeros(2, 16), torch.zeros(1, dtype=torch.long), 1), x.clone())
