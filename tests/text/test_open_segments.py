"""Utterances whose text is still being written while they are spoken."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cosyserve.text.checks import is_speakable
from cosyserve.text.front_end import FragmentFrontEnd, Sentence
from cosyserve.text.lexicon import NO_WORDS, Pronunciation, Words
from cosyserve.text.open_segments import OpenSegment, open_segments
from cosyserve.text.segments import LONGEST, units
from cosyserve.text.ssml import Pause
from tests.text.texts import texts


class Arriving:
    """A text that somebody writes while it is read, as the socket has it."""

    def __init__(self, *, normalize: bool = True, pronounced: bool = False, words: Words = NO_WORDS) -> None:
        self._front_end = FragmentFrontEnd(normalize=normalize, pronounced=pronounced, words=words)
        self._items: asyncio.Queue[Sentence | Pause | None] = asyncio.Queue()
        self.asked = asyncio.Event()  # somebody waits for more

    def write(self, text: str) -> "Arriving":
        return self.put(self._front_end.push(text))

    def end(self) -> "Arriving":
        return self.put([*self._front_end.flush(), None])

    def put(self, items: Iterable[Sentence | Pause | None]) -> "Arriving":
        for each in items:
            self._items.put_nowait(each)
        return self

    @property
    def waiting(self) -> bool:
        return not self._items.empty()

    async def next(self) -> Sentence | Pause | None:
        if self._items.empty():
            self.asked.set()
        return await self._items.get()


class Told(Arriving):
    """The same, which waits when the test says so, and is never waited for."""

    def __init__(self, text: str, waiting: list[bool], *, normalize: bool = True) -> None:
        super().__init__(normalize=normalize)
        self.write(text).end()
        self._told = waiting

    @property
    def waiting(self) -> bool:
        return self._told.pop() if self._told else True


async def _read(segment: OpenSegment) -> str:
    pieces = [piece async for piece in segment.pieces]
    assert all(pieces)
    assert "".join(pieces) == segment.text
    return segment.text


async def _spoken(source: Arriving, *, normalize: bool = True, pronounced: bool = False) -> list[OpenSegment]:
    found = []
    async for segment in open_segments(source, normalize=normalize, pronounced=pronounced):
        assert segment.pause or is_speakable(segment.text)
        await _read(segment)
        found.append(segment)
    return found


def spoken(text: str, waiting: list[bool] | None = None, *, normalize: bool = True) -> list[OpenSegment]:
    async def main() -> list[OpenSegment]:
        return await _spoken(Told(text, waiting or [], normalize=normalize), normalize=normalize)

    return asyncio.run(main())


def said(text: str, waiting: list[bool] | None = None, *, normalize: bool = True) -> list[str]:
    return [segment.text for segment in spoken(text, waiting, normalize=normalize)]


def letters(text: str) -> str:
    return "".join(filter(str.isalnum, text))


@given(texts, st.lists(st.booleans(), max_size=10), st.booleans())
def test_nothing_is_lost_however_the_text_arrives(text: str, waiting: list[bool], normalize: bool) -> None:
    found = spoken(text * 3, waiting, normalize=normalize)
    fragments = FragmentFrontEnd(normalize=normalize)
    whole = "".join(sentence.said().text for sentence in fragments.push(text * 3) + fragments.flush())
    assert letters("".join(segment.text for segment in found)) == letters(whole)
    done = 0
    for segment in found:
        assert units(segment.text) <= LONGEST + 41  # as `Segments` has it
        assert done <= segment.start < segment.end
        assert segment.written == segment.written.strip()
        assert segment.written in text * 3 or segment.written == segment.text.strip()  # the rest of a number
        done = segment.start


@pytest.mark.parametrize(
    ("text", "waiting", "expected"),
    [
        ("Hello there. How are you?", [], ["Hello there. How are you?"]),
        ("Hello there. How are you?", [False, False], ["Hello there.", "How are you?"]),
        ("你好。再见", [], ["你好。再见。"]),
        ("One two, three four", [], ["One two, three four."]),
        ("他来了，", [], ["他来了，"]),
        ("😊", [], []),
        ("😊 Hello. 😊", [], ["Hello."]),
        ("[breath] Hello.", [False, False], ["[breath] Hello."]),
        ("[breath]", [], ["[breath]."]),
        ("Hello.\n[laughter]\nBye.", [False, False, False], ["Hello.", "[laughter] Bye."]),
        ("", [], []),
        ("...", [], []),
    ],
)
def test_what_is_one_utterance(text: str, waiting: list[bool], expected: list[str]) -> None:
    assert said(text, waiting) == expected


def test_a_long_one_ends_at_the_end_of_a_sentence() -> None:
    sentence = "春天来了，花儿都开了，我们一起去公园里看看吧。"
    made = said(sentence * 8)
    assert "".join(made) == sentence * 8
    assert all(60 <= units(each) < 60 + len(sentence) for each in made[:-1])


@pytest.mark.parametrize(
    ("part", "times"), [("春天来了，花儿都开了，", 30), ("the old house of the king and ", 30), ("12345 67890 ", 45)]
)
def test_a_sentence_without_an_end_is_cut(part: str, times: int) -> None:
    made = said(part * times + "真好。")
    assert len(made) > 2
    assert all(each.endswith(("。", ".", "，")) and units(each) <= LONGEST + 1 for each in made)


def test_they_tell_where_they_stand() -> None:
    first, second = spoken("Hi. It costs **$5**, he said. 😊 Next: 3.14!", [False, False, False])[1:]
    assert (first.written, first.text) == ("It costs **$5**, he said.", "It costs five dollars, he said.")
    assert (first.start, first.end, first.pause) == (4, 29, 0)
    assert (second.written, second.text) == ("😊 Next: 3.14!", "Next: three point one four!")


def test_a_number_whose_words_are_cut_is_written_once() -> None:
    number = "9" * 150
    first, *others = spoken(f"号码是{number}。")
    assert number in first.written
    assert others
    assert all(each.written == each.text for each in others)


def test_a_text_that_is_not_prepared_stays_as_it_is() -> None:
    text = "**I** went to the market, and it is 3 kg.\n好的，谢谢你"
    assert "".join(said(text, normalize=False)) == text


def test_phonemes_are_shown() -> None:
    words = Words.of([Pronunciation("GIF", phonemes="JH IH1 F")], "", pronounced=True)

    async def main() -> None:
        source = Arriving(pronounced=True, words=words)
        source.write("We all know that [HH][AH0][L][OW1] is not a GIF of the house. ").end()
        (segment,) = await _spoken(source, pronounced=True)
        assert segment.text == "We all know that [HH][AH0][L][OW1] is not a [JH][IH1][F] of the house."

    asyncio.run(main())


def test_it_is_said_while_it_is_written() -> None:
    async def main() -> None:
        source = Arriving().write("I went to the market yesterday, and I ")
        found = open_segments(source)
        segment = await anext(found)
        assert await anext(segment.pieces) == "I went to the"
        assert await anext(segment.pieces) == " market yesterday,"
        assert segment.text == segment.written == "I went to the market yesterday,"
        waiting = asyncio.create_task(_piece(segment.pieces))
        await source.asked.wait()
        source.write("bought some apples there")
        assert await waiting == " and I bought"
        source.end()
        assert [piece async for piece in segment.pieces] == [" some apples there."]
        assert segment.text == "I went to the market yesterday, and I bought some apples there."
        assert await anext(found, None) is None

    asyncio.run(main())


def test_what_is_said_does_not_wait_for_the_next_sentence() -> None:
    async def main() -> None:
        source = Arriving().write("Hello there. N")
        found = open_segments(source)
        assert await _read(await anext(found)) == "Hello there."
        following = asyncio.create_task(_following(found))
        await source.asked.wait()
        source.write("ow we go. ").end()
        assert await _read(await following) == "Now we go."

    asyncio.run(main())


def test_what_was_not_read_is_said_in_the_next() -> None:
    async def main() -> None:
        source = Arriving().write("I went to the market yesterday, and I bought some apples there. ").end()
        found = open_segments(source)
        segment = await anext(found)
        assert await anext(segment.pieces) == "I went to the"
        assert await _read(await anext(found)) == "market yesterday, and I bought some apples there."
        assert [piece async for piece in segment.pieces] == []

    asyncio.run(main())


def test_nothing_is_lost_if_a_reader_is_cancelled() -> None:
    async def main() -> None:
        source = Arriving().write("I went to the market and ")
        _found, segment, waiting = await _waiting(source)
        waiting.cancel()
        with suppress(asyncio.CancelledError):
            await waiting
        source.write("bought some apples there. ").end()
        assert "".join([piece async for piece in segment.pieces]) == " market and bought some apples there."

    asyncio.run(main())


def test_who_was_abandoned_while_it_waited_ends() -> None:
    async def main() -> None:
        source = Arriving().write("I went to the market and ")
        found, _segment, waiting = await _waiting(source)
        following = asyncio.create_task(_following(found))
        source.write("bought some apples there. ").end()
        assert await _read(await following) == "market and bought some apples there."
        assert await waiting is None

    asyncio.run(main())


def test_a_pause_is_one_by_itself() -> None:
    async def main() -> None:
        source = Arriving().write("Hello there. [breath]! ").put([Pause(0.5, 22)]).write("Bye, all of you. ").end()
        found = await _spoken(source)
        assert [(each.text, each.pause) for each in found] == [
            ("Hello there. [breath]!", 0),
            ("", 0.5),
            ("Bye, all of you.", 0),
        ]
        assert (found[1].start, found[1].end) == (22, 22)

    asyncio.run(main())


async def _waiting(
    source: Arriving,
) -> tuple[AsyncIterator[OpenSegment], OpenSegment, "asyncio.Task[str | None]"]:
    """One that has said its first words, and whose reader waits for more."""
    found = open_segments(source)
    segment = await anext(found)
    assert await anext(segment.pieces) == "I went to the"
    waiting = asyncio.create_task(_piece(segment.pieces))
    await source.asked.wait()
    return found, segment, waiting


async def _piece(pieces: AsyncIterator[str]) -> str | None:
    return await anext(pieces, None)


async def _following(found: AsyncIterator[OpenSegment]) -> OpenSegment:
    return await anext(found)
