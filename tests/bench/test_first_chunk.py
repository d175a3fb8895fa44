"""Where the time to a first chunk goes: whatever is at work, the parts come to the whole."""

from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.first_chunk import PARTS, Span, picture, shares

TIMES = st.integers(0, 100).map(float)


@given(
    spans=st.lists(st.tuples(st.sampled_from(PARTS[:-1]), TIMES, TIMES), max_size=12),
    begin=TIMES,
    end=TIMES,
)
def test_the_parts_come_to_the_whole(spans: list[tuple[str, float, float]], begin: float, end: float) -> None:
    begin, end = sorted((begin, end))
    found = shares([Span(part, *sorted(times)) for part, *times in spans], begin, end)
    assert sum(found.values()) == pytest.approx(end - begin)
    assert min(found.values()) >= 0


def test_sound_comes_before_the_tokens_that_are_drawn_meanwhile() -> None:
    spans = [Span("tokens", 0, 5), Span("flow", 2, 4), Span("prompt", 6, 7)]
    assert shares(spans, 1, 10) == {"prompt": 1, "tokens": 2, "encoder": 0, "flow": 2, "vocoder": 0, "rest": 4}


def test_each_case_is_a_bar_of_all_parts() -> None:
    drawn = ElementTree.fromstring(picture({"1, before": dict.fromkeys(PARTS, 2.0), "1": dict.fromkeys(PARTS, 1.0)}))  # noqa: S314 - our own
    assert len(drawn.findall("{*}rect")) == 1 + 2 * len(PARTS)  # and the background
