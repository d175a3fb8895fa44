from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cosyserve.speech.segments import HAN_UNITS, LIMIT, Segmenter, split

texts = st.text(st.sampled_from("ab你好 .,!?。！？；…”\"'）)1\n") | st.characters(), max_size=400)


@pytest.mark.parametrize(
    ("text", "segments"),
    [
        ("你好，世界。今天天气好！", ["你好，世界。", "今天天气好！"]),
        ("Hello, world. How are you? Fine!", ["Hello, world.", "How are you?", "Fine!"]),
        ("圆周率是3.14，对吗？对。", ["圆周率是3.14，对吗？", "对。"]),
        ("Pi is 3.14. Really.", ["Pi is 3.14.", "Really."]),
        (
            "Mr. Smith met Dr. Wu at 5 p.m. in St. Louis. They ate.",
            ["Mr. Smith met Dr. Wu at 5 p.m. in St. Louis.", "They ate."],
        ),
        ("See No. 5, e.g. here. No. I mean it.", ["See No. 5, e.g. here.", "No.", "I mean it."]),
        ("J. R. R. Tolkien wrote it. Yes.", ["J. R. R. Tolkien wrote it.", "Yes."]),
        ("他说：“走吧！”然后走了。", ["他说：“走吧！”", "然后走了。"]),
        ('"Stop!" she said. "Why?"', ['"Stop!"', "she said.", '"Why?"']),
        ("Wait... what?! 真的……好吧。", ["Wait...", "what?!", "真的……", "好吧。"]),
        ("Open cosyserve.toml or http://a.b/?c=1;d=2 now.", ["Open cosyserve.toml or http://a.b/?c=1;d=2 now."]),
        ("Hello world.你好。", ["Hello world.", "你好。"]),
        ("one\ntwo", ["one", "two"]),
        ("", []),
    ],
)
def test_cuts_at_sentence_ends(text: str, segments: list[str]) -> None:
    assert [segment.strip() for segment in split(text)] == segments


@given(texts)
def test_loses_nothing_and_makes_no_empty_segment(text: str) -> None:
    segments = list(split(text))
    assert "".join(segments) == text
    assert all(segments)


@given(texts, st.lists(st.integers(0, 400), max_size=8))
def test_text_in_pieces_is_cut_like_the_whole(text: str, cuts: list[int]) -> None:
    places = [0, *sorted(cuts), len(text)]
    segmenter = Segmenter()
    segments: list[str] = []
    for start, end in pairwise(places):
        segments += segmenter.push(text[start:end])
    segments += segmenter.flush()
    assert segments == list(split(text))


@given(texts)
def test_no_segment_is_too_long_to_start_soon(text: str) -> None:
    for segment in split(text):
        assert sum(HAN_UNITS if character >= "\u2e80" else 1 for character in segment) <= LIMIT


def test_a_long_sentence_is_cut_at_a_pause() -> None:
    first, *_ = split("one two three four five, " * 20)
    assert first.endswith(", ")
    assert len(list(split("你" * 1000))) == -(-1000 * HAN_UNITS // LIMIT)


def test_a_sentence_comes_out_before_the_next_one_is_complete() -> None:
    segmenter = Segmenter()
    assert list(segmenter.push("First one. Sec")) == ["First one."]
    assert list(segmenter.push("ond")) == []
    assert list(segmenter.flush()) == [" Second"]
