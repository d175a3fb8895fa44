"""Pinyin and phonemes as people write them, and the marks that stand for them while a text is prepared."""

import re
import unicodedata

from cosyserve.cosyvoice.frontend.marks import INITIALS, PHONEMES, PINYIN, toned
from cosyserve.text.marks import hidden_mark

_INITIALS = (*sorted(INITIALS, key=len, reverse=True), "")
_NEUTRAL = "05"  # tones that are written as none
_SYLLABLE = re.compile(r"([^\W\d_]{1,8})([0-5]?)")


def pinyin(written: str) -> str | None:
    """`hang2 zhang3`, `háng zhǎng` or `[h][áng][zh][ǎng]` in hidden marks; None where the model has no mark for a part
    of it."""
    return _marks([_syllable(name) for name in _names(unicodedata.normalize("NFC", written).lower())])


def phonemes(written: str) -> str | None:
    """CMU's, `HH AH0 L OW1` or `[HH][AH0][L][OW1]`, in hidden marks; None where one of them is unknown."""
    return _marks([[name] if f"[{name}]" in PHONEMES else None for name in _names(written)])


def _names(written: str) -> list[str]:
    return re.sub(r"[\[\]]", " ", written).split()


def _marks(parts: list[list[str] | None]) -> str | None:
    if not parts or None in parts:
        return None
    return "".join(hidden_mark(f"[{name}]") for part in parts if part for name in part)


def _syllable(written: str) -> list[str] | None:
    """Its initial and its final, as the model's tokens have them."""
    if f"[{written}]" in PINYIN:
        return [written]
    match = _SYLLABLE.fullmatch(written)
    if match is None:
        return None
    letters, tone = match.groups()
    for initial in _INITIALS:
        final = _final(letters.removeprefix(initial), tone)
        if letters.startswith(initial) and f"[{final}]" in PINYIN:
            return [initial, final] if initial else [final]
    return None


def _final(letters: str, tone: str) -> str:
    """With its tone as an accent. The model's tokens write `üe` as `ve`."""
    letters = re.sub(r"ü(?=[eēéěè])", "v", re.sub("v(?!e)", "ü", letters))
    return toned(letters, int(tone)) if tone and tone not in _NEUTRAL and letters else letters
