"""Words of the lexicon: which are found, what is said for them, and where it comes from."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cosyserve.text.front_end import FrontEnd, Segment, whole
from cosyserve.text.lexicon import LONGEST_SAID, MOST_ADDED, Pronunciation, Words
from cosyserve.text.mapped import Mapped
from cosyserve.text.marks import shown
from cosyserve.text.pronunciation import phonemes, pinyin


def words(**said: str) -> Words:
    return Words.of([Pronunciation(word, respelling=text) for word, text in said.items()], "", pronounced=False)


def segments(text: str, entries: list[Pronunciation], *, pronounced: bool = False, voice: str = "") -> list[Segment]:
    found = Words.of(entries, voice, pronounced=pronounced)

    async def collected() -> list[Segment]:
        return [each async for each in whole(text, pronounced=pronounced, words=found)]

    return asyncio.run(collected())


def spoken(text: str, entries: list[Pronunciation], *, pronounced: bool = False, voice: str = "") -> str:
    return "|".join(each.text for each in segments(text, entries, pronounced=pronounced, voice=voice))


GIF = Pronunciation("GIF", "jiff")


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("A GIF is here.", "A jiff is here."),
        ("gif, Gif and GIFs stay.", "gif, Gif and GIFs stay."),
        ("The GIF's size, **GIF** and _GIF_.", "The jiff's size, jiff and jiff."),
        ("my_GIF stays.", "my GIF stays."),
        ("这个GIF图很好。", "这个jiff图很好。"),
        ("<b class='GIF'>GIF</b>", "jiff."),
        ("(GIF)", "(jiff)."),
    ],
)
def test_whole_words_as_they_are_written(written: str, expected: str) -> None:
    assert spoken(written, [GIF]) == expected


@pytest.mark.parametrize(
    ("word", "written", "found"),
    [
        ("Don", "Don't", False),
        ("Don", "Don't. Don’t", False),
        ("Don", "Don's", True),
        ("t", "don't", False),
        ("Artagnan", "d'Artagnan", True),
        ("C++", "C++ is", True),
        ("C", "C++ is", True),
        (".NET", "ASP.NET", True),
        (".NET", "in .NET", True),
        ("AC/DC", "AC/DC!", True),
        ("重庆", "在重庆市", True),
        ("서울", "서울은", True),
        ("cat", "category", False),
        ("cat", "tomcat", False),
        ("cat", "cat2", False),
        ("é", "cafe\u0301 é", True),
        ("breath", "[breath]", False),
        ("strong", "<strong>a</strong>", False),
        ("com", "see https://a.com/b", False),
        ("me", "me@example.com", False),
        ("x", "[a](http/x)", False),
    ],
)
def test_where_a_word_is_found(word: str, written: str, found: bool) -> None:
    said = words(**{word: "\N{SNOWMAN}"}).applied(Mapped.original(written)).text
    assert ("\N{SNOWMAN}" in said) is found


def test_the_longest_word_goes_first() -> None:
    table = words(New="a", **{"New York": "b", "New York City": "c", "行": "d", "银行": "e", "银行行长": "f"})
    for written, expected in (
        ("New York City", "c"),
        ("New York Cityscape", "b Cityscape"),
        ("New Yorker", "a Yorker"),
        ("银行行长", "f"),
        ("银行行", "ed"),
    ):
        assert table.applied(Mapped.original(written)).text == expected


def test_a_voice_has_entries_of_its_own() -> None:
    entries = [Pronunciation("GIF", "giff", voice="ann"), GIF, Pronunciation("PNG", "ping", voice="bob")]
    assert spoken("GIF and PNG", entries, voice="ann") == "giff and PNG."
    assert spoken("GIF and PNG", entries, voice="bob") == "jiff and ping."
    assert spoken("GIF and PNG", entries) == "jiff and PNG."


def test_marks_are_said_by_the_model_that_knows_them_and_respellings_by_the_others() -> None:
    entries = [
        Pronunciation("行长", "航掌", pinyin="hang2 zhang3"),
        Pronunciation("read", "red", phonemes="R EH1 D"),
        Pronunciation("重", pinyin="chóng"),
    ]
    assert spoken("银行行长说重了。", entries, pronounced=True) == "银行[h][áng][zh][ǎng]说[ch][óng]了。"
    assert spoken("银行行长说重了。", entries) == "银行航掌说重了。"
    assert spoken("I read 5 books.", entries, pronounced=True) == "I [R][EH1][D] five books."
    assert spoken("I read 5 books.", entries) == "I red five books."


def test_what_is_said_is_prepared_like_any_text() -> None:
    assert spoken("Take the A1.", [Pronunciation("A1", "road 66")]) == "Take the road sixty six."


def test_every_segment_knows_what_it_stands_for() -> None:
    text = "The GIF is here. 银行行长来了。"
    found = segments(text, [GIF, Pronunciation("行长", pinyin="hang2 zhang3")], pronounced=True)
    assert [text[each.start : each.end] for each in found] == ["The GIF is here.", "银行行长来了。"]


@pytest.mark.parametrize(
    ("written", "marks"),
    [
        ("hang2 zhang3", "[h][áng][zh][ǎng]"),
        ("háng zhǎng", "[h][áng][zh][ǎng]"),
        ("[h][áng]", "[h][áng]"),
        ("Lv4", "[l][ǜ]"),
        ("nü3 er2", "[n][ǚ][ér]"),
        ("lüe4 lüè lve4", "[l][vè][l][vè][l][vè]"),
        ("de5 de", "[d][e][d][e]"),
        ("xue2 yuan4 wu1", "[x][ué][y][uàn][w][ū]"),
        ("jiong3", "[j][iǒng]"),
        ("a\u0304n", "[ān]"),
    ],
)
def test_pinyin_as_people_write_it(written: str, marks: str) -> None:
    hidden = pinyin(written)
    assert hidden is not None
    assert shown(Mapped.original(hidden)).text == marks


@pytest.mark.parametrize("written", ["", "x", "hang6", "hello1", "hang2zhang3", "行", "[", "5", "bcd1", "ng2"])
def test_what_is_no_pinyin(written: str) -> None:
    assert pinyin(written) is None or written == "x"


@pytest.mark.parametrize("written", ["", "hh", "HH AH3", "[breath]", "xyz", "HHAH0"])
def test_what_are_no_phonemes(written: str) -> None:
    assert phonemes(written) is None


@pytest.mark.parametrize(
    "entry",
    [
        Pronunciation("", "a"),
        Pronunciation(" a", "a"),
        Pronunciation("a/", "a"),
        Pronunciation("...", "a"),
        Pronunciation("a\nb", "a"),
        Pronunciation("a" * 65, "a"),
        Pronunciation("e\u0301", "a"),
        Pronunciation("a"),
        Pronunciation("a", "!"),
        Pronunciation("a", "b\nc"),
        Pronunciation("a", "b" * 201),
        Pronunciation("a", pinyin="a1", phonemes="AA0"),
        Pronunciation("a", pinyin="qqq"),
        Pronunciation("a", phonemes="QQ"),
    ],
)
def test_what_no_entry_may_be(entry: Pronunciation) -> None:
    assert entry.unfit() is not None


def test_what_an_entry_may_be() -> None:
    for entry in (GIF, Pronunciation("New York", "b"), Pronunciation("好", pinyin="hao3"), Pronunciation("C++", "c")):
        assert entry.unfit() is None


def test_a_sentence_grows_within_bounds() -> None:
    text = "b " * 300
    said = words(b="x" * LONGEST_SAID).applied(Mapped.original(text)).text
    assert MOST_ADDED - LONGEST_SAID < len(said) - len(text) <= MOST_ADDED
    assert said.endswith(" b ")


LETTERS = st.text(alphabet="abAB好行 '_.-1é", max_size=40)
TABLES = st.dictionaries(
    st.text(alphabet="abAB好行1é", min_size=1, max_size=4), st.text(alphabet="xyz天", min_size=1, max_size=5)
)


@given(LETTERS, TABLES)
def test_every_character_knows_where_it_comes_from(text: str, table: dict[str, str]) -> None:
    original = Mapped.original(text, 7)
    found = Words(table).applied(original)
    assert len(found.text) == len(found.offsets)
    assert list(found.offsets) == sorted(found.offsets)
    assert {change.rule for change in found.changes} <= {"lexicon"}
    changed = {place for change in found.changes for place in range(change.start, change.end)}
    kept = "".join(character for place, character in enumerate(text, 7) if place not in changed)
    assert kept == "".join(character for character in found.text if character not in "xyz天")


@given(LETTERS, TABLES)
def test_none_is_found_inside_another_and_none_is_missed(text: str, table: dict[str, str]) -> None:
    """Each word alone between blanks is found; a word that begins or ends within letters is not."""
    found = Words(table)
    for word, said in table.items():
        assert found.applied(Mapped.original(f"- {word} -")).text == f"- {said} -"
        if word.isascii():
            assert found.applied(Mapped.original(f"q{word}q")).text == f"q{word}q"
    assert Words({}).applied(Mapped.original(text)).text == text


@given(st.lists(st.integers(1, 5), min_size=1, max_size=20))
def test_a_word_in_pieces_is_found(steps: list[int]) -> None:
    text = "The New York GIF. 银行行长来了。"
    front_end, said, done = FrontEnd(words=words(GIF="jiff", **{"New York": "x", "行长": "航掌"})), Mapped("", ()), 0
    for step in [*steps, len(text)]:
        for sentence in front_end.push(text[done : done + step]):
            said += sentence.said()
        done += step
    for sentence in front_end.flush():
        said += sentence.said()
    assert said.text == "The x jiff.银行航掌来了。"
