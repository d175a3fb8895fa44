"""Phonemes and pinyin in a text: those that somebody wrote reach the voice, and nothing else becomes one."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cosyserve.cosyvoice.frontend.marks import COSYVOICE2, COSYVOICE3, PHONEMES, PINYIN
from cosyserve.text.front_end import FrontEnd, uncut, whole
from cosyserve.text.mapped import Mapped
from cosyserve.text.marks import PRONOUNCED, hidden, shown

MARKS = frozenset((*PHONEMES, *PINYIN))


def spoken(text: str, *, pronounced: bool = True, normalize: bool = True) -> str:
    async def collected() -> list[str]:
        return [each.text async for each in whole(text, normalize=normalize, pronounced=pronounced)]

    return "|".join(asyncio.run(collected()))


def marks_in(text: str) -> list[str]:
    return [f"[{each}]" for each in (part.split("]")[0] for part in text.split("[")[1:]) if f"[{each}]" in MARKS]


def test_there_are_as_many_as_the_released_tokenizer_has() -> None:
    assert (len(PHONEMES), len(PINYIN), len(COSYVOICE2), len(COSYVOICE3)) == (84, 176, 20, 281)
    assert len(set(COSYVOICE3)) == len(COSYVOICE3)
    assert {"[AA0]", "[ZH]", "[j]", "[ǐ]", "[iòng]", "[ǜ]", "[vè]", "[er]"} - MARKS == {"[er]"}


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("高管对报道[j][ǐ]予好评。", "高管对报道[j][ǐ]予好评。"),
        ("我[w][ǒ][m][en]有3个", "我[w][ǒ][m][en]有三个。"),
        ("好[a]", "好[a]。"),
        ("Say [HH][AH0][L][OW1] to 5 people.", "Say [HH][AH0][L][OW1] to five people."),
        ("[AA0]", "[AA0]."),
        ("**[M][IH1][N]ute** [laughter][d][e]", "[M][IH1][N]ute [laughter][d][e]."),
        ("I said [B][AO] and <strong>[ē]</strong>", "I said [B][AO] and <strong>[ē]</strong>."),
        ("中[j][i\u030c]文", "中[j][ǐ]文。"),  # decomposed
    ],
)
def test_what_is_written_reaches_the_voice(written: str, expected: str) -> None:
    assert spoken(written) == expected
    assert uncut(written, pronounced=True).rstrip(".。") == expected.rstrip(".。")


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("array[i] is a[i][j].", "array i is a i j."),
        ("- [x] done, [b]bold[/b]", "done, b bold[/b]."),
        ("He lived [in] Paris [a].", "He lived in Paris a."),
        ("答案[B]，选[K]。", "答案B，选K。"),
        ("see [**a**] and &#91;AA0&#93; now", "see a and AA zero now."),
        ("the page [AA0](https://example.com) is here", "the page AA zero is here."),
    ],
)
def test_what_only_looks_like_one_becomes_none(written: str, expected: str) -> None:
    found = spoken(written)
    assert not marks_in(found)
    assert found.replace("[AA zero]", "AA zero") == expected


def test_the_other_edition_reads_them_as_it_did() -> None:
    assert spoken("道[j][ǐ]予好评。", pronounced=False) == "道j予好评。"
    assert spoken("Say a[i].", pronounced=False) == "Say a[i]."


def test_a_text_that_is_not_to_be_changed_is_not() -> None:
    assert spoken("a[i] [AA0]", normalize=False) == "a[i] [AA0]"


def test_a_character_that_stands_for_a_mark_is_none_where_somebody_wrote_it() -> None:
    assert spoken(f"好{chr(0x10FE00)}{chr(0x10FE05)}的。") == "好的。"
    for icon in ("\U000f0001", "\ue0b0"):  # of fonts of icons
        assert spoken(icon) == spoken(icon, pronounced=False) == ""


@given(
    st.lists(
        st.sampled_from(sorted(MARKS) + ["好", "a", " ", "，", "1", "[", "]", "(", "x", ".", "[laughter]"]), max_size=30
    )
)
def test_nothing_becomes_a_mark_that_was_not_written(parts: list[str]) -> None:
    text = "".join(parts)
    written = marks_in(text)
    found = marks_in(spoken(text))
    rest = iter(written)
    assert all(mark in rest for mark in found)  # in their order
    assert not PRONOUNCED.search(spoken(text))


@given(st.text(alphabet="[]ABIiǐjaā好x1 (\U0010fe00", max_size=40))
def test_what_is_hidden_is_shown_again(text: str) -> None:
    """Each character still knows where it comes from."""
    found = hidden(Mapped.original(text))
    assert len(found.text) == len(found.offsets)
    assert not PRONOUNCED.search(shown(found).text)
    assert list(found.offsets) == sorted(found.offsets)


@given(st.lists(st.integers(1, 4), min_size=1, max_size=12))
def test_a_word_in_pieces_is_the_word(steps: list[int]) -> None:
    text, front_end, said = "Say [HH][AH0][L][OW1], 道[j][ǐ]予。", FrontEnd(pronounced=True), Mapped("", ())
    done = 0
    for step in [*steps, len(text)]:
        for sentence in front_end.push(text[done : done + step]):
            said += sentence.said()
        done += step
    for sentence in front_end.flush():
        said += sentence.said()
    assert marks_in(shown(said).text) == ["[HH]", "[AH0]", "[L]", "[OW1]", "[j]", "[ǐ]"]
