"""A long text is cut so that nothing of it is lost, whoever wrote it."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cosyserve.text.book import LONGEST, SHORTEST, Book, of_markdown, of_text

# What decides where a text is cut, in any order.
PIECES = st.sampled_from(
    [
        "word ",
        "Dr. Who said: ",
        "end. ",
        "“Yes!” ",
        "好。",
        "很长",
        "\n",
        "\n\n",
        "\n \n",
        "\r\n",
        "Chapter 2\n",
        "第三章 归来\n",
    ]
    + [
        "# Title\n",
        "## Part ##\n",
        "Line\n---\n",
        "===\n",
        "```\n",
        "~~~~\n",
        "x" * 700,
        "　　",
        "\t",
        "😀",
        "* * *\n",
        "1. ",
    ]
)
TEXTS = st.lists(st.one_of(PIECES, st.text(max_size=20)), max_size=60).map("".join)
SENTENCE = "The quick brown fox jumps over the lazy dog. "


def spoken(book: Book) -> str:
    return "".join("".join(passage.text.split()) for passage in book.passages)


def titles(book: Book) -> list[str]:
    return [chapter.title for chapter in book.chapters]


@given(TEXTS)
def test_nothing_of_a_plain_text_is_lost(text: str) -> None:
    assert spoken(of_text(text)) == "".join(text.split())


@given(TEXTS)
def test_of_markdown_only_the_marks_of_headings_are(text: str) -> None:
    marks = r"[\s#=-]"
    assert re.sub(marks, "", spoken(of_markdown(text))) == re.sub(marks, "", text)


@given(TEXTS, st.sampled_from([of_text, of_markdown]))
def test_passages_are_bounded_and_end_with_the_chapter(text: str, cut: object) -> None:
    assert callable(cut)
    book: Book = cut(text)
    passages = list(book.passages)
    assert all(passage.text.strip() and len(passage.text) <= LONGEST + 1 for passage in passages)
    assert all(chapter.passages and chapter.passages[-1].pause > 1 for chapter in book.chapters)


@pytest.mark.parametrize("paragraph", ["a", "“No.”", "好。"])
def test_tiny_paragraphs_make_few_passages(paragraph: str) -> None:
    text = "\n\n".join([paragraph] * 10_000)
    assert len(list(of_text(text).passages)) <= len(text) / SHORTEST + 1


@pytest.mark.parametrize("text", ["# a\n" * 5000, "# a\n\nb\n\n" * 5000, "a\n=\n" * 5000])
def test_a_text_of_headings_makes_few_passages(text: str) -> None:
    book = of_markdown(text)
    assert len(list(book.passages)) <= len(text) / SHORTEST + 1
    assert spoken(book)[:6] == "aaaaaa" if "b" not in text else "ababab"


def test_a_paragraph_is_a_passage_with_a_pause_behind_it() -> None:
    one, two = SENTENCE * 5, SENTENCE * 6
    passages = list(of_text(f"{one}\n\n{two}").passages)
    assert [passage.text.strip() for passage in passages] == [one.strip(), two.strip()]
    assert 0 < passages[0].pause < passages[1].pause


def test_a_long_paragraph_is_cut_where_sentences_end_and_without_a_pause() -> None:
    passages = list(of_text(SENTENCE * 60).passages)
    assert len(passages) > 2
    assert all(passage.text.strip().endswith("dog.") for passage in passages)
    assert not any(passage.pause for passage in passages[:-1])


def test_lines_that_name_a_chapter_begin_one() -> None:
    headings = ["Chapter 1", "CHAPTER II: The End", "Part Three The Boy", "第三章 归来", "尾声"]
    text = "Some words before.\n\n" + "".join(f"{heading}\nIt began.\n\n" for heading in headings)
    assert titles(of_text(text)) == ["", *headings]


@pytest.mark.parametrize(
    "line",
    [
        "Chapter 1, which I read aloud, was long.",
        "第一章，他写得很好。",
        "Part of it.",
        "A chapter 1",
        "Chapter one was hard.",
        "第一节的内容",
    ],
)
def test_a_sentence_about_a_chapter_is_none(line: str) -> None:
    assert titles(of_text(f"Before.\n\n{line}\n\nAfter.")) == [""]


def test_headings_of_markdown_make_chapters_below_the_title() -> None:
    text = "# The Book\n\nA word.\n\n## One\n\nText.\n\n### Inside\n\nMore.\n\nTwo\n---\n\n```\n# no heading\n```\n"
    book = of_markdown(text)
    assert (book.title, titles(book)) == ("The Book", ["The Book", "One", "Two"])
    assert [passage.text for passage in book.chapters[1].passages] == ["One", "Text.", "Inside", "More."]


def test_a_text_without_headings_is_one_chapter() -> None:
    assert titles(of_markdown("Just a text.\n\nAnother.")) == [""]
    assert of_text(" \n ").chapters == ()
