"""What a text may be at all."""

import unicodedata

from cosyserve import errors
from cosyserve.errors import CosyError

# Characters. Thirty seconds of the fastest speech are fewer than 1,000, and no instruction needs more.
LONGEST_FIELD = 1000


def is_speakable(text: str) -> bool:
    """Whether the text has a letter or a digit of any script. Punctuation and emoji have no sound: they are silence."""
    return any(character.isalnum() for character in text)


def checked(text: str, max_chars: int) -> str:
    """A whole text that is to be spoken; raises `CS-TEXT-…`."""
    if len(text) > max_chars:
        raise CosyError(errors.TEXT_TOO_LONG, length=len(text), limit=max_chars)
    encodable = checked_piece(text)
    if not encodable.strip():
        raise CosyError(errors.TEXT_EMPTY)
    return encodable


def checked_piece(text: str) -> str:
    """Any part of a text, without control characters; raises `CS-TEXT-003`."""
    if any(character == "\0" or unicodedata.category(character) == "Cs" for character in text):
        raise CosyError(errors.TEXT_UNENCODABLE)
    return "".join(c for c in text if c.isspace() or unicodedata.category(c) != "Cc")


def checked_field(name: str, text: str, limit: int = LONGEST_FIELD) -> str:
    """The text of a field beside the one that is spoken; raises `CS-TEXT-006`, `CS-TEXT-003`."""
    if len(text) > limit:
        raise CosyError(errors.FIELD_TOO_LONG, param=name, field=name, length=len(text), limit=limit)
    return checked_piece(text)
