"""Cuts a long text into chapters and passages. A passage is spoken and kept by itself, so work goes on behind it.

A passage is a paragraph. Short paragraphs are joined, and a long one is cut at the ends of sentences, so that neither
their number nor their length depends on who wrote the text.
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby

from cosyserve.text.checks import is_speakable
from cosyserve.text.sentences import sentences

SHORTEST, LONGEST = 200, 800  # characters: shorter paragraphs are joined, longer ones are cut
PARAGRAPH_PAUSE, HEADING_PAUSE, CHAPTER_PAUSE = 0.4, 0.8, 1.5  # seconds of silence behind each
MOST_HEADINGS = 2000  # each is a passage, however short it is
_LONGEST_TITLE = 60  # characters of a line that may be a heading in a plain text
_LONGEST_MARKED = 1000  # … in Markdown; what looks for one takes the square of a line's length

# Headings that people write without any mark-up.
_NUMBER = (
    r"\d{1,4}|[ivxlc]{1,8}|one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|(?:thir|four|fif|six|seven|eigh"
    r"|nine)teen|(?:twenty|thirty|forty|fifty)(?:[ -](?:one|two|three|four|five|six|seven|eight|nine))?"
)
_TITLE = re.compile(
    r"(?:第\s*[〇零一二三四五六七八九十百千两\d]{1,9}\s*[章回节卷部篇集]|序章|序言|前言|楔子|引子|尾声|后记|终章)"
    r"(?![，。、的])[^。！？!?]*$"
    rf"|(?:(?i:chapter|part|book)\s+(?i:{_NUMBER})\b|(?i:prologue|epilogue|foreword|preface)\b)"
    r"(?:[.:]?$|[.:]?\s*[:—–-]?\s*[^a-z\s,;.:—–-].*(?<![.,;!?])$)"
)
_MARKED = re.compile(r" {0,3}(#{1,6})(?:[ \t]+(.*?))?[ \t]*#*[ \t]*$")  # Markdown's heading
_UNDERLINE = re.compile(r" {0,3}(?:(=+)|-+)[ \t]*$")  # of the line before, which is one, too
_FENCE = re.compile(r" {0,3}(```+|~~~+)")


@dataclass(frozen=True)
class Passage:
    """What is spoken in one piece, and the seconds of silence behind it."""

    text: str
    pause: float = 0.0

    @property
    def has_sound(self) -> bool:
        return is_speakable(self.text)


@dataclass(frozen=True)
class Chapter:
    """A part of the text under its heading, which is a passage of its own. The title is empty where there is none."""

    title: str
    passages: tuple[Passage, ...]


@dataclass(frozen=True)
class Book:
    """A long text. Title and author are empty where the text does not tell them."""

    chapters: tuple[Chapter, ...]
    title: str = ""
    author: str = ""

    @property
    def passages(self) -> Iterator[Passage]:
        return (passage for chapter in self.chapters for passage in chapter.passages)


@dataclass(frozen=True)
class Block:
    """A heading of a level, 1 being the highest, or a paragraph, whose level is 0."""

    text: str
    level: int = 0


def of_text(text: str) -> Book:
    """A plain text. A short line that names a chapter, such as "Chapter 1" or "第一章", is a heading."""
    return of_blocks(_blocks(_plain_lines(text)))


def of_markdown(text: str) -> Book:
    """A text in Markdown. All its mark-up but the headings is left to `clean`, as for every text."""
    blocks = list(_blocks(_marked_lines(text)))
    first = next((block for block in blocks if block.level), None)
    alone = first is not None and sum(block.level == first.level for block in blocks) == 1
    return of_blocks(blocks, title=first.text if first and alone and first.level == 1 else "")


def of_one(text: str) -> Book:
    """A text that cannot be cut, such as a document in SSML."""
    return Book((Chapter("", (Passage(text),)),))


def of_blocks(blocks: Iterable[Block], title: str = "", author: str = "") -> Book:
    """Chapters begin at headings down to the highest level that has several of them."""
    blocks = _with_few_headings(list(blocks))
    levels = Counter(block.level for block in blocks if block.level)
    deepest = min((level for level in levels if levels[level] > 1), default=max(levels, default=0))
    parts: list[list[Block]] = [[]]
    for block in blocks:
        if 0 < block.level <= deepest and any(not each.level for each in parts[-1]):
            parts.append([])
        parts[-1].append(block)
    return Book(tuple(_chapter(part) for part in parts if part), title, author)


def of_parts(parts: Iterable[tuple[str, list[Block]]], title: str = "", author: str = "") -> Book:
    """Chapters whose titles are known. What has no title belongs to what comes before it."""
    joined: list[tuple[str, list[Block]]] = []
    for name, blocks in parts:
        if (name and len(joined) < MOST_HEADINGS) or not joined:
            joined.append((name, []))
        joined[-1][1].extend(_with_few_headings(blocks))
    return Book(tuple(_chapter(blocks, name) for name, blocks in joined if blocks), title, author)


def _with_few_headings(blocks: list[Block]) -> list[Block]:
    """The same, or with paragraphs instead of headings where there are so many that they are none."""
    if sum(block.level > 0 for block in blocks) <= MOST_HEADINGS:
        return blocks
    return [Block(block.text) for block in blocks]


def _chapter(blocks: list[Block], title: str = "") -> Chapter:
    """A part whose headings at its beginning, where several follow each other, share one title."""
    headings = []
    for block in blocks:
        if not block.level:
            break
        headings.append(block.text)
    passages: list[Passage] = []
    for is_heading, group in groupby(blocks, key=lambda block: block.level > 0):
        texts = [block.text for block in group]
        if is_heading:
            passages += [Passage(part, HEADING_PAUSE) for text in texts for part in _cut(text)]
        else:
            passages += _passages(texts)
    *before, last = passages
    return Chapter(title or " · ".join(headings), (*before, Passage(last.text, CHAPTER_PAUSE)))


def _passages(paragraphs: list[str]) -> Iterator[Passage]:
    for joined in _joined(paragraphs):
        *before, last = _cut(joined)
        yield from map(Passage, before)
        yield Passage(last, PARAGRAPH_PAUSE)


def _joined(paragraphs: list[str]) -> Iterator[str]:
    """The paragraphs, those that are too short together with what follows."""
    held: list[str] = []
    for paragraph in paragraphs:
        held.append(paragraph)
        if sum(map(len, held)) >= SHORTEST:
            yield "\n".join(held)
            held = []
    if held:
        yield "\n".join(held)


def _cut(text: str) -> list[str]:
    """The text, or as many of its sentences at a time as are not too long. A sentence has an end after 600 characters
    at the latest."""
    if len(text) <= LONGEST:
        return [text]
    parts = [""]
    for sentence in sentences(text):
        if len(parts[-1]) + len(sentence) > LONGEST:
            parts.append("")
        parts[-1] += sentence
    return [part for part in parts if part.strip()]


def _blocks(lines: Iterable[Block]) -> Iterator[Block]:
    """Headings, and between them the lines that no blank line divides."""
    for kind, group in groupby(lines, key=lambda line: (line.level > 0, bool(line.text.strip()))):
        if kind[0]:
            yield from group
        elif kind[1]:
            yield Block("\n".join(line.text for line in group))


def _plain_lines(text: str) -> Iterator[Block]:
    for line in text.splitlines():
        bare = line.strip()
        yield Block(bare, 1) if len(bare) <= _LONGEST_TITLE and _TITLE.match(bare) else Block(line)


def _marked_lines(text: str) -> Iterator[Block]:
    """Lines and headings of Markdown. Within a fence a sign is no heading."""
    lines, fence = text.splitlines(), ""
    held: str | None = None  # a line that the next one may underline
    for line in lines:
        mark = _FENCE.match(line)
        if mark and (not fence or mark[1].startswith(fence)):
            fence = "" if fence else mark[1]
        looked_at = not fence and len(line) <= _LONGEST_MARKED
        heading, underline = (_MARKED.match(line), _UNDERLINE.match(line)) if looked_at else (None, None)
        if held is not None and held.strip() and underline:
            yield Block(held.strip(), 1 if underline[1] else 2)
            held = None
            continue
        if held is not None:
            yield Block(held)
        held = None if heading else line
        if heading:
            title = (heading[2] or "").strip()
            yield Block(title, len(heading[1])) if title else Block("")
    if held is not None:
        yield Block(held)
