"""How sentences are joined for the voice."""

import asyncio
import re
from collections.abc import AsyncIterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cosyserve.text.front_end import FrontEnd, Segment, Sentence, segments, whole
from cosyserve.text.segments import LONGEST, units
from tests.text.texts import texts


async def _collected(found: AsyncIterator[Segment]) -> list[str]:
    return [segment.text async for segment in found]


def cut(text: str, *, first_alone: bool = False) -> list[str]:
    return asyncio.run(_collected(whole(text, first_alone=first_alone)))


def upstream(sentences: list[str]) -> list[str]:
    """Upstream's rule for Chinese, written out: 80 at most once there are more than 60, a tail below 20 joins."""
    made = [""]
    for sentence in sentences:
        if len(made[-1]) > 60 and len(made[-1] + sentence) > 80:
            made.append("")
        made[-1] += sentence
    if len(made) > 1 and len(made[-1]) < 20:
        tail = made.pop()
        made[-1] += tail
    return made


SENTENCES = st.lists(st.integers(1, 59).map(lambda length: "好" * length + "。"), min_size=1, max_size=12)


@given(SENTENCES)
def test_a_file_is_cut_as_upstream_cuts_it(sentences: list[str]) -> None:
    assert cut("".join(sentences)) == upstream(sentences)


@given(SENTENCES)
def test_who_listens_hears_the_first_sentence_first(sentences: list[str]) -> None:
    first, *others = cut("".join(sentences), first_alone=True)
    assert first == sentences[0]
    assert "".join([first, *others]) == "".join(sentences)
    assert all(len(each) >= 20 for each in others[:-1])
    assert all(len(each) <= LONGEST + 20 for each in others)


@given(texts)
def test_no_segment_is_longer_than_the_model_can_say(text: str) -> None:
    assert all(units(segment) <= LONGEST + 41 for segment in cut(text * 3))


def test_a_long_sentence_is_cut_at_its_clauses() -> None:
    made = cut("春天来了，花儿都开了，" * 20 + "真好。")
    assert len(made) > 2
    assert all(re.fullmatch(r"(?:春天来了，花儿都开了[，。])+(?:真好。)?", each) or "，" in each for each in made)
    assert all(each.endswith("。") for each in made)
    assert all(50 <= len(each) <= 100 for each in made)
    words = " ".join(["word"] * 400)
    assert "".join(cut(words)).replace(" ", "").replace(".", "") == "word" * 400


@pytest.mark.parametrize("between", [("<strong>", "</strong>"), ("<laughter>", "</laughter>"), ("“", "”"), ('"', '"')])
def test_nothing_is_cut_inside_tags_and_quotes(between: tuple[str, str]) -> None:
    inner = f"{between[0]}好的。{'是' * 30}，{'对' * 30}！好。{between[1]}"
    text = f"他{'说' * 60}，{inner}{'然后' * 30}。走了。"
    assert any(inner in segment for segment in cut(text))
    assert any(inner in segment for segment in cut(text, first_alone=True))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[breath]", ["[breath]."]),
        ("[breath] 你好。", ["[breath]你好。"]),
        ("你好。[laughter]", ["你好。[laughter]。"]),
        ("你好。\n[laughter]\n再见。", ["你好。[laughter]再见。"]),
        ("Hello. [sigh]", ["Hello. [sigh]."]),
        ("你好，", ["你好。"]),
        ("你好、", ["你好。"]),
        ("hello,", ["hello."]),
        ("如下：", ["如下。"]),
        ("Wait", ["Wait."]),
        ("。。。", []),
        ("（）", []),
        ("", []),
    ],
)
def test_marks_and_ends(text: str, expected: list[str]) -> None:
    assert cut(text) == expected


@pytest.mark.parametrize("text", ["你好。[laughter]", "[breath] 你好。", "Hello. [sigh]"])
def test_a_lone_mark_joins_a_neighbour_in_a_stream(text: str) -> None:
    assert len(cut(text, first_alone=True)) == 1


class Waiting:
    """A text of which so many sentences wait each time somebody asks."""

    def __init__(self, text: str, at_once: list[int]) -> None:
        front_end = FrontEnd()
        self._sentences, self._at_once, self._left = front_end.push(text) + front_end.flush(), at_once, at_once.pop(0)

    async def next(self) -> Sentence | None:
        self._left = self._left - 1 if self._left else (self._at_once.pop(0) if self._at_once else 100) - 1
        return self._sentences.pop(0) if self._sentences else None

    @property
    def waiting(self) -> bool:
        return self._left > 0


def test_what_is_waiting_is_joined() -> None:
    text = "One is here. Two is here. Three is here. Four is here. Five is here."
    made = asyncio.run(_collected(segments(Waiting(text, [1, 3, 1]))))
    assert made == ["One is here.", "Two is here. Three is here. Four is here.", "Five is here."]
