"""Finds what can be said of a sentence before all of it is there.

A sentence is cut only where nothing that follows changes how the part before is said: behind the mark of a clause,
between plain words, or in a long run of a script without blanks. Whether a place is such a one depends on the sentence
before it and on a few characters behind it, so a text in pieces has the fragments that it has as a whole.
"""

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass

from cosyserve.text.lexicon import NO_WORDS, Words
from cosyserve.text.sentences import BEFORE_A_QUOTE, LONGEST, LONGEST_INSIDE, Sentences

_SHORTEST = 12  # characters, unless they end with the mark of a clause
_CLEAR = 5  # letters on both sides of a cut that no blank or mark offers
_SEEN = LONGEST // 2  # characters of a sentence that are cut: from there on `Sentences` may end one that is too long
_WORDS_SEEN = 100  # characters before a blank in which the words before it are looked for

_WIDE = r"[\u3005\u3007\u3041-\u3096\u309d-\u309f\u30a1-\u30fa\u30fc-\u30ff\u3400-\u9fff\uac00-\ud7a3\uf900-\ufaff]"
_NEVER_FIRST = "ぁぃぅぇぉっゃゅょゎァィゥェォッャュョヮーゝゞヽヾ々〻"  # belong to the letter before them
_PAIRS = dict(zip("“「『《〈【（([{<", "”」』》〉】）)]}>", strict=True))
_PAIRS |= {"<strong>": "</strong>", "<laughter>": "</laughter>", '"': '"', "`": "`", "$": "$", "==": "=="}
_EVENT = re.compile(
    r"(?P<close></(?:strong|laughter)>|[”」』》〉】）)\]}>])"
    r"|(?P<open><(?:strong|laughter)>|[“「『《〈【（(\[{]|<(?=[A-Za-z/!|]))"
    r"|(?P<toggle>[\"`]|\$(?!\d)|==)"  # opens and closes
    r"|(?P<line>\n)"
    r"|(?P<stop>[|\\])"  # of a table or a formula, of which any part may change the rest
    r"|(?P<mark>[，、：]+|—+)"  # what else ends a clause ends a sentence, too
    r"|(?P<blank>(?<=\S) (?=\S))"
    rf"|(?P<run>{_WIDE}{{{2 * _CLEAR},}})"
)
_HEARD = re.compile(r"[^\W_]")  # a fragment has a letter or a digit
_WIDE_START = re.compile(f"{_WIDE}{{{_CLEAR}}}")
_BEGINS = re.compile(rf"[^\W_]|[{re.escape(''.join(sign for sign in _PAIRS if len(sign) == 1))}]")
_CLAUSE_ENDS = (",", ";", ":")
_ALONE = ("a", "A", "I")  # words of one letter; others may be initials, or signs of a formula


@dataclass(frozen=True)
class Fragment:
    """Some characters of a sentence; `ends` tells whether they are its last ones."""

    text: str
    ends: bool


class Fragments:
    """Takes text in pieces and gives fragments of its sentences. Holds one text; joined, they are the text.

    No cut parts one of `words`, nor what may become one.
    """

    def __init__(self, words: Words = NO_WORDS) -> None:
        self._sentences, self._words = Sentences(), words
        self._done = 0  # characters of the unfinished sentence that were given
        self._looked = 0  # characters of it that were looked at

    def push(self, piece: str) -> Iterator[Fragment]:
        """What can be said once `piece` is added."""
        for sentence in self._sentences.push(piece):
            yield from self._complete(sentence)
        unfinished = self._sentences.unfinished[:_SEEN]
        if len(unfinished) > self._looked:
            yield from self._opened(unfinished, complete=False)
            self._looked = len(unfinished)

    def flush(self) -> Iterator[Fragment]:
        """What is left."""
        for sentence in self._sentences.flush():
            yield from self._complete(sentence)

    def _complete(self, sentence: str) -> Iterator[Fragment]:
        yield from self._opened(sentence[:_SEEN], complete=len(sentence) <= _SEEN)
        last, self._done, self._looked = sentence[self._done :], 0, 0
        yield Fragment(last, ends=True)

    def _opened(self, text: str, *, complete: bool) -> Iterator[Fragment]:
        while (cut := _cut(text, self._done, self._words, complete=complete)) is not None:
            start, self._done = self._done, cut
            yield Fragment(text[start:cut], ends=False)


