"""What the test at the start makes of kernels that are right, off, or fail, by Triton's interpreter."""

from collections.abc import Iterator
from dataclasses import fields
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

from cosyserve.cosyvoice.kernels import group_conv, self_test
from cosyserve.cosyvoice.kernels.kernels import REFERENCES, Kernels, used_by
from cosyserve.cosyvoice.kernels.self_test import (
    Case,
    decode_cases,
    distance,
    dit_cases,
    flow_cases,
    prompt_cases,
    self_tested,
    vocoder_cases,
)
from cosyserve.cosyvoice.kernels.tile import Tile
from cosyserve.cosyvoice.model.config import Config, Config3, Sizes
from tests.cosyvoice.seeded import SHALLOW3, TINY

LIKE = torch.zeros(1)
TRIED = ["decode_attention", "draw", "level_sum"]


@pytest.fixture(autouse=True)
def few_cases(monkeypatch: pytest.MonkeyPatch) -> None:
    """The interpreter takes half a minute for all of them."""

    def few(config: Config, like: Tensor) -> Iterator[Case]:
        every = (*self_test.decode_cases(config, like, 2), *self_test.vocoder_cases(config, like, 1))
        first = {case.kernel: case for case in reversed(every)}
        yield from (first[name] for name in TRIED if name in first)

    monkeypatch.setattr(self_test, "cases", few)


@pytest.mark.parametrize("sizes", [TINY, SHALLOW3], ids=["CosyVoice2", "CosyVoice3"])
def test_all_that_a_model_is_computed_with_is_tested(sizes: Sizes) -> None:
    flow = dit_cases(sizes, LIKE, 2) if isinstance(sizes, Config3) else flow_cases(sizes, LIKE, 2)
    every = (*flow, *decode_cases(sizes, LIKE, 2), *prompt_cases(sizes, LIKE, 1), *vocoder_cases(sizes, LIKE, 1))
    assert {case.kernel for case in every} == used_by(sizes)


def test_the_kernels_of_cosyvoice3_s_flow_are_right(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(self_test, "GROUPS", 1)  # each of which is a program
    monkeypatch.setattr(group_conv, "_SMALL", Tile(64, 64))
    for case in dit_cases(SHALLOW3, LIKE, 2):
        assert distance(case, getattr(Kernels(), case.kernel)) <= self_test.LIMITS[torch.float32]


def test_kernels_that_are_right_are_used() -> None:
    tried: list[str] = []
    assert self_tested(TINY, LIKE, begins=tried.append) == (Kernels(), {})
    assert tried == TRIED


def test_one_that_is_off_gives_way_to_its_reference(monkeypatch: pytest.MonkeyPatch) -> None:
    def off(x: Tensor, new: Tensor, alpha: Tensor, out: Tensor, *others: Any) -> None:
        REFERENCES.level_sum(x, new, alpha, out, *others)
        out.view(-1)[7] += 1

    monkeypatch.setattr(self_test, "Kernels", partial(Kernels, level_sum=off))
    kernels, problems = self_tested(TINY, LIKE)
    assert kernels == Kernels(level_sum=REFERENCES.level_sum)
    assert list(problems) == ["level_sum"]
    assert "from its reference" in problems["level_sum"]


def test_one_that_writes_what_it_should_not_gives_way(monkeypatch: pytest.MonkeyPatch) -> None:
    def spills(x: Tensor, *others: Any) -> None:
        REFERENCES.level_sum(x, *others)
        x.view(-1)[3] = 100

    monkeypatch.setattr(self_test, "Kernels", partial(Kernels, level_sum=spills))
    assert list(self_tested(TINY, LIKE)[1]) == ["level_sum"]


def test_one_that_draws_another_token_gives_way(monkeypatch: pytest.MonkeyPatch) -> None:
    def draws(scores: Tensor, draws: Any, *others: Any) -> None:
        REFERENCES.draw(scores, draws, *others)
        draws.token[0] += 1

    monkeypatch.setattr(self_test, "Kernels", partial(Kernels, draw=draws))
    assert list(self_tested(TINY, LIKE)[1]) == ["draw"]


def test_one_that_fails_is_told_with_its_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: Any, **__: Any) -> None:
        raise RuntimeError("ptxas\n  died")

    monkeypatch.setattr(self_test, "Kernels", partial(Kernels, decode_attention=fails))
    kernels, problems = self_tested(TINY, LIKE)
    assert kernels.decode_attention == REFERENCES.decode_attention
    assert problems == {"decode_attention": "2 slots: RuntimeError: ptxas died"}


@pytest.mark.parametrize("sizes", [TINY, SHALLOW3], ids=["CosyVoice2", "CosyVoice3"])
def test_where_nothing_works_that_a_model_needs_nothing_is_left(sizes: Sizes) -> None:
    kernels, problems = self_tested(sizes, LIKE, sorted(used_by(sizes)))
    assert kernels == REFERENCES
    assert len(problems) == len(fields(Kernels))


def test_one_that_is_known_to_be_broken_is_not_tried() -> None:
    tried: list[str] = []
    kernels, problems = self_tested(TINY, LIKE, ["draw"], tried.append)
    assert "draw" not in tried
    assert kernels == Kernels(draw=REFERENCES.draw)
    assert list(problems) == ["draw"]
