"""Puts the spoken passages of a long text together: pauses, speed, label, chapters, one file."""

from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO

from cosyserve.files import writing_atomically
from cosyserve.speech.audio import SAMPLE_RATE
from cosyserve.speech.captions import Caption
from cosyserve.speech.encoders import Format
from cosyserve.speech.label import Label
from cosyserve.speech.output import Output
from cosyserve.speech.passages import Passages
from cosyserve.speech.pipeline import silence
from cosyserve.speech.tags import ChapterMark, Tags
from cosyserve.text.book import Book, Passage


@dataclass(frozen=True)
class Progress:
    """Seconds of sound written so far, and at the end the captions."""

    seconds: float
    captions: Sequence[Caption] = ()


def bind(
    book: Book, passages: Passages, fmt: Format, speed: float, label: Label | None, file: IO[bytes]
) -> Generator[Progress]:
    """Writes `book`, whose passages have all been spoken, into `file`, which must be seekable. Yields its progress
    after each passage, and at the end once more, with the captions. Closing the iterator stops the work."""
    if not any(passage.has_sound for passage in book.passages):
        book = replace(book, chapters=())  # no pauses between nothing: the short silence of any text without sound
    output = Output(fmt, speed, file, label, tags_of(book, passages, speed, label))
    for passage in book.passages:
        for written, sound in passages.read(passage):
            output.begin_segment(written)
            output.push(sound)
        output.begin_segment("")
        for pcm in silence(passage.pause * speed):  # so that it lasts `pause` once its speed has been changed
            output.push(pcm)
        yield Progress(output.seconds)
    output.finish()
    yield Progress(output.seconds, output.captions)


def bind_to_file(
    path: Path, book: Book, passages: Passages, fmt: Format, speed: float, label: Label | None
) -> Generator[Progress]:
    """`bind` to the file `path`, which is complete or absent."""
    with writing_atomically(path) as file:
        yield from bind(book, passages, fmt, speed, label, file)


def tags_of(book: Book, passages: Passages, speed: float, label: Label | None) -> Tags:
    """Title, author and where each chapter begins and ends in the finished file."""
    marks: list[ChapterMark] = []
    begin = label.lead.size / SAMPLE_RATE if label else 0.0
    for chapter in book.chapters:
        end = begin + sum(_seconds(passages, passage, speed) for passage in chapter.passages)
        marks.append(ChapterMark(chapter.title or book.title, begin, end))
        begin = end
    if marks:
        marks[0] = ChapterMark(marks[0].title, 0.0, marks[0].end)  # the label is heard within the first
    return Tags(book.title, book.author, tuple(marks) if len(marks) > 1 else ())


def _seconds(passages: Passages, passage: Passage, speed: float) -> float:
    return sum(samples for _, samples in passages.segments(passage)) / SAMPLE_RATE / speed + passage.pause
