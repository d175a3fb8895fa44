import pytest
from hypothesis import given
from hypothesis import strategies as st

from cosyserve.errors import CosyError
from cosyserve.text.checks import checked, is_speakable


@pytest.mark.parametrize("text", ["", "   \n", "\u3000", "\x07", " \x1b\t"])
def test_no_text_is_refused(text: str) -> None:
    with pytest.raises(CosyError) as refused:
        checked(text, 100)
    assert refused.value.fault.id == "CS-TEXT-001"


@pytest.mark.parametrize("text", ["😀🎉", "。！？…", "—", ".", "---", "✅", "( )"])
def test_text_without_sound_is_text(text: str) -> None:
    assert checked(text, 100) == text
    assert not is_speakable(text)


@pytest.mark.parametrize("text", ["a\0b", "a\ud800", "\udc00b"])
def test_text_that_cannot_be_encoded_is_refused(text: str) -> None:
    with pytest.raises(CosyError) as refused:
        checked(text, 100)
    assert refused.value.fault.id == "CS-TEXT-003"


def test_long_text_is_refused_with_both_numbers() -> None:
    with pytest.raises(CosyError) as refused:
        checked("a" * 101, 100)
    assert refused.value.fault.id == "CS-TEXT-002"
    assert "101" in refused.value.cause
    assert "100" in refused.value.cause_zh


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=50))
def test_a_checked_text_is_the_text_without_control_characters(text: str) -> None:
    encodable = checked(f"a{text}", 100)
    assert encodable.isprintable() or any(not c.isprintable() for c in text)
    assert [c for c in encodable if c.isalnum()] == [c for c in f"a{text}" if c.isalnum()]


def test_bell_and_escape_are_dropped_but_line_breaks_stay() -> None:
    assert checked("a\x07b\x1b\nc\td", 100) == "ab\nc\td"
