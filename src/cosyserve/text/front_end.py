"""The one way of a text to the voice: sentences → lexicon → clean → language → normalise → segments.

Every endpoint, the WebSocket and `say` take it. It works a sentence at a time, in threads of its own and in another
process (`normalise`), so that the first words need not wait for the last and no text holds the event loop up.
"""

import asyncio
import re
from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import AsyncIterator, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Protocol

from cosyserve.text.clean import cleaned
from cosyserve.text.fragments import Fragment, Fragments
from cosyserve.text.language import MOST_UNDECIDED, Language, Languages, language_of, matters
from cosyserve.text.lexicon import NO_WORDS, Words
from cosyserve.text.mapped import Mapped
from cosyserve.text.marks import AREA, PROTECTED, has_sound, has_speech, hidden, shown
from cosyserve.text.normalise import normalised
from cosyserve.text.segments import Segments, ended, joined
from cosyserve.text.sentences import Sentences
from cosyserve.text.ssml import Pause, parsed, runs
from cosyserve.text.written import Written

THREADS = ThreadPoolExecutor(8, thread_name_prefix="text")  # most of the time they wait for the normaliser

_MARKS = {Language.CHINESE: "。", Language.ENGLISH: ".", Language.OTHER: "."}
_WIDE_END = re.compile(r"[\u2e80-\uffdf]\W*$")
_LEADING = re.compile(r"^(?:[^\S\n]|[。，、！？；：,!?;:…]|\.(?!\d))+")
_INNER_LINE = re.compile(r"([^\n]?)\n")
_NARROW_COMMA = re.compile(r"(?<=[^\x00-\x7f]),[ ]*(?!\d)|(?<=[^\d,]),[ ]*(?=[^\x00-\x7f])")
_BRACKETS, _DASHES = re.compile(r"[（）【】]"), re.compile(r"—+")
_ENDED = re.compile(rf"[。！？；….!?;：:，、,—][^\w\s{AREA}]*$")


@dataclass(frozen=True)
class Segment:
    """What is spoken in one go, and which characters of the original it stands for; or so many seconds of silence.
    `written` is what a reader of the original finds there."""

    text: str
    start: int
    end: int
    pause: float = 0
    written: str = ""


@dataclass(frozen=True)
class Sentence:
    """As it was written, from the offset `start` on. Without a language it is spoken as it is written. `pronounced` is
    what phonemes and pinyin in it are, for a model that knows them; `words` has words that are said in another way.
    In SSML `offsets` are those of its characters, which do not follow each other, and `document` has the words of the
    document itself, such as those that an alias stands for.

    A fragment of a sentence is one, too: it is `open` if more of the sentence follows, and what stands `before` it in
    the sentence tells how it is said."""

    written: str
    start: int
    language: Language | None
    pronounced: bool = False
    words: Words = NO_WORDS
    offsets: tuple[int, ...] = ()
    document: Mapped | None = None
    open: bool = False
    before: str = ""

    @property
    def original(self) -> Mapped:
        """What a reader of the original finds in its place."""
        if self.document is None:
            return Mapped.original(self.written, self.start)
        places = self.document.offsets
        return self.document.cut(bisect_left(places, self.offsets[0]), bisect_right(places, self.offsets[-1]))

    def said(self) -> Mapped:
        """With one character for each phoneme, which `shown` writes out again."""
        of_ssml = bool(self.offsets)
        if self.language is None:
            return Mapped(self.written, self.offsets) if of_ssml else Mapped.original(self.written, self.start)
        whole = self.before + self.written
        text = Mapped(whole, self.offsets) if of_ssml else Mapped.original(whole, self.start - len(self.before))
        text = hidden(text, holds_some=of_ssml) if self.pronounced else text
        text = _said(self.words.applied(text), self.language)
        part = text.cut(bisect_left(text.offsets, self.start), len(text.text)) if self.before else text
        return part if self.open else _with_end(text, part, self.language, self.start)


class FrontEnd:
    """Takes one text in pieces and gives its sentences."""

    def __init__(self, *, normalize: bool = True, pronounced: bool = False, words: Words = NO_WORDS) -> None:
        self._normalize, self._pronounced, self._words = normalize, pronounced, words
        self._sentences, self._languages, self._start = Sentences(), Languages(pronounced=pronounced), 0

    def push(self, piece: str) -> list[Sentence]:
        """The sentences that are complete, and whose language is known, once `piece` is added."""
        return [each for found in self._sentences.push(piece) for each in self._known(found)]

    def flush(self) -> list[Sentence]:
        """What is left."""
        last = [each for found in self._sentences.flush() for each in self._known(found)]
        return last + list(self._placed(self._languages.flush()))

    def _known(self, sentence: str) -> Iterator[Sentence]:
        if self._normalize:
            yield from self._placed(self._languages.push(sentence))
        else:
            yield from self._placed([(sentence, None)])

    def _placed(self, found: "list[tuple[str, Language]] | list[tuple[str, None]]") -> Iterator[Sentence]:
        for sentence, language in found:
            yield Sentence(sentence, self._start, language, self._pronounced, self._words)
            self._start += len(sentence)