def _cut(text: str, start: int, words: Words, *, complete: bool) -> int | None:
    """The first safe place behind `start` in a sentence, or None if there is none, or it cannot be known yet."""
    inside, heard = _Inside(), _HEARD.search(text, start)
    for match in _EVENT.finditer(text, start) if heard else ():
        if match.lastgroup == "stop":
            return None
        if not inside.is_outside(match) or (heard and match.end() <= heard.start()):
            continue
        for place, safe in _places(match, start):
            if safe:
                parts = words.within(text, place, complete=complete)
                safe = None if parts is None else not parts
            if safe is None:
                return None
            if safe:
                return place
    return None


class _Inside:
    """Which quotes, brackets or tags are open, the outermost alone."""

    def __init__(self) -> None:
        self._sign, self._depth, self._since = "", 0, 0

    def is_outside(self, match: re.Match[str]) -> bool:
        """Takes one more event, and says whether it is a place outside of all."""
        kind, sign, offset = match.lastgroup, match.group(), match.start()
        if kind == "line" or offset - self._since > LONGEST_INSIDE:
            self._sign = ""
        if self._sign:
            self._depth += -1 if sign == _PAIRS[self._sign] else sign == self._sign
            self._sign = self._sign if self._depth else ""
            return False
        if kind == "open" or (kind == "toggle" and (sign != '"' or _opens_quote(match))):
            self._sign, self._depth, self._since = sign, 1, offset
        return kind in ("mark", "blank", "run")


def _opens_quote(match: re.Match[str]) -> bool:
    return BEFORE_A_QUOTE.search(match.string[max(0, match.start() - 1) : match.start()]) is not None


def _places(match: re.Match[str], start: int) -> Iterator[tuple[int, bool | None]]:
    """Where a fragment from `start` on may end, and whether it may; None where that cannot be known yet."""
    text, kind = match.string, match.lastgroup
    if kind == "run":
        for place in range(max(match.start() + _CLEAR, start + _SHORTEST), match.end() - _CLEAR + 1):
            yield place, text[place] not in _NEVER_FIRST
    elif kind == "blank":
        yield match.start(), _may_end(text, start, match.start()) and _plain_words_follow(text, match.start())
    else:
        yield match.end(), _is_clause(match)


def _may_end(text: str, start: int, place: int) -> bool:
    """Whether what stands before a blank can be said without what follows."""
    before = text[max(0, place - _WORDS_SEEN) : place].split()[-2:]
    if before[-1].endswith(_CLAUSE_ENDS) and "&" not in before[-1]:
        return True
    return place - start >= _SHORTEST and len(before) > 1 and all(map(_is_plain, before))


def _plain_words_follow(text: str, place: int) -> bool | None:
    """Whether two words that are nothing but words stand behind the blank at `place`."""
    for between in (" ", ""):
        word = re.split(r"\s", text[place + 1 :], maxsplit=1)[0]
        end = place + 1 + len(word)
        if _WIDE_START.match(word):
            return True
        if end == len(text):
            return None if not word or _is_of_letters(word.rstrip("".join(_CLAUSE_ENDS))) else False
        if not _is_plain(word) or (between and text[end] != between):
            return False
        place = end
    return True


def _is_plain(word: str) -> bool:
    letters = word[:-1] if word.endswith(_CLAUSE_ENDS) else word
    if len(letters) < 2:
        return letters in _ALONE or re.match(_WIDE, letters) is not None
    return _is_of_letters(letters)


def _is_of_letters(word: str) -> bool:
    return all(each.isalpha() or each in "'’" or unicodedata.category(each)[0] == "M" for each in word)


def _is_clause(match: re.Match[str]) -> bool | None:
    """Whether a mark ends a clause, and what follows begins another."""
    text = match.string
    before, following = text[match.start() - 1 : match.start()], text[match.end() :].lstrip(" ")[:1]
    if not following:
        return None
    if "—" in match.group() and not (re.match(_WIDE, before) and re.match(_WIDE, following)):
        return False
    return not before.isdigit() and _BEGINS.match(following) is not None
