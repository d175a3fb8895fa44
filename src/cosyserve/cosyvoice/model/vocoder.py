"""The interface of a vocoder that streams, for either edition."""

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from torch import Tensor

Spoken = tuple[Tensor, ...]


class Hop(Protocol):
    """What a stream is about to speak. It may be spoken again, if that fails."""

    @property
    def frames(self) -> int:
        """How many its row has to have room for."""
        ...


Speak = Callable[[Sequence[Any]], list[Tensor]]


class VocoderStream(Protocol):
    """One utterance whose mel comes a few frames at a time."""

    def push(self, mel: Tensor, *, final: bool = False) -> Tensor:
        """The samples (n,) that `mel` (1, 80, T) completes; with `final`, all that are left."""
        ...

    def hop(self, mel: Tensor, *, final: bool = False) -> Any:
        """The `Hop` that can be spoken now that `mel` is there. None if it completes no sample."""
        ...


class Rows(Protocol):
    """Hops of several streams side by side, in tensors that never move."""

    @property
    def spans(self) -> Tensor: ...

    def part(self, count: int, frames: int) -> "Rows":
        """Fewer rows of fewer frames in the same memory."""
        ...

    def put(self, hops: Sequence[Any]) -> None:
        """Each into a row."""
        ...

    def speak(self, *, padded: bool) -> Spoken:
        """All of them. Where not `padded`, the hops are as long as the rows."""
        ...

    def take(self, spoken: Spoken, hops: Sequence[Any]) -> list[Tensor]:
        """The samples (n,) that each hop completes."""
        ...


class HasRows(Protocol):
    def rows(self, count: int, frames: int) -> Rows:
        """Room for so many hops side by side."""
        ...


class Vocoder(HasRows, Protocol):
    """`Hift` and `CausalHift`."""

    exact: bool

    def stream(self, seed: int, *, whole: bool = False, speak: Speak | None = None) -> VocoderStream:
        """An utterance; a `whole` one needs not be heard soon. `speak` is for hops that are not to be spoken in memory
        of their own."""
        ...

    def windows(self, first: int, later: int) -> tuple[int, ...]:
        """Frames of rows that have room for all hops of a stream whose first and later ones have so many; the smallest
        first."""
        ...


def together(vocoder: HasRows, hops: Sequence[Any]) -> list[Tensor]:
    """The samples (n,) that hops of one length complete, in memory of their own."""
    rows = vocoder.rows(len(hops), hops[0].frames)
    rows.put(hops)
    return rows.take(rows.speak(padded=False), hops)
