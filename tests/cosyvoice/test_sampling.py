import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cosyserve.cosyvoice.model.config import STOP_TOKENS, LlmConfig
from cosyserve.cosyvoice.model.sampling import Nucleus, length_limits, sample, uniform

V = 6564
NOTHING = torch.full((1, 10), -1)


def draw(scores: torch.Tensor, seed: int = 0, step: int = 0, **changed: torch.Tensor) -> int:
    given = {"recent": NOTHING, "may_stop": torch.tensor([True]), "temperature": torch.ones(1), **changed}
    recent, may_stop, temperature = given["recent"], given["may_stop"], given["temperature"]
    return int(sample(scores[None], recent, torch.tensor([seed]), torch.tensor([step]), may_stop, temperature))


def scores_of(probabilities: dict[int, float]) -> torch.Tensor:
    scores = torch.full((V,), -1e9)
    for token, probability in probabilities.items():
        scores[token] = torch.tensor(probability).log()
    return scores


def test_a_token_beyond_the_nucleus_is_never_drawn() -> None:
    scores = scores_of({1: 0.5, 2: 0.29, 3: 0.1, 4: 0.06, 5: 0.05})
    drawn = [draw(scores, step=step) for step in range(400)]
    assert set(drawn) == {1, 2, 3}  # 0.79 is short of 0.8, so the third belongs to it
    assert 0.45 < drawn.count(1) / len(drawn) < 0.68  # 0.56 of the nucleus


def test_a_token_that_was_just_heard_is_drawn_anew_from_all_others() -> None:
    scores = scores_of({1: 0.9, 2: 0.05, 3: 0.05})
    recent = NOTHING.clone()
    recent[0, 4] = 1
    assert {draw(scores, step=step, recent=recent) for step in range(100)} == {2, 3}


def test_no_stop_token_before_its_time() -> None:
    scores = scores_of({6561: 0.4, 6562: 0.3, 6563: 0.2, 7: 0.1})
    for temperature in (0.0, 1.0):
        at = torch.tensor([temperature])
        assert draw(scores, may_stop=torch.tensor([False]), temperature=at) == 7
        assert draw(scores, temperature=at) in STOP_TOKENS


def test_no_row_of_cosyvoice3_that_stops_comes_before_its_time() -> None:
    scores = torch.full((6761,), -1e9)
    scores[7], scores[6561:] = 0.0, 5.0
    for temperature in (0.0, 1.0):
        at = torch.tensor([temperature])
        assert draw(scores, may_stop=torch.tensor([False]), temperature=at) == 7
        assert draw(scores, temperature=at) in LlmConfig(speech_rows=6761).stops


def test_greedy_takes_the_best_and_heat_spreads() -> None:
    scores = scores_of({1: 0.6, 2: 0.4})
    assert {draw(scores, step=step, temperature=torch.zeros(1)) for step in range(50)} == {1}
    assert {draw(scores, step=step, temperature=torch.tensor([1.0])) for step in range(50)} == {1, 2}


@settings(max_examples=30)
@given(seeds=st.lists(st.integers(0, 2**63 - 1), min_size=1, max_size=6), step=st.integers(0, 5000))
def test_a_request_is_repeatable_whatever_runs_beside_it(seeds: list[int], step: int) -> None:
    scores = torch.randn(len(seeds), V, generator=torch.Generator().manual_seed(step))
    together = sample(
        scores,
        recent=NOTHING.expand(len(seeds), -1),
        seeds=torch.tensor(seeds),
        steps=torch.full((len(seeds),), step),
        may_stop=torch.ones(len(seeds), dtype=torch.bool),
        temperature=torch.ones(len(seeds)),
    )
    assert together.tolist() == [draw(row, seed, step) for row, seed in zip(scores, seeds, strict=True)]


def test_the_numbers_are_spread_evenly_and_differ_by_seed_step_and_use() -> None:
    steps = torch.arange(20_000)
    drawn = [uniform(torch.full_like(steps, seed), steps, which) for seed in (0, 1, 2**40) for which in (0, 1)]
    for each in drawn:
        counts = torch.histc(each, 10, 0, 1)
        assert ((counts - 2000).abs() < 250).all()  # six deviations
        assert float(each.min()) >= 0
        assert float(each.max()) < 1
    pairs = torch.corrcoef(torch.stack(drawn)).abs().fill_diagonal_(0)
    assert float(pairs.max()) < 0.05


def test_lengths_follow_the_text() -> None:
    assert length_limits(7) == (14, 140)
    assert Nucleus().repeated_from == 1
