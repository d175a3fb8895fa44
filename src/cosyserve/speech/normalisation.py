"""Writes out what is not said as it is written: numbers, dates, sums, units. Chinese and English, offline (wetext)."""

import logging
import re
from functools import lru_cache
from importlib.util import find_spec

from cosyserve.cosyvoice2.tokenizer import MARKS
from cosyserve.speech.confined import Bounds, Confined, UnfinishedError
from cosyserve.speech.segments import split

log = logging.getLogger(__name__)

if find_spec("wetext") is None:  # only a child imports it, but it is to be missed when the server starts
    raise ModuleNotFoundError("No module named 'wetext'", name="wetext")

_HAN = re.compile(r"[\u3400-\u9fff\uf900-\ufaff]")
_MARK = re.compile("(" + "|".join(map(re.escape, MARKS)) + ")")
_SPACES = re.compile(r"\s+")

# An ordinary sentence takes 15 ms of a processor, one made for it seconds.
_BOUNDS = Bounds(memory=256 << 20, cpu_seconds=1, seconds=10, at_once=8, kept=2)
_REMEMBERED = 2048  # sentences; a voice's words come again with every segment
_normalise = Confined("cosyserve.speech.normaliser:normalise", _BOUNDS)


def start() -> None:
    """Begin to load the grammars, so that the first text need not wait for them."""
    _normalise.start()


def normalised(text: str) -> str:
    """`text` as it is to be said: in Chinese where it has a Han character, else in English. Marks stay as they are, and
    so does a sentence that would take too long."""
    language = "zh" if _HAN.search(text) else "en"
    parts = _MARK.split(_SPACES.sub(" ", text))
    return "".join(part if number % 2 else _said(language, part) for number, part in enumerate(parts)).strip()


def _said(language: str, text: str) -> str:
    return "".join(_sentence_said(language, sentence) for sentence in split(text))


def _sentence_said(language: str, sentence: str) -> str:
    """The normaliser takes spaces at the edges away, but between two sentences or marks they stand between words."""
    if not sentence.strip():
        return sentence
    try:
        said = _asked(language, sentence)
    except UnfinishedError:
        log.warning("A sentence of %d characters takes too long to write out and is spoken as it is", len(sentence))
        return sentence
    before, after = (" " if edge.isspace() else "" for edge in (sentence[0], sentence[-1]))
    return f"{before}{said}{after}"


@lru_cache(_REMEMBERED)
def _asked(language: str, sentence: str) -> str:
    return _normalise(f"{language}\n{sentence}".encode()).decode()
