"""What a reader finds of each segment: the text as it was written."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cosyserve.text.front_end import Segment, segments, whole
from tests.text.test_front_end import Arriving
from tests.text.texts import texts


async def _collected(found: AsyncIterator[Segment]) -> list[Segment]:
    return [segment async for segment in found]


def spoken(text: str, *, normalize: bool = True, first_alone: bool = True, ssml: bool = False) -> list[Segment]:
    return asyncio.run(_collected(whole(text, normalize=normalize, first_alone=first_alone, ssml=ssml)))


def written(text: str, *, ssml: bool = False) -> list[str]:
    return [segment.written for segment in spoken(text, ssml=ssml) if not segment.pause]


def letters(parts: list[Segment]) -> str:
    return "".join(filter(str.isalnum, "".join(each.written for each in parts)))


@given(texts, st.booleans(), st.booleans())
def test_each_is_a_piece_of_the_text_and_they_are_in_its_order(text: str, normalize: bool, first_alone: bool) -> None:
    done = 0
    for segment in spoken(text, normalize=normalize, first_alone=first_alone):
        assert segment.written == segment.written.strip()
        assert segment.written or not segment.text.strip()
        # What is left of a number whose words are cut was not written.
        place = text.find(segment.written, done)
        assert place >= 0 or segment.written == segment.text.strip()
        done = max(done, place + len(segment.written))


@given(texts, st.lists(st.booleans(), max_size=10))
def test_it_is_the_same_however_the_text_arrives(text: str, waiting: list[bool]) -> None:
    arrived = asyncio.run(_collected(segments(Arriving(text, waiting))))
    assert letters(arrived) == letters(spoken(text))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("It costs **$5**, he said. 😊 Next: 3.14!", ["It costs **$5**, he said.", "😊 Next: 3.14!"]),
        ("今天是2024年5月1日。下午3点。", ["今天是2024年5月1日。", "下午3点。"]),
        ("---\nOne.\n---\nTwo &amp; three.\n", ["One.", "Two &amp; three."]),
        ("One. Two.\n---\nThree. 😊", ["One.", "Two.\n---\nThree."]),
        ("😊", []),
    ],
)
def test_it_is_as_it_was_written(text: str, expected: list[str]) -> None:
    assert written(text) == expected


def test_marks_between_two_parts_of_a_sentence_stay_with_their_words() -> None:
    text = ", ".join(f"clause *number* {number} of a “long” one" for number in range(30)) + "."
    parts = written(text)
    assert len(parts) > 2
    assert " ".join(parts) == text
    assert all(each.endswith(("one,", "one.")) for each in parts)
    wide = "，".join(["这是“很长的一句话”里面的一小段"] * 20) + "。"
    parts = written(wide)
    assert "".join(parts) == wide
    assert all(each.endswith(("，", "。")) for each in parts)


def test_in_ssml_it_is_what_stands_between_the_tags() -> None:
    document = (
        '<speak>One &amp; <sub alias="two > three">WWW</sub>.<break time="700ms"/>'
        '<p>Four <say-as interpret-as="digits">12</say-as></p><s>five</s> <sub alias="six"/></speak>'
    )
    assert written(document, ssml=True) == ["One & WWW.", "Four 12\n\nfive"]
    assert written('<break time="1s"/>', ssml=True) == []
    assert written('<sub alias="World Wide Web"/>', ssml=True) == ["World Wide Web."]  # nothing was written there


def test_a_number_whose_words_are_cut_is_written_once() -> None:
    number = "9" * 150
    found = spoken(f"号码是{number}。")
    assert sum(number in each.written for each in found) <= 1
    assert all(each.written for each in found)
