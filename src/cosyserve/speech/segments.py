"""Cuts text into segments to synthesize one after the other: at sentence ends, Chinese and English.

A cut depends only on what comes before it and on `LOOKAHEAD` characters after it, so text that arrives
in pieces (an LLM's tokens) is cut at the same places as text that arrives whole.
"""

import re
from collections.abc import Iterator

# Longest segment in units of a Latin letter. A Han character takes about three times as long to say.
LIMIT = 240
HAN_UNITS = 3

LOOKAHEAD = 2  # "No. 5": whether a full stop ends a sentence can hang on the second character after it.

_CLOSERS = "”’\"'）)】」』》〉]"
_SENTENCE_END = re.compile(rf"(?:[。！？；…\n]|[.!?;]+)[。！？；…\n.!?;]*[{re.escape(_CLOSERS)}]*")
_PAUSES = (re.compile(r"[，、：,:—]+\s*"), re.compile(r"\s+"))  # the better place first
_ABBREVIATION = re.compile(
    r"(?:^|[^A-Za-z])(?:Mr|Mrs|Ms|Dr|Prof|St|Jr|Sr|vs|Inc|Ltd|Co|Fig|e\.g|i\.e|a\.m|p\.m|approx|dept|est|[A-Z])\.$"
)
_NUMBER_SIGN = re.compile(r"(?:^|[^A-Za-z])(?:No|no|Nos|Vol|pp|p)\.$")


class Segmenter:
    """Takes text in pieces and gives the segments that are complete. Holds one text; make one a request."""

    def __init__(self) -> None:
        self._rest = ""

    def push(self, piece: str) -> Iterator[str]:
        """The segments that are complete once `piece` is added."""
        self._rest += piece
        yield from self._cut(final=False)

    def flush(self) -> Iterator[str]:
        """What is left, complete or not. The segmenter is empty afterwards."""
        yield from self._cut(final=True)

    def _cut(self, *, final: bool) -> Iterator[str]:
        start = 0
        while start < len(self._rest):
            end = _segment_end(self._rest, start, final=final)
            if end is None:
                break
            yield self._rest[start:end]
            start = end
        self._rest = self._rest[start:]


def split(text: str) -> Iterator[str]:
    """The segments of a whole text, lazily. Joined, they are the text again."""
    segmenter = Segmenter()
    yield from segmenter.push(text)
    yield from segmenter.flush()


def _segment_end(text: str, start: int, *, final: bool) -> int | None:
    """Where the segment that begins at `start` ends, or None while that cannot be known."""
    known = len(text) if final else len(text) - LOOKAHEAD
    limit = _limit(text, start)
    for match in _SENTENCE_END.finditer(text, start, limit):
        if match.end() > known:
            return None
        if _ends_sentence(text, start, match):
            return match.end()
    if limit < len(text) and limit <= known:
        return _clause_end(text, start, limit)
    return len(text) if final else None


def _limit(text: str, start: int) -> int:
    units = 0
    for position in range(start, len(text)):
        units += HAN_UNITS if text[position] >= "\u2e80" else 1
        if units > LIMIT:
            return position
    return len(text)


def _ends_sentence(text: str, start: int, match: re.Match[str]) -> bool:
    mark = match.group()
    if mark[0] not in ".!?;":
        return True
    after = text[match.end() : match.end() + LOOKAHEAD]
    if after and after[0].isascii() and not after[0].isspace():
        return False  # 3.14, cosyserve.toml, ?a=1;b=2
    if not mark.startswith(".") or mark.startswith(".."):
        return True
    before = text[start : match.start() + 1]
    if _NUMBER_SIGN.search(before):
        return not re.match(r"\s\d", after)
    return not _ABBREVIATION.search(before)


def _clause_end(text: str, start: int, limit: int) -> int:
    """The last pause before `limit`, else `limit`: better a cut inside a word than an endless segment."""
    for pause in _PAUSES:
        ends = [match.end() for match in pause.finditer(text, start, limit)]
        if ends:
            return ends[-1]
    return limit
