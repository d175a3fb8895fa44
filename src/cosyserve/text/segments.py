"""Joins sentences to segments that the model speaks well: 60 to 80 units, as upstream does.

A unit is a wide character, as Han characters are, or about a token of any other text.
"""

import re
from collections.abc import Iterator
from itertools import pairwise

from cosyserve.text.mapped import Mapped
from cosyserve.text.marks import AREA, has_speech

FULL, ENOUGH, TAIL = 80, 60, 20  # upstream's token_max_n, token_min_n, merge_len
LONGEST = 120  # half a minute, the longest that the model was made for: a longer sentence is cut at its clauses

_SEALED = re.compile(
    r"<(strong|laughter)>.*?</\1>|“[^“”]*”|「[^「」]*」|『[^『』]*』|\"[^\"]*\"|\[[^\[\]]*\]|<[^<>]*>", re.DOTALL
)
_CLAUSE = re.compile(r"[，、；：…—]+|[,;:]+(?=\s)")
_WORD_END = re.compile(r"\s+")
_ENDS, PAUSES = "。！？；.!?;", "，、：,:—–- "
_WIDE = re.compile(r"[\u2e80-\u312f\u3190-\ua4cf\uf900-\uffdf\U00020000-\U0003ffff]")
_UNIT = re.compile(
    rf"{_WIDE.pattern}|[{AREA}]|[A-Za-z'’]{{1,9}}|\d|[^\W\d_]{{1,2}}|[^\w\s]+?(?={_WIDE.pattern}|[\w\s]|$)|_"
)


def units(text: str) -> int:
    return len(_UNIT.findall(text))


class Segments:
    """Takes the sentences of a text and gives segments. Holds one text."""

    def __init__(self, *, first_alone: bool, spaced: bool = True) -> None:
        """`first_alone` is for those who listen while it is made: the first sentence is not to wait for others.
        `spaced` puts spaces between sentences where their script has them."""
        self._first, self._join = first_alone, joined if spaced else Mapped.__add__
        self._held: Mapped | None = None  # complete, but a tail may still join it
        self._tail = TAIL  # units of what would join it
        self._open: Mapped | None = None

    def push(self, sentence: Mapped) -> Iterator[Mapped]:
        """The segments that are complete once `sentence` is added."""
        # What was changed by which rule is of no use from here on, and would be copied for each part.
        for part in parts_of(Mapped(sentence.text, sentence.offsets)):
            yield from self._add(part)

    def flush(self) -> Iterator[Mapped]:
        """All that is left; there may be more to come."""
        held, self._held, last, self._open = self._held, None, self._open, None
        if held is not None and last is not None and not self._is_segment(last):
            held, last = self._join(held, last), None
        for segment in (held, last):
            if segment is not None:
                self._first = False
                yield segment

    def _add(self, part: Mapped) -> Iterator[Mapped]:
        if self._open is None:
            self._open = part
        elif self._is_full(self._open, part):
            if self._held is not None:
                yield self._held
            self._held, self._open, self._tail = self._open, part, TAIL
        else:
            self._open = self._join(self._open, part)
        if self._held is not None and self._is_segment(self._open):
            yield self._held
            self._held = None
        if self._first and has_speech(self._open.text):
            self._held, self._open, self._first, self._tail = self._open, None, False, 0

    def _is_full(self, segment: Mapped, part: Mapped) -> bool:
        size, both = units(segment.text), units(self._join(segment, part).text)
        return has_speech(part.text) and ((both > FULL and size > ENOUGH) or (both > LONGEST and size >= TAIL))

    def _is_segment(self, segment: Mapped) -> bool:
        """Whether it is no mere tail of what is held. A lone mark is one always."""
        return has_speech(segment.text) and units(segment.text) >= self._tail


def joined(one: Mapped, other: Mapped) -> Mapped:
    """Two sentences as one text."""
    if not one.text or not other.text:
        return one + other
    apart = one.text[-1].isspace() or other.text[0].isspace() or _WIDE.match(one.text[-1]) or _WIDE.match(other.text[0])
    return (one if apart else one.ended(" ")) + other


def ended(segment: Mapped, mark: str) -> Mapped:
    """With a mark at its end: a pause becomes one, or it is added."""
    bare = segment.cut(0, len(segment.text.rstrip(PAUSES)))
    return bare if bare.text[-1:] in tuple(_ENDS) else bare.ended(mark)


def parts_of(sentence: Mapped) -> list[Mapped]:
    """A sentence, or its clauses where it is too long, joined as far as they may be."""
    if units(sentence.text) <= LONGEST:
        return [sentence]
    parts: list[Mapped] = []
    for clause in _clauses(sentence):
        if parts and units(parts[-1].text + clause.text) <= FULL:
            parts[-1] += clause
        else:
            parts.append(clause)
    if len(parts) > 1 and units(parts[-1].text) < TAIL:
        tail = parts.pop()
        parts[-1] += tail
    return parts


def _clauses(sentence: Mapped) -> Iterator[Mapped]:
    """What lies between pauses; between spaces, or anywhere, where that is too long. Quotes and tags stay whole,
    as long as they are not too long themselves."""
    pieces = [sentence]
    for ends in (_CLAUSE, _WORD_END, None):
        pieces = [part for piece in pieces for part in (_cut(piece, ends) if units(piece.text) > FULL else [piece])]
    yield from pieces


def _cut(piece: Mapped, ends: re.Pattern[str] | None) -> list[Mapped]:
    if ends is None:
        return [piece.cut(start, start + FULL) for start in range(0, len(piece.text), FULL)]
    sealed = [match.span() for match in _SEALED.finditer(piece.text) if units(match.group()) <= LONGEST]
    cuts = [match.end() for match in ends.finditer(piece.text)]
    cuts = [cut for cut in cuts if not any(start < cut < end for start, end in sealed)]
    offsets = [0, *cuts, len(piece.text)]
    return [piece.cut(start, end) for start, end in pairwise(offsets) if start < end]
