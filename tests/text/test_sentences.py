from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cosyserve.text.sentences import LONGEST, Sentences, sentences
from tests.text.texts import texts


@pytest.mark.parametrize(
    ("text", "expected"),
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
        ("On Jan. 3, 2021 and Sept. 5. He left in Oct. We stayed.", None),
        ("Sen. Hill, Rep. Dale, Lt. Dan, Capt. Cook and Gen. Lee. All.", None),
        ("Mt. Fuji, Fifth Ave. in New York, 5 deg. off. It is so.", None),
        ("Prince, a.k.a. Him, of the U.S. Army. He left the U.S. He came back.", None),
        ("Acme Inc. and Sons Ltd. went. Then etc. and so on.", None),
        ("At 5 p.m. He left. At 6 p.m. Bob left.", ["At 5 p.m.", "He left.", "At 6 p.m. Bob left."]),
        ("他说：“走吧！”然后走了。", ["他说：“走吧！”", "然后走了。"]),
        ("他说：“走吧。快点！别等了。”然后走了。", ["他说：“走吧。快点！别等了。”", "然后走了。"]),
        ('"Stop!" she said. "Why? Tell me. Now."', ['"Stop!" she said.', '"Why? Tell me. Now."']),
        ("<strong>One. Two.</strong> Three.", ["<strong>One. Two.</strong>", "Three."]),
        ("<laughter>哈哈。好。</laughter>对。", ["<laughter>哈哈。好。</laughter>", "对。"]),
        ("[A. B](https://a.b/c) is it. Yes.", ["[A. B](https://a.b/c) is it.", "Yes."]),
        ("Wait... what?! 真的……好吧。", ["Wait...", "what?!", "真的……", "好吧。"]),
        ("Open cosyserve.toml or http://a.b/?c=1;d=2 now.", ["Open cosyserve.toml or http://a.b/?c=1;d=2 now."]),
        ("Tom &amp; Jerry. &lt;3", ["Tom &amp; Jerry.", "&lt;3"]),
        ("Hello world.你好。", ["Hello world.", "你好。"]),
        ("1. Open it.\n2. Close it.", ["1. Open it.", "2. Close it."]),
        ("步骤：\n1. 打开。\n 10. 点击。", ["步骤：", "1. 打开。", "10. 点击。"]),
        ("one\ntwo", ["one", "two"]),
        (
            "This is a line of a letter that was wrapped at\nseventy characters, and\n\nit ends.",
            ["This is a line of a letter that was wrapped at\nseventy characters, and", "it ends."],
        ),
        ("", []),
    ],
)
def test_finds_where_sentences_end(text: str, expected: list[str] | None) -> None:
    found = [sentence.strip() for sentence in sentences(text)]
    if expected is None:  # two sentences, with abbreviations in the first
        assert len(found) in (2, 3), found
        assert all(each.endswith(".") and not each.startswith(tuple("123456789")) for each in found)
    else:
        assert found == expected


@given(texts)
def test_loses_nothing_and_makes_no_empty_sentence(text: str) -> None:
    found = list(sentences(text))
    assert "".join(found) == text
    assert all(found)
    assert all(len(sentence) <= 2 * LONGEST for sentence in found)


@given(texts, st.lists(st.integers(0, 400), max_size=8))
def test_text_in_pieces_has_the_sentences_of_the_whole(text: str, cuts: list[int]) -> None:
    places = [0, *sorted(cuts), len(text)]
    finder = Sentences()
    found: list[str] = []
    for start, end in pairwise(places):
        found += finder.push(text[start:end])
    found += finder.flush()
    assert found == list(sentences(text))


@given(texts)
def test_text_by_character_has_the_sentences_of_the_whole(text: str) -> None:
    finder = Sentences()
    found = [sentence for character in text for sentence in finder.push(character)]
    assert [*found, *finder.flush()] == list(sentences(text))


@given(texts)
def test_what_is_unfinished_belongs_to_the_next_sentence(text: str) -> None:
    finder = Sentences()
    whole, done = list(sentences(text)), 0
    for character in text:
        done += len(list(finder.push(character)))
        assert "".join(whole[done : done + 1]).startswith(finder.unfinished[: LONGEST // 2])


@pytest.mark.parametrize(
    "text", ["one two three four five, " * 60, "你" * 3000, "“" + "a. " * 1000, "- " * 2000, "\n " * 3000]
)
def test_a_text_without_an_end_is_cut_all_the_same(text: str) -> None:
    found = list(sentences(text))
    assert len(found) > 1
    assert "".join(found) == text


@pytest.mark.parametrize("text", ["First one. S", "你好。今", "Really? ", "Hi!\n"])
def test_a_sentence_comes_out_before_the_next_one_is_complete(text: str) -> None:
    assert len(list(Sentences().push(text))) == 1
