"""What a voice may be called, and which voice is meant by a name."""

import re
import unicodedata
from collections.abc import Mapping
from typing import TypeVar

from cosyserve import errors
from cosyserve.errors import CosyError

LONGEST = 48  # characters: 192 bytes at most, which leaves a file name room for an ending

_Voice = TypeVar("_Voice")

# Beside letters, digits and the signs of their script. The last four stand inside names in Chinese and Catalan,
# Japanese and Tibetan, and (they are invisible, the second joins) in Persian and Sinhala.
_WITHIN = frozenset(" _.-'’·・་\u200c\u200d")
# What Windows opens as a device, whatever ending it has.
_DEVICE = re.compile(r"(?:con|prn|aux|nul|(?:com|lpt)[0-9¹²³])\s*(?:\..*)?", re.IGNORECASE | re.DOTALL)

# Letters and marks that show nothing: fillers of Hangul, and what chooses between forms of the letter before.
_INVISIBLE = re.compile("[\u034f\u115f\u1160\u17b4\u17b5\u3164\uffa0\ufe00-\ufe0f\U000e0100-\U000e01ef]")


def plain(name: str) -> str:
    """The form a name is kept and compared in: composed, without spaces around it."""
    return unicodedata.normalize("NFC", name).strip()


def checked(name: str) -> str:
    """A plain name that is a file name on every system; raises `CS-VOICE-002`."""
    name = plain(name)
    if not is_name(name):
        raise CosyError(errors.VOICE_NAME, param="name")
    return name


def is_name(name: str) -> bool:
    """Whether a name may be given, once it is plain."""
    return (
        0 < len(name) <= LONGEST
        and name[0].isalnum()
        and all(map(_may_stand, name))
        and not name.endswith((".", "\u200c", "\u200d"))
        and not _DEVICE.fullmatch(name)
    )


def found(voices: Mapping[str, _Voice], name: str) -> _Voice | None:
    """The voice of exactly that name, else the only one that is called so in another case."""
    name = plain(name)
    if name in voices:
        return voices[name]
    alike = [voice for other, voice in voices.items() if are_alike(other, name)]
    return alike[0] if len(alike) == 1 else None


def are_alike(one: str, other: str) -> bool:
    """Whether two names differ in nothing but case and form."""
    return _folded(one) == _folded(other)


def _folded(name: str) -> str:
    # Capitals first, as some small letters (ı, ŉ) fold to something else than their capitals do.
    return unicodedata.normalize("NFD", unicodedata.normalize("NFD", plain(name)).upper().casefold())


def _may_stand(character: str) -> bool:
    if _INVISIBLE.match(character):
        return False
    return character.isalnum() or character in _WITHIN or unicodedata.category(character).startswith("M")
