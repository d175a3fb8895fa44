"""How single words are said: an entry gives a word a respelling, pinyin or phonemes.

Words are found as they are written, case included, the longest first. A word of a script that writes blanks between
words is found as a whole: `cat` is not in `category`. In Chinese, Japanese, Thai and the like it is found wherever it
is, and so it is in Korean, whose particles stick to words.
"""

import re
import unicodedata
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from cosyserve.text.mapped import Mapped
from cosyserve.text.marks import PROTECTED
from cosyserve.text.pronunciation import phonemes, pinyin

LONGEST_WORD, LONGEST_SAID = 64, 200  # characters
# By which a sentence may grow, so that a short text with long respellings is not the work of a hundred long ones.
MOST_ADDED = 2000

_RULE = "lexicon"
# Addresses and tags are no words, and what they are made of is not to be parted.
_SKIPPED = re.compile(
    rf"{PROTECTED.pattern}|</?[A-Za-z!][^<>]{{0,500}}>|\]\([^()\s]{{0,2000}}\)|\b[A-Za-z]{{1,20}}://\S+"
    r"|(?<![\w.+-])[\w.+-]{1,64}@[\w.-]+"
)
_UNSPACED = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1100-\u11ff\u1780-\u17ff\u3005-\u3007\u3040-\u30ff\u3130-\u318f\u31f0-\u31ff\u3400-\u9fff"
    "\uac00-\ud7ff\uf900-\ufaff\uff66-\uffdc\U00020000-\U0003ffff]"
)
_APOSTROPHES = "'’"
_TAILS = frozenset(("t", "s", "re", "ll", "ve", "d", "m"))  # what is left of a word behind an apostrophe
_NEGATED = re.compile(r"['’]t(?![^\W_])", re.IGNORECASE)  # `Don` is no word of `Don't`


class Unfit(NamedTuple):
    """Why an entry cannot be used."""

    reason: str
    reason_zh: str


@dataclass(frozen=True)
class Pronunciation:
    """How `word` is said. Pinyin or phonemes go first where the model takes them; the respelling is for the others.
    `voice` is the name of the only voice that says it so; empty means all."""

    word: str
    respelling: str = ""
    pinyin: str = ""
    phonemes: str = ""
    voice: str = ""

    def said(self, *, pronounced: bool) -> str | None:
        """What takes the word's place; None where it stays as it is."""
        marks = (pinyin(self.pinyin) or phonemes(self.phonemes)) if pronounced else None
        return marks or self.respelling or None

    def unfit(self) -> Unfit | None:
        if not is_word(self.word):
            return Unfit(
                f"a word has 1 to {LONGEST_WORD} characters of one line, one of them a letter or a digit, "
                "and no blank or slash at its ends",
                f"单词须为 1 至 {LONGEST_WORD} 个字符、不换行、至少含一个文字或数字，首尾不能是空格或斜杠",
            )
        if max(map(len, (self.respelling, self.pinyin, self.phonemes))) > LONGEST_SAID:
            return Unfit(f"more than {LONGEST_SAID} characters", f"超过 {LONGEST_SAID} 个字符")
        if self.pinyin and self.phonemes:
            return Unfit("it has pinyin and phonemes; give one of them", "拼音和音素只能给出一种")
        if self.pinyin and pinyin(self.pinyin) is None:
            return Unfit("the pinyin has a syllable that the model has no marks for", "拼音中有模型不支持的音节")
        if self.phonemes and phonemes(self.phonemes) is None:
            return Unfit("the phonemes are not all CMU's", "音素不全是 CMU 音素")
        if not (self.pinyin or self.phonemes or _is_line(self.respelling)):
            return Unfit(
                "it needs 'respelling' with a letter or a digit, 'pinyin', or 'phonemes'",
                "须给出 respelling（含文字或数字的替换读法）、pinyin（拼音）或 phonemes（音素）",
            )
        return None


def plain(word: str) -> str:
    """The form a word is kept and found in: composed."""
    return unicodedata.normalize("NFC", word)


def is_word(word: str) -> bool:
    return len(word) <= LONGEST_WORD and word == plain(word).strip().strip("/") and _is_line(word)


