"""The text of a job as a book, and the passages of it that have been spoken."""

from collections.abc import Callable, Mapping
from dataclasses import replace

from cosyserve.server.jobs.store import InputFormat, JobFiles, Manner
from cosyserve.speech.passages import Passages
from cosyserve.text import book
from cosyserve.text.book import Book

_KINDS: Mapping[InputFormat, Callable[[str], Book]] = {
    "text": book.of_text,
    "markdown": book.of_markdown,
    "ssml": book.of_one,
}


def book_of(text: str, manner: Manner) -> Book:
    """A document in SSML is one passage, because its tags reach over paragraphs."""
    found = _KINDS[manner.input_format](text)
    return replace(found, title=manner.title or found.title)


def passages_of(files: JobFiles, manner: Manner) -> Passages:
    """A job is spoken in one manner, so that does not tell its passages apart."""
    return Passages(files.passages, manner.input_format)
