"""Rules that hold for any text, and what is said of texts as people and language models write them."""

import asyncio
import json
import re
import subprocess
import sys
import unicodedata
from collections.abc import AsyncIterator
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from cosyserve.text.front_end import FrontEnd, Segment, Sentence, segments, uncut, whole
from cosyserve.text.mapped import Mapped
from cosyserve.text.normalise import NUMBER
from tests import front_end
from tests.text.texts import texts

# Rules that take letters away which nobody is to hear: names of tags and entities, addresses behind words.
SILENT = {"tag", "block tag", "cell tag", "comment", "code fence", "link", "link definition", "image"}
SILENT |= {"footnote", "entity", "maths", "emoji's name"}
# Rules that put words in the offset of letters.
WORDED = {NUMBER, "unit", "clock", "currency", "number sign", "times", "width", "composition", "bullet", "decade"}
WORDED |= {"power", "subscript", "keycap", "score", "hexadecimal"}


def sentences(text: str, pieces: list[str] | None = None) -> list[Sentence]:
    maker = FrontEnd()
    found = [sentence for piece in pieces or [text] for sentence in maker.push(piece)]
    return found + maker.flush()


async def _collected(found: AsyncIterator[Segment]) -> list[Segment]:
    return [segment async for segment in found]


def spoken(text: str, *, normalize: bool = True, first_alone: bool = False) -> list[Segment]:
    return asyncio.run(_collected(whole(text, normalize=normalize, first_alone=first_alone)))


def said(text: str) -> str:
    return " ".join(segment.text for segment in spoken(text))


def lost(text: str, sentence: Sentence, mapped: Mapped) -> list[tuple[str, set[str]]]:
    """The letters of a sentence that are not in what is said, each with the rules that changed it."""
    kept = {offset for offset, said in zip(mapped.offsets, mapped.text, strict=True) if text[offset] == said}
    return [
        (character, {change.rule for change in mapped.changes if change.start <= offset < change.end})
        for offset, character in enumerate(sentence.written, sentence.start)
        if unicodedata.category(character)[0] == "L" and offset not in kept
    ]


@given(texts)
@example("I love google.com, really.")
@example("等5 seconds吧，共4 members")
def test_every_letter_is_said_or_was_changed_by_a_rule(text: str) -> None:
    for sentence in sentences(text):
        for character, rules in lost(text, sentence, sentence.said()):
            assert rules & (SILENT | WORDED), (character, rules)
            if unicodedata.name(character, "").startswith(("CJK", "HANGUL SYLL", "HIRAGANA")):
                assert rules & SILENT, (character, rules)


@given(texts)
def test_no_sign_of_mark_up_is_added(text: str) -> None:
    whole_text = unicodedata.normalize("NFKC", text)
    for sign in "\\*#|":
        assert said(text).count(sign) <= whole_text.count(sign) + len(re.findall(r"&#?\w+;", text))


@given(texts, st.lists(st.integers(0, 400), max_size=6))
def test_text_in_pieces_is_said_as_the_whole(text: str, cuts: list[int]) -> None:
    places = [0, *sorted(cuts), len(text)]
    expected = sentences(text)
    assert sentences(text, [text[start:end] for start, end in pairwise(places)]) == expected
    assert sentences(text, list(text)) == expected
    assert "".join(sentence.written for sentence in expected) == text


class Arriving:
    """Sentences of a text that come as often as the test says that they wait."""

    def __init__(self, text: str, waiting: list[bool]) -> None:
        self._sentences, self._waiting = sentences(text), waiting

    async def next(self) -> Sentence | None:
        return self._sentences.pop(0) if self._sentences else None

    @property
    def waiting(self) -> bool:
        return self._waiting.pop() if self._waiting else True


@given(texts, st.lists(st.booleans(), max_size=10))
def test_however_it_arrives_the_same_is_said(text: str, waiting: list[bool]) -> None:
    arrived = asyncio.run(_collected(segments(Arriving(text, waiting))))
    assert front_end.words([each.text for each in arrived]) == front_end.words([each.text for each in spoken(text)])