def _is_line(text: str) -> bool:
    """Whether it has something to say, and no control characters, line ends included."""
    return any(map(str.isalnum, text)) and not any(
        unicodedata.category(each)[0] in "CZ" for each in text if each != " "
    )


class Words:
    """What is said for each word of `table`. It holds nothing of a text, so threads may share it."""

    def __init__(self, table: Mapping[str, str]) -> None:
        self._table, self._sorted = table, sorted(table)
        lengths: defaultdict[str, set[int]] = defaultdict(set)
        for word in table:
            lengths[word[0]].add(len(word))
        self._lengths = {first: sorted(found, reverse=True) for first, found in lengths.items()}

    @classmethod
    def of(cls, entries: Iterable[Pronunciation], voice: str, *, pronounced: bool) -> "Words":
        """The words as `voice` says them, whose own entries go before those of all voices."""
        mine = sorted((entry for entry in entries if entry.voice in ("", voice)), key=lambda entry: entry.voice)
        table = {entry.word: entry.said(pronounced=pronounced) for entry in mine}
        return cls({word: said for word, said in table.items() if said is not None})

    def __bool__(self) -> bool:
        return bool(self._table)

    def applied(self, text: Mapped) -> Mapped:
        """A sentence with what is said in place of its words. Words that would make it longer by more than
        `MOST_ADDED` characters stay as they are."""
        if not self._table:
            return text
        edits, added = [], 0
        for start, end, said in self._found(text.text):
            grown = added + len(said) - (end - start)
            if grown <= MOST_ADDED:
                edits.append((start, end, said))
                added = grown
        return text.replaced(_RULE, edits)

    def within(self, text: str, place: int, *, complete: bool) -> bool | None:
        """Whether some word stands on both sides of `place`; None while what follows an incomplete text may make one.

        Such a word need not be whole, as `applied` wants it."""
        unknown = False
        for start in range(max(0, place - LONGEST_WORD + 1), place) if self._table else ():
            for length in self._lengths.get(text[start], ()):
                word = text[start : start + length]
                if start + length <= place:
                    break
                if start + length < len(text) or complete:
                    if word in self._table:
                        return True
                elif self._may_become(word):
                    unknown = True
        return None if unknown else False

    def _may_become(self, beginning: str) -> bool:
        place = bisect_left(self._sorted, beginning)
        return any(word.startswith(beginning) for word in self._sorted[place : place + 1])

    def _found(self, text: str) -> Iterator[tuple[int, int, str]]:
        done = 0
        for skipped in (*(match.span() for match in _SKIPPED.finditer(text)), (len(text), len(text))):
            yield from self._between(text, done, skipped[0])
            done = skipped[1]

    def _between(self, text: str, start: int, end: int) -> Iterator[tuple[int, int, str]]:
        while start < end:
            word = self._at(text, start, end)
            if word is not None:
                yield start, start + len(word), self._table[word]
            start += len(word or " ")

    def _at(self, text: str, start: int, end: int) -> str | None:
        """The longest word that begins here."""
        for length in self._lengths.get(text[start], ()):
            word = text[start : start + length]
            if start + length <= end and word in self._table and _is_whole(text, start, start + length):
                return word
        return None


NO_WORDS = Words({})


def _is_whole(text: str, start: int, end: int) -> bool:
    if _continues(text, start) or _continues(text, end) or _NEGATED.match(text, end):
        return False
    behind = start > 1 and text[start - 1] in _APOSTROPHES and text[start - 2].isalpha()
    return not (behind and text[start:end].lower() in _TAILS)


def _continues(text: str, place: int) -> bool:
    """Whether one word stands on both sides of `place`. A low line joins letters, but may also stand around a word."""
    before, after = text[max(0, place - 2) : place], text[place : place + 2]
    if before[-1:] == "_":
        before = before[:-1]
    if after[:1] == "_":
        after = after[1:]
    return bool(before and after) and _joins(before[-1]) and _joins(after[0])


def _joins(character: str) -> bool:
    letter = character.isalnum() or unicodedata.category(character)[0] == "M"
    return letter and not _UNSPACED.match(character)
