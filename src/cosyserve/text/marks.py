"""Marks that a text may hold for the model: sounds such as `[breath]`, tags around words, and for some models phonemes
and pinyin. They pass as they are.

A phoneme is one character from a private area of Unicode (`hidden`) from the first rule to the last, so that no rule
changes it, no cut parts it, and none comes about where none was written.
"""

import re
import unicodedata

from cosyserve.cosyvoice.frontend.marks import FINALS, INITIALS, PHONEMES, PINYIN, TONED, VOWELS
from cosyserve.text.mapped import Mapped

SOUNDS = (
    *(
        "[breath]",
        "[noise]",
        "[laughter]",
        "[cough]",
        "[clucking]",
        "[accent]",
        "[quick_breath]",
        "[hissing]",
        "[sigh]",
    ),
    *("[vocalized-noise]", "[lipsmack]", "[mn]"),
)
TAGS = ("<strong>", "</strong>", "<laughter>", "</laughter>")

_PRONUNCIATION = (*PHONEMES, *PINYIN)
_FIRST = 0x10FE00  # in the last private area, which fonts of icons leave free
AREA = f"{chr(_FIRST)}-{chr(_FIRST + len(_PRONUNCIATION) - 1)}"  # as a range of a pattern
_HIDDEN = {mark: chr(_FIRST + place) for place, mark in enumerate(_PRONUNCIATION)}
_SHOWN = {character: mark for mark, character in _HIDDEN.items()}

SOUND = re.compile("|".join(map(re.escape, SOUNDS)))
# Controls of tokenizers (`<|endofprompt|>`) are no marks, but plain characters; they stay as they are, too.
PROTECTED = re.compile("|".join(map(re.escape, SOUNDS + TAGS)) + rf"|<\|[^|<>\n]{{1,40}}\|>|[{AREA}]")
PRONOUNCED = re.compile(f"[{AREA}]")


def _any(names: list[str]) -> str:
    return rf"\[(?:{'|'.join(sorted(names, key=len, reverse=True))})\]"


_HAN = r"\u3007\u3400-\u9fff\uf900-\ufaff"
_PHONEME = rf"\[(?:{'|'.join(mark[1:-1] for mark in PHONEMES)})\]"
_VOWEL = rf"\[(?:{'|'.join(VOWELS)})[012]?\]"
_STRESSED = rf"\[(?:{'|'.join(VOWELS)})[012]\]"
_INITIAL, _PLAIN, _TONED = _any(INITIALS), _any(FINALS), _any(TONED)
# What is written in brackets is mostly something else: `a[i]`, `[b]bold[/b]`, [in] for a word left out, note [a],
# answer [B]. A vowel with a stress and a final with a tone are clear, and so is what belongs to their word. Without
# one a word of two phonemes at least has a vowel, and a syllable of pinyin an initial, or a Han character before it;
# none of those stands behind a letter or a bracket, as an index does.
_NO_INDEX = "|".join((r"(?<![A-Za-z0-9_)\]])", *(f"(?<={re.escape(sound)})" for sound in SOUNDS)))
_CLEAR = rf"(?:{_PHONEME})*{_STRESSED}|(?:{_INITIAL})?{_TONED}"
_LIKELY = rf"(?:{_NO_INDEX})(?:{_INITIAL}{_PLAIN}|(?:{_PHONEME})+{_VOWEL}|{_VOWEL}(?={_PHONEME}))|(?<=[{_HAN}]){_PLAIN}"
_MORE = rf"{_PHONEME}|(?:{_INITIAL})?{_TONED}|{_INITIAL}{_PLAIN}"
_WRITTEN = re.compile(rf"(?:{_CLEAR}|{_LIKELY})(?:{_MORE})*(?!\()")  # a bracket would be a link's
_MARK = re.compile("|".join(map(re.escape, _PRONUNCIATION)))


_DECOMPOSED = re.compile("[aeiouü][\u0300\u0301\u0304\u0308\u030c]+")
_SPACED = re.compile(r"[A-Za-z0-9\]]")  # what a name without its brackets is not to stick to


def _composed(match: re.Match[str]) -> str:
    return unicodedata.normalize("NFC", match.group())


def hidden_mark(mark: str) -> str:
    """The character that stands for a phoneme."""
    return _HIDDEN[mark]


def hidden(text: Mapped, *, holds_some: bool = False) -> Mapped:
    """With a character for each phoneme that somebody wrote, and without such characters that somebody wrote, unless
    those that it holds are ours."""
    text = text if holds_some else text.sub("private", PRONOUNCED, "")
    text = text.sub("composition", _DECOMPOSED, _composed)
    marks = [mark for word in _WRITTEN.finditer(text.text) for mark in _MARK.finditer(text.text, *word.span())]
    return text.replaced("pronunciation", [(*mark.span(), _HIDDEN[mark.group()]) for mark in marks])


def shown(text: Mapped) -> Mapped:
    """The phonemes as the model reads them; what only looks like one loses its brackets."""
    text = text.sub("bracket", _MARK, _bare)
    return text.sub("pronunciation", PRONOUNCED, lambda mark: _SHOWN[mark.group()])


def _bare(mark: re.Match[str]) -> str:
    before, after = mark.string[: mark.start()][-1:], mark.string[mark.end() :][:1]
    return " " * bool(_SPACED.match(before)) + mark.group()[1:-1] + " " * bool(_SPACED.match(after))


def without_pronunciation(text: str) -> str:
    """What is left to tell the language by."""
    return _WRITTEN.sub("", text)


def has_sound(text: str) -> bool:
    """Whether anything in it is to be heard."""
    return any(map(str.isalnum, text)) or PRONOUNCED.search(text) is not None


def has_speech(text: str) -> bool:
    """Whether there is a letter, a digit or a phoneme beside the other marks."""
    return any(map(str.isalnum, PROTECTED.sub("", text))) or PRONOUNCED.search(text) is not None