@given(texts, st.booleans())
def test_a_segment_ends_with_a_mark_and_knows_its_place(text: str, first_alone: bool) -> None:
    last = 0
    for segment in spoken(text, first_alone=first_alone):
        assert segment.text[-1] in "。！？；.!?;"
        assert any(map(str.isalnum, segment.text))
        assert last <= segment.start <= segment.end <= len(text)
        last = segment.start


@given(texts)
def test_without_normalising_it_is_handed_over_as_it_is(text: str) -> None:
    assert "".join(segment.text for segment in spoken(text, normalize=False)) == text


ABBREVIATIONS = st.sampled_from(["No.", "Dr.", "etc.", "St.", "I"])
WORDS = st.from_regex(r"[A-Za-z]{1,9}(?:'[a-z]{1,2})?[,.!?;:]?", fullmatch=True)
ENGLISH = st.lists(WORDS | ABBREVIATIONS, min_size=1, max_size=30)


@given(ENGLISH)
def test_english_without_digits_or_signs_is_not_rewritten(words: list[str]) -> None:
    text = " ".join(words)
    assume(not re.match(r"[a-zA-Z]\.$", words[0]))
    assert said(text).rstrip(".,:") == text.rstrip(".,:")


NUMBERS = ["5000", "3.5%", "12:30", "10kg", "3-5", "。", ". ", " "]
KOREAN = st.lists(st.sampled_from(["이것은 ", "한국어", "원", *NUMBERS]), max_size=12).map(
    lambda parts: "가격은 " + "".join(parts)
)
JAPANESE = st.lists(st.sampled_from(["これは", "円です", "テスト", *NUMBERS]), max_size=12).map(
    lambda parts: "これは" + "".join(parts)
)


@given(st.one_of(KOREAN, JAPANESE))
def test_japanese_and_korean_stay_as_they_are(text: str) -> None:
    for sentence in sentences(text):
        if re.search("[ぁ-んァ-ン가-힣]", sentence.written):
            assert re.findall(r"\w", sentence.said().text) == re.findall(r"\w", sentence.written)


SAMPLES: dict[str, list[tuple[str, str]]] = json.loads((Path(__file__).parent / "samples.json").read_text("utf-8"))


@pytest.mark.parametrize(("text", "expected"), [pair for kind in SAMPLES.values() for pair in kind])
def test_what_is_said(text: str, expected: str) -> None:
    assert said(text) == expected


def test_a_recordings_words_are_said_in_one() -> None:
    assert uncut("It costs $5. 你好，3个。Yes") == "It costs five dollars.你好，三个。Yes"
    assert uncut("你好。") == "你好。"
    assert uncut("") == ""


REFERENCES = json.loads((Path(__file__).parent / "front_end.json").read_text("utf-8"))
REASONS = json.loads(front_end.DIFFERENCES.read_text("utf-8"))


def test_other_words_than_upstreams_have_a_reason() -> None:
    """The references are upstream's own, made with wetext's rules of version 0.0.4 (../shared/golden/README.md)."""
    other = {
        reference["text"]
        for reference in REFERENCES
        if front_end.verdict(front_end.segments(reference["text"]), reference["segments"]) is front_end.Verdict.WORDS
    }
    assert other == set(REASONS)
    assert all(REASONS.values())


def test_any_reference_of_that_form_is_shown(tmp_path: Path) -> None:
    file = tmp_path / "reference.json"
    file.write_text(json.dumps([{"text": "5 kg", "segments": ["five kilograms."]}, {"text": "№5", "segments": ["x"]}]))
    command = [sys.executable, "-m", "tests.front_end", "--reference", str(file)]
    shown = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert "five kilograms." in shown
    assert shown.splitlines()[-1] == "same: 1, punctuation only: 0, other words: 1"
