"""A text that is rewritten step by step and still knows where each of its characters comes from."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher

Replacement = str | Callable[[re.Match[str]], str]


# Characters times characters, beyond which texts are not compared: that takes the square of it.
_COMPARED = 20_000


@dataclass(frozen=True)
class Change:
    """Characters `start` to `end` of the original that were rewritten, and the rule that did it."""

    start: int
    end: int
    rule: str


@dataclass(frozen=True)
class Mapped:
    """`offsets` has a number for each character of `text`: where in the original it stands, or what it stands for."""

    text: str
    offsets: tuple[int, ...]
    changes: tuple[Change, ...] = ()

    @classmethod
    def original(cls, text: str, start: int = 0) -> "Mapped":
        return cls(text, tuple(range(start, start + len(text))))

    def sub(self, rule: str, pattern: re.Pattern[str], replacement: Replacement) -> "Mapped":
        """As `re.sub`, in the name of a rule."""
        edits = []
        for match in pattern.finditer(self.text):
            said = match.expand(replacement) if isinstance(replacement, str) else replacement(match)
            edits.append((match.start(), match.end(), said))
        return self.replaced(rule, edits)

    def replaced(self, rule: str, edits: list[tuple[int, int, str]]) -> "Mapped":
        """With other words in offsets `start` to `end`, which are in order and apart."""
        edits = [(start, end, said) for start, end, said in edits if self.text[start:end] != said]
        if not edits:
            return self
        text, offsets, changes, done = "", [], list(self.changes), 0
        for start, end, said in edits:
            text += self.text[done:start] + said
            offsets += [*self.offsets[done:start]]
            for tag, i, j, k, m in _opcodes(self.text[start:end], said):
                if tag == "equal":
                    offsets += self.offsets[start + i : start + j]
                    continue
                # What is added at the end of an edit stands for its last character, not for what comes behind it.
                offsets += [self._offset(max(start, min(start + i, end - 1)))] * (m - k)
                if i < j:
                    changes.append(Change(self.offsets[start + i], self.offsets[start + j - 1] + 1, rule))
            done = end
        return Mapped(text + self.text[done:], (*offsets, *self.offsets[done:]), tuple(changes))

    def cut(self, start: int, end: int) -> "Mapped":
        """A part of it, with all changes."""
        return Mapped(self.text[start:end], self.offsets[start:end], self.changes)

    def stripped(self) -> "Mapped":
        start = len(self.text) - len(self.text.lstrip())
        return self.cut(start, max(start, len(self.text.rstrip())))

    def ended(self, mark: str) -> "Mapped":
        """With a mark behind it."""
        return Mapped(self.text + mark, (*self.offsets, *self.offsets[-1:] * len(mark)), self.changes)

    def __add__(self, other: "Mapped") -> "Mapped":
        changes = tuple(dict.fromkeys(self.changes + other.changes))
        return Mapped(self.text + other.text, self.offsets + other.offsets, changes)

    def _offset(self, index: int) -> int:
        return self.offsets[min(index, len(self.offsets) - 1)] if self.offsets else 0


def _opcodes(before: str, after: str) -> Sequence[tuple[str, int, int, int, int]]:
    """What is equal in two texts, and what stands for what, as difflib says it."""
    if len(before) * len(after) > _COMPARED:
        return [("replace", 0, len(before), 0, len(after))]
    return SequenceMatcher(None, before, after, autojunk=False).get_opcodes()
