"""Writes out what is not said as it is written: numbers, dates, sums, units. Chinese and English, offline (wetext)."""

import re
from functools import cache

from wetext import Normalizer

from cosyserve.cosyvoice2.tokenizer import MARKS

_HAN = re.compile(r"[\u3400-\u9fff\uf900-\ufaff]")
_MARK = re.compile("(" + "|".join(map(re.escape, MARKS)) + ")")
_SPACES = re.compile(r"\s+")


def normalised(text: str) -> str:
    """`text` as it is to be said: in Chinese where it has a Han character, else in English. Marks stay as they are."""
    normaliser = _normaliser("zh" if _HAN.search(text) else "en")
    parts = _MARK.split(_SPACES.sub(" ", text))
    return "".join(part if number % 2 else _said(normaliser, part) for number, part in enumerate(parts)).strip()


def _said(normaliser: Normalizer, text: str) -> str:
    """The normaliser takes spaces at the edges away, but between two marks they stand between words."""
    if not text.strip():
        return text
    try:
        said: str = normaliser.normalize(text)
    except (AssertionError, RuntimeError):  # its grammar has no way through some lone control characters
        return text
    before, after = (" " if edge.isspace() else "" for edge in (text[0], text[-1]))
    return f"{before}{said}{after}"


@cache
def _normaliser(language: str) -> Normalizer:
    return Normalizer(lang=language, operator="tn", remove_erhua=False)
