"""Cards for streams, from measured figures."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from cosyserve.cli.bench import bench
from cosyserve.scale.capacity import H100, Figures, Point, capacity, figures_of, share_of_card

FIGURES = st.builds(
    lambda steps: Figures("any", [Point(4**n, 50.0 * (n + 1) + step, 8.0 + step) for n, step in enumerate(steps)]),
    st.lists(st.floats(0, 40), min_size=1, max_size=4),
)


@given(FIGURES, st.integers(1, 5000), st.floats(1, 2000), st.integers(0, 3))
def test_there_are_enough_cards_and_not_one_too_many(figures: Figures, streams: int, limit: float, spare: int) -> None:
    found = capacity(figures, streams, limit, spare)
    if not found.streams:
        assert figures.points[0].first_chunk_ms > limit or figures.points[0].audio_seconds < 1.25
        return
    assert found.first_chunk_ms <= limit
    assert found.streams <= figures.points[-1].streams
    assert (found.cards - spare) * found.streams >= streams > (found.cards - spare - 1) * found.streams


@given(FIGURES, st.floats(1, 2000), st.floats(0, 500))
def test_more_time_never_takes_more_cards(figures: Figures, limit: float, more: float) -> None:
    assert capacity(figures, 100, limit, 0).streams <= capacity(figures, 100, limit + more, 0).streams


@pytest.mark.parametrize(
    ("limit", "streams", "bound_by"),
    [
        (30, 0, "the first chunk"),
        (34, 1, "the first chunk"),
        (47, 4, "the first chunk"),
        (1000, 32, "what was measured"),
    ],
)
def test_the_measured_figures_are_met_exactly(limit: float, streams: int, bound_by: str) -> None:
    found = capacity(H100, 1, limit, 0)
    assert (found.streams, found.bound_by) == (streams, bound_by)


def test_a_card_that_is_too_slow_for_real_time_carries_fewer() -> None:
    slow = Figures("slow", [Point(1, 50, 4.0), Point(9, 60, 8.0)])
    assert (capacity(slow, 1, 1000, 0).streams, capacity(slow, 1, 1000, 0).bound_by) == (4, "real time")


def test_figures_are_read_from_what_the_bench_prints(tmp_path: Path) -> None:
    printed = {"device": "A card", "type": "bfloat16"}
    more = {"4 streams: median ms to the first chunk": 200, "4 streams: seconds of audio in a second": 10.5}
    one = {"1 streams: median ms to the first chunk": 100, "1 streams: seconds of audio in a second": 5}
    assert figures_of({**printed, **more, **one}) == Figures("A card", [Point(1, 100, 5), Point(4, 200, 10.5)])
    file = tmp_path / "gpu.json"
    file.write_text(json.dumps({**printed, **more, **one}))
    said = CliRunner().invoke(bench, ["capacity", "--streams", "10", "--measured", str(file)])
    assert said.exit_code == 0
    assert "A card" in said.output
    assert "10 streams: 4 cards, 1 of them to spare." in said.output


@pytest.mark.parametrize("text", ["", "[]", "{}", "no", '{"4 streams: median ms to the first chunk": "x"}'])
def test_another_file_is_refused(tmp_path: Path, text: str) -> None:
    file = tmp_path / "other.json"
    file.write_text(text)
    said = CliRunner().invoke(bench, ["capacity", "--streams", "10", "--measured", str(file)])
    assert "CS-RAY-007" in str(said.exception)


def test_who_asks_for_the_impossible_is_told() -> None:
    said = CliRunner().invoke(bench, ["capacity", "--streams", "10", "--first-chunk-ms", "20"])
    assert "one alone takes 32 ms" in said.output


@pytest.mark.parametrize(
    ("cards", "number", "of_each"), [(0, 3, 0.0), (2, 2, 1.0), (2, 1, 1.0), (2, 3, 0.5), (2, 4, 0.5), (1, 4, 0.25)]
)
def test_every_replica_gets_as_much_of_a_card_as_there_is(cards: int, number: int, of_each: float) -> None:
    assert share_of_card(cards, number) == of_each
