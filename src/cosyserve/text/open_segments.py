"""What the model says in one go while its text is still being written: an utterance whose text grows."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import TypeVar

from cosyserve.text.front_end import THREADS, Sentence, Source, with_end_mark
from cosyserve.text.mapped import Mapped
from cosyserve.text.marks import has_sound, has_speech, shown
from cosyserve.text.segments import ENOUGH, LONGEST, PAUSES, joined, parts_of, units
from cosyserve.text.ssml import Pause
from cosyserve.text.written import Written


async def open_segments(
    source: Source, *, normalize: bool = True, pronounced: bool = False
) -> AsyncIterator["OpenSegment"]:
    """The utterances of a text whose fragments come one by one (`FragmentFrontEnd`), each once it has something to say.

    To ask for the next one abandons the one before; the next one goes on behind the last fragment that it took.
    """
    parts = _Parts(source)
    while True:
        segment = OpenSegment(parts, normalize=normalize, pronounced=pronounced and normalize)
        if not await segment.begin():
            return
        yield segment
        segment.abandon()


class OpenSegment:
    """One utterance, and which characters of the original it stands for; or so many seconds of silence (`pause`).

    Its properties tell what is known so far. `pieces` has one reader; joined, the pieces are `text`. The last one ends
    with a full stop, unless it ends where a clause does: its mark had to be said at once.
    """

    def __init__(self, parts: "_Parts", *, normalize: bool, pronounced: bool) -> None:
        """`normalize` puts blanks between sentences and a mark at the end."""
        self._parts, self._normalize, self._pronounced = parts, normalize, pronounced
        self._made = Mapped("", ())  # with one character for each phoneme
        self._given = 0  # characters of it that are in pieces
        self._waiting: deque[str] = deque()
        self._ended = False
        self._written = self._unsaid = ""
        self._pause: Pause | None = None
        self.text = ""
        self.pieces: AsyncIterator[str] = _Pieces(self)

    @property
    def start(self) -> int:
        return self._pause.at if self._pause else min(self._made.offsets, default=0)

    @property
    def end(self) -> int:
        return self._pause.at if self._pause else max(self._made.offsets, default=-1) + 1

    @property
    def pause(self) -> float:
        return self._pause.seconds if self._pause else 0

    @property
    def written(self) -> str:
        """What a reader of the original finds there. Of a number whose words are cut nothing is left for the rest of
        them, which stand for themselves."""
        return self._written.strip() or self.text.strip()

    async def begin(self) -> bool:
        """Waits for something to say, and tells whether there is any. Sounds alone are said with what follows them."""
        while not has_speech(self._made.text):
            part = await self._parts.first()
            if isinstance(part, _Part):
                self._add(self._parts.take(part))
            elif has_sound(self._made.text):
                self._end()
                return True
            elif part is None:
                return False
            else:
                self._pause, self._ended = self._parts.take(part), True
                return True
        return True

    async def next(self) -> str | None:
        """The next piece of the text; None behind the last."""
        while not self._waiting and not self._ended:
            part = await self._parts.first()
            if self._ended:  # it was abandoned meanwhile
                break
            if isinstance(part, _Part) and self._has_room(part):
                self._add(self._parts.take(part))
            else:
                self._end()
        return self._waiting.popleft() if self._waiting else None

    def abandon(self) -> None:
        """Its pieces end here."""
        self._ended = True
        self._waiting.clear()

    def _has_room(self, part: "_Part") -> bool:
        return units(self._made.text) + units(part.said.text) <= LONGEST

    def _add(self, part: "_Part") -> None:
        speaks = has_speech(self._made.text)
        if not self._made.text or not (speaks or self._has_room(part)):  # too many sounds alone: the last ones stay
            self._made = part.said.cut(len(part.said.text) - len(part.said.text.lstrip()), len(part.said.text))
            self._written = self._unsaid = ""
        else:
            join = joined if part.begins and self._normalize else Mapped.__add__
            self._made = join(self._made, part.said)
        self._unsaid += part.written
        if part.said.text:
            self._written, self._unsaid = self._written + self._unsaid, ""
        if not has_speech(self._made.text):
            return
        if part.ends and (not self._parts.waiting or units(self._made.text) >= ENOUGH):
            self._end()
        else:
            self._give(len(self._made.text.rstrip()) if self._normalize else len(self._made.text))

    def _end(self) -> None:
        self._ended = True
        if self._normalize and not self._made.text[: self._given].endswith(tuple(PAUSES)):
            self._made = with_end_mark(self._made)
        self._give(len(self._made.text))

    def _give(self, end: int) -> None:
        piece = self._made.cut(self._given, end)
        piece, self._given = shown(piece) if self._pronounced else piece, end
        if piece.text:
            self._waiting.append(piece.text)
            self.text += piece.text


class _Pieces(AsyncIterator[str]):
    def __init__(self, segment: OpenSegment) -> None:
        self._segment = segment

    async def __anext__(self) -> str:
        piece = await self._segment.next()
        if piece is None:
            raise StopAsyncIteration
        return piece


@dataclass(frozen=True)
class _Part:
    """What is said of a fragment, or a part of one that is too long, and how it was written; whether it begins or ends
    its sentence."""

    said: Mapped
    written: str
    begins: bool
    ends: bool


_T = TypeVar("_T")


class _Parts:
    """What comes of a source, prepared when it is asked for. Nothing of it is lost when its reader is cancelled."""

    def __init__(self, source: Source) -> None:
        self._source, self._complete = source, False
        self._sentence: Sentence | Pause | None = None  # taken from the source, and not yet prepared
        self._ready: deque[_Part | Pause] = deque()
        self._begins = True  # nothing of the sentence was said yet
        self._lock = asyncio.Lock()  # who was abandoned may still wait

    @property
    def waiting(self) -> bool:
        return bool(self._ready) or (not self._complete and self._source.waiting)

    async def first(self) -> _Part | Pause | None:
        """What comes next, and stays until it is taken; None behind the last."""
        async with self._lock:
            while not self._ready and not self._complete:
                self._sentence = self._sentence or await self._source.next()
                self._complete = self._sentence is None
                if isinstance(self._sentence, Pause):
                    self._ready.append(self._sentence)
                elif self._sentence is not None:
                    said = await asyncio.get_running_loop().run_in_executor(THREADS, self._sentence.said)
                    self._ready.extend(self._parts(self._sentence, said))
                self._sentence = None
        return self._ready[0] if self._ready else None

    def take(self, first: _T) -> _T:
        self._ready.popleft()
        return first

    def _parts(self, sentence: Sentence, said: Mapped) -> Iterator[_Part]:
        """A fragment, or its parts if it is too long."""
        parts = parts_of(Mapped(said.text, said.offsets))
        original, written, done = sentence.original, Written(), 0
        written.push(original, said)
        for number, part in enumerate(parts, 1):
            is_last = number == len(parts)
            taken = "" if is_last else written.take(max(part.offsets) + 1)
            end = len(original.text) if is_last else original.text.find(taken, done) + len(taken)
            ends = is_last and not sentence.open
            yield _Part(part, original.text[done:end], self._begins, ends)
            done = max(done, end)
            self._begins = ends or (self._begins and not part.text)
