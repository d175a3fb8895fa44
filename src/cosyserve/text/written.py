"""What a reader finds of a segment: the text as it was written, not as it is said."""

import unicodedata
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from cosyserve.text.mapped import Mapped
from cosyserve.text.marks import has_sound

_OPENING = ("Ps", "Pi")  # Unicode's categories of brackets and quotation marks


@dataclass
class _Sentence:
    written: Mapped
    sounds: Sequence[int]  # offsets of what is heard of it, in their order


class Written:
    """Deals a text out to its segments. Sentences come in their order; holds what no segment has had yet."""

    def __init__(self) -> None:
        self._sentences: deque[_Sentence] = deque()

    def push(self, written: Mapped, said: Mapped) -> None:
        """One more sentence, and what is said of it."""
        heard = {place for place, each in zip(said.offsets, said.text, strict=True) if has_sound(each)}
        self._sentences.append(_Sentence(written, sorted(heard or said.offsets)))

    def take(self, end: int) -> str:
        """What was written of the segment whose last character has the offset `end` - 1; no blanks at its ends.

        It is one piece of the text. What is not said at all, such as a line of signs, is in it if it lies within. Of a
        sentence that is cut, the marks between two parts belong to the first part up to a blank or to what opens.
        """
        text = unsaid = ""
        while self._sentences:
            sentence = self._sentences[0]
            if sentence.sounds and sentence.sounds[0] >= end:
                break
            if sentence.sounds and sentence.sounds[-1] >= end:
                text += unsaid + _cut(sentence, end)
                break
            self._sentences.popleft()
            unsaid += sentence.written.text
            if sentence.sounds:
                text, unsaid = text + unsaid, ""
            elif not text:
                unsaid = ""
        return text.strip()


def _cut(sentence: _Sentence, end: int) -> str:
    """Takes the part before `end` from a sentence, of which something is left."""
    written = sentence.written
    sentence.sounds = [place for place in sentence.sounds if place >= end]
    cut = sum(place < end for place in written.offsets)
    for place, each in zip(written.offsets[cut:], written.text[cut:], strict=True):
        if place >= sentence.sounds[0] or each.isspace() or unicodedata.category(each) in _OPENING:
            break
        cut += 1
    sentence.written = written.cut(cut, len(written.text))
    return written.text[:cut]