class FragmentFrontEnd:
    """Takes one text in pieces and gives fragments of its sentences, which can be said before the sentence is complete.

    A sentence has the language of its letters as soon as they tell one, and keeps it."""

    def __init__(self, *, normalize: bool = True, pronounced: bool = False, words: Words = NO_WORDS) -> None:
        self._normalize, self._pronounced, self._words = normalize, pronounced, words
        self._fragments = Fragments(words if normalize else NO_WORDS)
        self._languages = Languages(pronounced=pronounced)
        self._language: Language | None = None  # of the sentence, once its letters tell it
        self._start, self._before = 0, ""
        self._undecided: list[Sentence] = []

    def push(self, piece: str) -> list[Sentence]:
        """What can be said, and whose language is known, once `piece` is added."""
        return [each for fragment in self._fragments.push(piece) for each in self._known(fragment)]

    def flush(self) -> list[Sentence]:
        """What is left."""
        last = [each for fragment in self._fragments.flush() for each in self._known(fragment)]
        return last + self._decided()

    def _known(self, fragment: Fragment) -> list[Sentence]:
        before, so_far = self._before, self._before + fragment.text
        made = Sentence(fragment.text, self._start, None, open=not fragment.ends)
        self._start += len(fragment.text)
        self._before = "" if fragment.ends else so_far
        if not self._normalize:
            return [made]
        language = self._language_of(so_far, ends=fragment.ends)
        made = replace(made, language=language, pronounced=self._pronounced, words=self._words, before=before)
        self._undecided.append(made)
        return [] if language is None and self._waits() else self._decided(language)

    def _language_of(self, so_far: str, *, ends: bool) -> Language | None:
        """Of a sentence of which so much is there."""
        own = self._languages.by_letters(so_far)
        language = self._language or self._languages.in_context(own, so_far)
        self._language = None if ends else language if language is own else self._language
        if ends:
            self._languages.remember(so_far)
        return language or self._languages.last

    def _waits(self) -> bool:
        ended = sum(not each.open for each in self._undecided)
        return ended < MOST_UNDECIDED and any(matters(each.written) for each in self._undecided)

    def _decided(self, language: Language | None = None) -> list[Sentence]:
        found, self._undecided = self._undecided, []
        return [replace(each, language=each.language or language or Language.ENGLISH) for each in found]


class Source(Protocol):
    """Where sentences come from."""

    async def next(self) -> Sentence | Pause | None:
        """The next one, or a pause before it, None behind the last."""
        ...

    @property
    def waiting(self) -> bool:
        """Whether `next` has an answer already."""
        ...


class WholeText:
    """The sentences of a text that is there already, each found when it is asked for."""

    waiting = True
    _STEP = 1024  # characters that are looked through at once

    def __init__(self, text: str, *, normalize: bool = True, pronounced: bool = False, words: Words = NO_WORDS) -> None:
        self._front_end = FrontEnd(normalize=normalize, pronounced=pronounced, words=words)
        self._pieces = (text[start : start + self._STEP] for start in range(0, len(text), self._STEP))
        self._found: deque[Sentence] = deque()
        self._ended = False

    async def next(self) -> Sentence | None:
        while not self._found and not self._ended:
            piece = next(self._pieces, None)
            self._ended = piece is None
            self._found += self._front_end.flush() if piece is None else self._front_end.push(piece)
        return self._found.popleft() if self._found else None


class Document:
    """The sentences and pauses of a text in SSML. Making it raises `CS-TEXT-007`, `CS-TEXT-008`."""

    waiting = True

    def __init__(
        self, document: str, *, normalize: bool = True, pronounced: bool = False, words: Words = NO_WORDS
    ) -> None:
        parts, self._words = parsed(document, pronounced=pronounced, normalize=normalize)
        self._parts = runs(parts)
        self._front_end = FrontEnd(normalize=normalize, pronounced=pronounced, words=words)
        self.items = self._all()

    async def next(self) -> Sentence | Pause | None:
        return next(self.items, None)

    def _all(self) -> Iterator[Sentence | Pause]:
        for part in self._parts:
            if isinstance(part, Pause):
                yield part
            else:
                yield from self._sentences(part)

    def _sentences(self, run: Mapped) -> Iterator[Sentence]:
        """With the offsets they have in the document."""
        done = 0
        for sentence in self._front_end.push(run.text) + self._front_end.flush():
            offsets = run.offsets[done : done + len(sentence.written)]
            yield replace(sentence, start=offsets[0], offsets=offsets, document=self._words)
            done += len(sentence.written)


