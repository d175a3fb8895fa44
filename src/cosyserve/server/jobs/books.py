"""The text of a job as a book, and the passages of it that have been spoken."""

from dataclasses import replace

from cosyserve.server.jobs.store import Manner, Place
from cosyserve.speech.passages import Passages
from cosyserve.text import book
from cosyserve.text.book import Book

_KINDS = {"text": book.of_text, "markdown": book.of_markdown, "ssml": book.of_one}


def book_of(text: str, manner: Manner) -> Book:
    """A document in SSML is one passage, because its tags reach over paragraphs."""
    found = _KINDS[manner.input_format](text)
    return replace(found, title=manner.title or found.title)


def passages_of(place: Place, manner: Manner) -> Passages:
    """A job is spoken in one manner, so that does not tell its passages apart."""
    return Passages(place.passages, manner.input_format)
