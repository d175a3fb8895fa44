"""Slots: several requests side by side are what each is alone."""

from functools import cache

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from cosyserve.cosyvoice.model.qwen2 import Llm
from tests.cosyvoice.seeded import TINY, fill

_STEPS = 6


@cache
def llm() -> Llm:
    return fill("llm", Llm(TINY.llm))


def prompt(length: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    text = torch.randint(0, TINY.llm.vocabulary, (length,), generator=generator)
    return llm().prompt(text, torch.randint(0, 6561, (length // 2,), generator=generator))


def alone(embedded: Tensor, steps: int) -> list[Tensor]:
    """The scores of each step, greedily."""
    cache = llm().cache(1, len(embedded) + steps)
    scores = [llm().prefill(embedded, cache, 0)[None]]
    for place in range(len(embedded), len(embedded) + steps):
        scores.append(llm().decode(scores[-1].argmax(1), torch.tensor([place]), cache))
    return scores


@settings(max_examples=20)
@given(lengths=st.lists(st.integers(1, 40), min_size=1, max_size=5), seed=st.integers(0, 1000))
def test_a_batch_is_what_each_is_alone(lengths: list[int], seed: int) -> None:
    prompts = [prompt(length, seed + number) for number, length in enumerate(lengths)]
    cache = llm().cache(len(prompts), 80)
    scores = torch.stack([llm().prefill(each, cache, slot) for slot, each in enumerate(prompts)])
    positions = torch.tensor([len(each) for each in prompts])
    together = [scores]
    for step in range(_STEPS):
        span = int(positions.max()) + step + 1
        together.append(llm().decode(together[-1].argmax(1), positions + step, cache, span))
    for slot, each in enumerate(prompts):
        for ours, expected in zip(together, alone(each, _STEPS), strict=True):
            assert (ours[slot] - expected[0]).norm() / expected.norm() <= 1e-4


def test_joined_products_are_the_same_and_hold_nothing_twice() -> None:
    model = fill("llm", Llm(TINY.llm))
    before = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    embedded = prompt(12, 3)
    expected = model.prefill(embedded, model.cache(1, 20), 0)
    for _ in range(2):  # once is enough, twice does no harm
        model.fuse()
        assert torch.allclose(model.prefill(embedded, model.cache(1, 20), 0), expected, rtol=1e-5, atol=1e-6)
    assert {key: tensor.tolist() for key, tensor in model.state_dict().items()} == {
        key: tensor.tolist() for key, tensor in before.items()
    }
    attention = model.llm.model.model.layers[0].self_attn  # type: ignore[union-attr, index]
    storages = {layer.weight.untyped_storage().data_ptr() for layer in (attention.q_proj, attention.v_proj)}
    assert len(storages) == 1


def test_a_slot_that_is_used_again_remembers_nothing() -> None:
    cache = llm().cache(2, 64)
    long, short = prompt(20, 1), prompt(3, 2)
    llm().prefill(long, cache, 1)
    expected = alone(short, 1)
    scores = llm().prefill(short, cache, 1)
    assert torch.allclose(scores, expected[0][0], rtol=1e-4, atol=1e-5)
    tokens = torch.stack([torch.tensor(0), scores.argmax()])
    after = llm().decode(tokens, torch.tensor([0, len(short)]), cache)
    assert torch.allclose(after[1], expected[1][0], rtol=1e-4, atol=1e-5)