async def segments(
    source: Source, *, normalize: bool = True, first_alone: bool = True, pronounced: bool = False
) -> AsyncIterator[Segment]:
    """What is spoken of the sentences. What is waiting is joined; nothing that is there waits for what is to come."""
    loop, making, written = asyncio.get_running_loop(), Segments(first_alone=first_alone, spaced=normalize), Written()
    pronounced = pronounced and normalize

    def finished(made: Iterable[Mapped]) -> Iterator[Segment]:
        return (_segment(each, written, ends=normalize, pronounced=pronounced) for each in made)

    while (sentence := await source.next()) is not None:
        if isinstance(sentence, Pause):
            for segment in finished(making.flush()):
                yield segment
            yield Segment("", sentence.at, sentence.at, sentence.seconds)
            continue
        said = await loop.run_in_executor(THREADS, sentence.said)
        written.push(sentence.original, said)
        if said.text:
            for segment in finished(making.push(said)):
                yield segment
        if not source.waiting:
            for segment in finished(making.flush()):
                yield segment
    for segment in finished(making.flush()):
        yield segment


def whole(
    text: str,
    *,
    normalize: bool = True,
    first_alone: bool = True,
    pronounced: bool = False,
    words: Words = NO_WORDS,
    ssml: bool = False,
) -> AsyncIterator[Segment]:
    """The segments of a text that is there already; raises `CS-TEXT-007`, `CS-TEXT-008` at once if it is in SSML."""
    kind = Document if ssml else WholeText
    source: Source = kind(text, normalize=normalize, pronounced=pronounced, words=words)
    return segments(source, normalize=normalize, first_alone=first_alone, pronounced=pronounced)


def uncut(text: str, *, pronounced: bool = False) -> str:
    """A whole text as it is said, such as the words of a recording, which may end without a mark. Blocks while the
    normaliser works."""
    front_end, said = FrontEnd(pronounced=pronounced), Mapped("", ())
    for sentence in front_end.push(text) + front_end.flush():
        said = joined(said, sentence.said())
    said = shown(said) if pronounced else said
    return said.text.rstrip("。.") if text.rstrip()[-1:].isalnum() else said.text


def with_end_mark(made: Mapped) -> Mapped:
    """A segment as it is handed to the voice: a pause at its end becomes a full stop, or one is added."""
    words = PROTECTED.sub("", made.text)
    wide = _WIDE_END.search(words) and language_of(words) is not Language.OTHER
    return ended(made, "。" if wide else ".")


def _segment(made: Mapped, written: Written, *, ends: bool, pronounced: bool) -> Segment:
    made = with_end_mark(made) if ends else made
    made = shown(made) if pronounced else made
    start, end = min(made.offsets, default=0), max(made.offsets, default=-1) + 1
    # A number whose words are cut leaves nothing for the rest of them.
    return Segment(made.text, start, end, written=written.take(end) or made.text.strip())


def _said(text: Mapped, language: Language) -> Mapped:
    """A sentence, or its beginning, as it is said; empty where it has no sound."""
    text = normalised(cleaned(text), language)
    text = text.sub("line", _INNER_LINE, lambda m: m.group(1) + _between_lines(m.group(1), language))
    if language is Language.CHINESE:
        text = text.sub("bracket", _BRACKETS, "").sub("dash", _DASHES, "，").sub("comma", _NARROW_COMMA, "，")
    text = text.sub("leading mark", _LEADING, "").stripped()
    return text if has_sound(text.text) else text.cut(0, 0)


def _with_end(text: Mapped, last: Mapped, language: Language, start: int) -> Mapped:
    """The last part of a sentence, `text`, with a mark or a pause at its end; it begins at the offset `start`."""
    if _ENDED.search(text.text) or not has_speech(text.text):
        return last
    return last.ended(_MARKS[language]) if last.text else Mapped(_MARKS[language], (start,))


def _between_lines(before: str, language: Language) -> str:
    """What stands for the end of a line: it is the end of a sentence."""
    return " " if not before or before in " 。！？；….!?;：:，、," else f"{_MARKS[language]} "
