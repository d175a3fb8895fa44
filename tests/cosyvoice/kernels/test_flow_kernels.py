"""Each kernel of the flow equals its reference, on small and odd shapes, by Triton's interpreter."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from cosyserve.cosyvoice.kernels import (
    causal_conv,
    euler_step,
    linear_residual,
    norm_linear,
    norm_mish,
    paged_attention,
)
from cosyserve.cosyvoice.kernels.causal_conv import Conv, Tails
from cosyserve.cosyvoice.kernels.norm_linear import Append, Norm
from cosyserve.cosyvoice.kernels.norm_mish import Branch
from cosyserve.cosyvoice.kernels.paged_attention import PageTable
from cosyserve.cosyvoice.kernels.split import Parts
from cosyserve.cosyvoice.kernels.tile import Tile
from tests.cosyvoice.kernels.unshrunk import UNSHRUNK

SEEDS = st.integers(0, 2**31)
TYPES = st.sampled_from((torch.float32, torch.float16))  # the interpreter multiplies no bfloat16
TILES = st.builds(Tile, st.sampled_from((16, 32)), st.sampled_from((16, 32)), st.sampled_from((16, 32)))
FEW = settings(max_examples=25, phases=UNSHRUNK)


class Random:
    """Tensors of one seed."""

    def __init__(self, seed: int, dtype: torch.dtype) -> None:
        self._generator, self._dtype = torch.Generator().manual_seed(seed), dtype

    def __call__(self, *shape: int, scale: float = 1.0) -> Tensor:
        return (scale * torch.randn(*shape, generator=self._generator)).to(self._dtype)

    def weights(self, rows: int, width: int) -> Tensor:
        return self(rows, width, scale=width**-0.5)

    def norm(self, width: int, *, rms: bool = False) -> Norm:
        return Norm(1 + self(width, scale=0.1), None if rms else self(width, scale=0.1), 1e-5)

    def integers(self, low: int, high: int, count: int) -> Tensor:
        return torch.randint(low, high, (count,), generator=self._generator)


def close(ours: Tensor, reference: Tensor, dtype: torch.dtype | None = None) -> None:
    """Within the rounding of the type: what a kernel keeps in float32, PyTorch rounds between its steps.
    Terms are near 1, and a sum of them may be nearly nothing."""
    limit = 1e-5 if (dtype or ours.dtype) == torch.float32 else 5e-3
    difference = (ours.float() - reference.float()).norm() / reference.float().norm().clamp(
        min=0.1
    )  # of terms near 1, which may cancel
    assert difference < limit, difference


@FEW
@given(
    seed=SEEDS,
    dtype=TYPES,
    rows=st.integers(1, 40),
    depth=st.integers(3, 70),
    columns=st.integers(1, 40),
    gelu=st.booleans(),
    bias=st.booleans(),
    tile=TILES,
)
def test_norm_and_linear(
    seed: int,
    dtype: torch.dtype,
    rows: int,
    depth: int,
    columns: int,
    gelu: bool,
    bias: bool,
    tile: Tile,
) -> None:
    random = Random(seed, dtype)
    x, norm, weight = random(rows, depth + 5)[:, :depth], random.norm(depth), random.weights(columns, depth)
    added = random(columns) if bias else None
    out = random(rows, columns + 3)[:, :columns]
    norm_linear.norm_linear(x, norm, weight, out, added, gelu=gelu, tile=tile)
    expected = torch.empty_like(out)
    norm_linear.reference(x, norm, weight, expected, added, gelu=gelu)
    close(out, expected)


@FEW
@given(
    seed=SEEDS,
    dtype=TYPES,
    rows=st.integers(1, 20),
    depth=st.integers(3, 300),
    columns=st.integers(1, 40),
    swiglu=st.booleans(),
    bias=st.booleans(),
    tile=TILES,
)
def test_rms_norm_and_linear(
    seed: int, dtype: torch.dtype, rows: int, depth: int, columns: int, swiglu: bool, bias: bool, tile: Tile
) -> None:
    random = Random(seed, dtype)
    x, norm = random(rows, depth), random.norm(depth, rms=True)
    weight = random.weights(2 * columns if swiglu else columns, depth)
    added = random(columns) if bias and not swiglu else None
    out, expected = (torch.empty(rows, columns, dtype=dtype) for _ in range(2))
    norm_linear.norm_linear(x, norm, weight, out, added, swiglu=swiglu, tile=tile)
    norm_linear.reference(x, norm, weight, expected, added, swiglu=swiglu)
    close(out, expected)


@FEW
@given(seed=SEEDS, rows=st.integers(1, 4), frames=st.integers(1, 21), heads=st.integers(1, 3), tile=TILES)
def test_keys_and_values_go_into_their_pages_and_queries_do_not(
    seed: int, rows: int, frames: int, heads: int, tile: Tile
) -> None:
    random = Random(seed, torch.float32)
    inner, pages = 32 * heads, rows + 2
    x, norm, weight = random(rows * frames, 24), random.norm(24), random.weights(3 * inner, 24)
    query, past = torch.empty(rows * frames, inner), random(pages, frames, 2 * inner)
    written = torch.randperm(pages, generator=torch.Generator().manual_seed(seed))[:rows]
    expected, expected_past = torch.empty_like(query), past.clone()
    norm_linear.reference(x, norm, weight, expected, append=Append(expected_past, written))
    norm_linear.norm_linear(x, norm, weight, query, append=Append(past, written), tile=tile)
    close(query, expected)
    close(past[written], expected_past[written])
    others = [page for page in range(pages) if page not in written.tolist()]
    assert torch.equal(past[others], expected_past[others])


@FEW
@given(
    seed=SEEDS,
    dtype=TYPES,
    rows=st.integers(1, 40),
    depth=st.integers(1, 70),
    columns=st.integers(1, 40),
    bias=st.booleans(),
    tile=TILES,
    splits=st.integers(1, 3),
)
def test_linear_and_residual(
    seed: int, dtype: torch.dtype, rows: int, depth: int, columns: int, bias: bool, tile: Tile, splits: int
) -> None:
    random = Random(seed, dtype)
    a, weight, added = random(rows, depth), random.weights(columns, depth), random(columns) if bias else None
    x = random(rows, columns + 5)[:, :columns]
    expected = x.clone()
    linear_residual.reference(a, weight, added, expected)
    parts = Parts.of(splits * 64 * 64, 16, x.device) if splits > 1 else None
    linear_residual.linear_residual(a, weight, added, x, parts, each=(tile, splits))
    close(x, expected)
    assert parts is None or not parts.arrived.any()


@FEW
@given(
    data=st.data(),
    seed=SEEDS,
    dtype=TYPES,
    rows=st.integers(1, 3),
    span=st.integers(1, 4),
    frames=st.integers(1, 21),
    heads=st.integers(1, 3),
    dim=st.sampled_from((8, 16, 24)),
    tile=TILES,
    splits=st.integers(1, 4),
)
def test_attention_over_pages(
    data: st.DataObject,
    seed: int,
    dtype: torch.dtype,
    rows: int,
    span: int,
    frames: int,
    heads: int,
    dim: int,
    tile: Tile,
    splits: int,
) -> None:
    random = Random(seed, dtype)
    pages = rows * span + 1
    past, query = random(pages, frames, 2 * heads * dim), random(rows * frames, heads * dim)
    filled = frames * random.integers(1, span + 1, rows)
    # A chunk that is padded: somewhere in what is filled, but for its first frame.
    begin = torch.tensor([data.draw(st.integers(1, int(each))) for each in filled])
    hidden = torch.stack((begin, torch.minimum(begin + data.draw(st.integers(0, frames)), filled)), dim=1)
    table = PageTable(random.integers(0, pages, rows * span).unflatten(0, (rows, span)), filled, hidden)
    alone, shared, expected = (torch.empty_like(query) for _ in range(3))
    paged_attention.paged_attention(query, past, table, alone, heads, None, (tile, 1))
    blocks = -(-span * frames // tile.columns)
    parts = Parts.of(rows * heads * 2 * blocks * 32 * (32 + 2), rows * heads * 2, query.device)
    paged_attention.paged_attention(query, past, table, shared, heads, parts, (tile, splits))
    assert torch.equal(shared, alone)  # whoever has found it
    paged_attention.reference(query, past, table, expected, heads)
    close(alone, expected)


@FEW
@given(seed=SEEDS, dtype=TYPES, rows=st.sampled_from((1, 5, 17)))
def test_attention_of_a_row_is_the_same_in_any_batch(seed: int, dtype: torch.dtype, rows: int) -> None:
    random, frames, heads, dim, span = Random(seed, dtype), 5, 1, 16, 2
    past, query = random(rows * span, frames, 2 * dim), random(rows * frames, dim)
    filled = frames * random.integers(1, span + 1, rows)
    table = PageTable(torch.arange(rows * span).view(rows, span), filled, torch.zeros(rows, 2, dtype=torch.long))
    together, alone = torch.empty_like(query), torch.empty_like(query)
    for count, out in ((rows, together), (1, alone)):
        first = PageTable(table.pages[:count], table.filled[:count], table.hidden[:count])
        parts = paged_attention.parts_for(count, span, frames, heads, dim, query.device)
        some = count * frames
        paged_attention.paged_attention(query[:some], past, first, out[:some], heads, parts)
    assert torch.equal(together[:frames], alone[:frames])


@FEW
@given(
    data=st.data(),
    seed=SEEDS,
    dtype=TYPES,
    rows=st.integers(1, 4),
    frames=st.integers(2, 21),
    channels=st.integers(1, 40),
    columns=st.integers(2, 40),
)
def test_causal_convolution(
    data: st.DataObject,
    seed: int,
    dtype: torch.dtype,
    rows: int,
    frames: int,
    channels: int,
    columns: int,
) -> None:
    random = Random(seed, dtype)
    x = random(rows * frames, channels + 3)[:, :channels]
    conv = Conv(
        random.weights(columns, 3 * channels).unflatten(1, (3, -1)).transpose(0, 1).contiguous(), random(columns)
    )
    slots = 3
    kept = random(slots + rows, 2 * channels + 5)[:, : 2 * channels]
    # A row goes on from a slot, or from a row before it.
    read = [
        data.draw(st.integers(0, slots - 1) | st.integers(slots, slots + row - 1)) if row else 0 for row in range(rows)
    ]
    tails = Tails(kept, torch.tensor(read), left=slots)
    expected, expected_kept = torch.empty(rows * frames, columns, dtype=dtype), kept.clone()
    causal_conv.reference(x, conv, Tails(expected_kept, tails.read, slots), expected)
    out = torch.empty(rows * frames, columns + 2, dtype=dtype)[:, :columns]
    causal_conv.causal_conv(x, conv, tails, out, Tile(16, 16, 16))
    close(out, expected)
    assert torch.equal(kept, expected_kept)


@FEW
@given(
    seed=SEEDS,
    dtype=TYPES,
    rows=st.integers(1, 40),
    columns=st.integers(2, 40),
    around=st.sampled_from(("nothing", "time", "branch")),
    tile=TILES,
)
def test_norm_and_mish(seed: int, dtype: torch.dtype, rows: int, columns: int, around: str, tile: Tile) -> None:
    random = Random(seed, dtype)
    y, norm = random(rows, columns), random.norm(columns)
    time = random(columns) if around == "time" else None
    branch = None
    if around == "branch":
        branch = Branch(random(rows, 10)[:, :7], random.weights(columns, 7), random(columns))
    out = random(rows, columns + 2)[:, :columns]
    norm_mish.norm_mish(y, norm, out, time, branch, tile)
    expected = torch.empty_like(out)
    norm_mish.reference(y, norm, expected, time, branch)
    close(out, expected)


@FEW
@given(seed=SEEDS, dtype=TYPES, chunks=st.integers(1, 3), frames=st.integers(1, 21), channels=st.integers(1, 40))
def test_an_euler_step(seed: int, dtype: torch.dtype, chunks: int, frames: int, channels: int) -> None:
    random, mels = Random(seed, dtype), 10
    h, weight, bias = random(2 * chunks * frames, channels), random.weights(mels, channels), random(mels)
    x, following = random(chunks, frames, mels).float(), random(2 * chunks * frames, mels + 4)
    expected, expected_following = x.clone(), following.clone()
    euler_step.reference(h, weight, bias, expected, expected_following, 0.3, 0.7)
    euler_step.euler_step(h, weight, bias, x, following, 0.3, 0.7)
    close(x, expected, dtype)
    close(following[:, :mels], expected_following[:, :mels])
    assert torch.equal(following[:, mels:], expected_following[:, mels:])
