"""Who a request comes from, and how much they may do."""

import unicodedata
from typing import Annotated, Literal, get_args

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

LONGEST_NAME = 48
_SIGNS = "._-@"
MOST_OF_A_LIMIT = 10**12  # numbers beyond have no use and would not fit everywhere

Priority = Literal["high", "normal", "low"]
PRIORITIES: tuple[Priority, ...] = get_args(Priority)
Limit = Annotated[int, Field(ge=1, le=MOST_OF_A_LIMIT)]


class Limits(BaseModel):
    """None means without a limit. A day is one of UTC, a minute any 60 seconds."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    requests_per_minute: Limit | None = None
    characters_per_minute: Limit | None = None
    requests_per_day: Limit | None = None
    characters_per_day: Limit | None = None


def composed(name: str) -> str:
    """A name in the form in which it is kept and found."""
    return unicodedata.normalize("NFC", name.strip())


def fits(name: str) -> bool:
    """Whether a key may have that name: it stands in tables, in the log and in metrics."""
    letters = all(character.isalnum() or unicodedata.combining(character) or character in _SIGNS for character in name)
    return letters and 0 < len(name) <= LONGEST_NAME and name == composed(name) and name[0].isalnum() and name != "main"


def _checked(name: str) -> str:
    if not fits(name):
        raise ValueError("a key cannot have that name")
    return name


class Key(BaseModel):
    """The key of a request. `MAIN` stands for each of the owner's, and for requests to a server that needs none."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    name: str
    priority: Priority = "normal"
    limits: Limits = Limits()

    @property
    def rank(self) -> int:
        """Its place among the priorities; 0 goes first."""
        return PRIORITIES.index(self.priority)


class NamedKey(Key):
    """A key in the file of named keys. `sha256` is the digest of its bytes, of which 256 bits are random: so a slower
    digest would not make guessing harder."""

    name: Annotated[str, AfterValidator(_checked)]
    sha256: str = Field(pattern="^[0-9a-f]{64}$")
    created: str = Field("", max_length=32)


MAIN = Key(name="main")
NO_LIMITS = MAIN.limits
