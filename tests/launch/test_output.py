import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cosyserve import logs
from cosyserve.launch.output import Output


def last_words(printed: bytes) -> str:
    reader, writer = os.pipe()
    output = Output(os.fdopen(reader, "rb"))
    os.write(writer, printed)
    os.close(writer)
    output.close()
    return output.last_words


@given(st.binary(max_size=2000))
def test_last_words_fit_into_an_environment_variable_whatever_was_printed(printed: bytes) -> None:
    words = last_words(printed)
    assert len(words) <= 200
    assert words.isprintable()


def test_the_last_line_counts_and_holds_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "_secrets", {"sesame-open"})
    assert last_words(b"first\nKeyError:\0 'sesame-open'\r\n\n") == "KeyError:  '***'"
    assert last_words(b"") == ""
