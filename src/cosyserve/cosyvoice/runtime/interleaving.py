"""Text and speech in turns: five text ids are read, fifteen speech tokens are drawn, and so on, as CosyVoice has been
trained to. So speech begins before its text is complete.

Behind each fifteenth token the model would say that it wants text (6563; CosyVoice3: 6564). It always does, so it is
not asked: as long as text may come, nothing but speech is drawn. What is left of the text at its end, fewer than five
ids, is read with the mark behind which only speech follows, and the model ends by itself.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain, islice

TEXT, SPEECH = 5, 15  # ids and tokens of a turn


def drawn_in_turns(ids: int, recorded: int) -> int:
    """The most tokens that are drawn while so many ids are read, words included."""
    return max(0, -(-ids // TEXT) * SPEECH - recorded)


class LiveText:
    """The text ids of an utterance, of which more may come. One thread adds, another reads."""

    def __init__(self) -> None:
        self.ids: list[int] = []
        self.complete = False

    @classmethod
    def of(cls, ids: Iterable[int]) -> "LiveText":
        """One that is complete."""
        text = cls()
        text.add(ids)
        text.end()
        return text

    def add(self, ids: Iterable[int]) -> None:
        self.ids.extend(ids)

    def end(self) -> None:
        """No more will come."""
        self.complete = True


@dataclass(frozen=True)
class Turn:
    """Text ids, the mark if they are the `last`, and speech tokens that are there already."""

    text: Sequence[int]
    speech: Sequence[int] = ()
    last: bool = False


class Turns:
    """What is read of `live`, and when. Before it stand the words of a recording, whose speech tokens take part in the
    turns as if the model had drawn them."""

    def __init__(self, words: Sequence[int], recorded: Sequence[int], live: LiveText) -> None:
        self._words, self._recorded, self._live = words, recorded, live
        self._read = 0  # of words and text
        self.due: int | None = 0
        """Speech tokens to be drawn before more text is read; None once all is read."""

    @property
    def ready(self) -> bool:
        """Whether `next` has what it needs. To begin that is the text for all that was recorded; where the recording
        ends with a turn, text for another, as nothing is drawn before that."""
        needed = TEXT if self._read else TEXT * self._turns_to_begin
        return self._live.complete or self._left >= needed

    @property
    def length(self) -> int:
        """Ids of the text so far, without the recording's words."""
        return len(self._live.ids)

    def next(self) -> list[Turn]:
        """What is read now. A text that is complete before anything of it was read is not read in turns."""
        if self._live.complete and (not self._read or self._left < TEXT):
            speech, self.due = () if self._read else self._recorded, None
            return [Turn(self._take(self._left), speech, last=True)]
        if self._read:
            self.due = SPEECH
            return [Turn(self._take(TEXT))]
        starts = range(0, SPEECH * self._turns_to_begin, SPEECH)
        turns = [Turn(self._take(TEXT), self._recorded[start : start + SPEECH]) for start in starts]
        self.due = SPEECH - len(turns[-1].speech)
        return turns

    @property
    def _turns_to_begin(self) -> int:
        return len(self._recorded) // SPEECH + 1

    @property
    def _left(self) -> int:
        return len(self._words) + len(self._live.ids) - self._read

    def _take(self, count: int) -> list[int]:
        begin, self._read = self._read, self._read + count
        return list(islice(chain(self._words, self._live.ids), begin, self._read))
