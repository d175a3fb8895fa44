"""Metadata of a long text in one file: title, author, chapters."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class ChapterMark:
    """A chapter, in seconds from the beginning of the file."""

    title: str
    begin: float
    end: float


@dataclass(frozen=True)
class Tags:
    title: str = ""
    author: str = ""
    chapters: tuple[ChapterMark, ...] = ()

    @property
    def fields(self) -> Mapping[str, str]:
        """Under the names that libav knows."""
        given = {"title": self.title, "album": self.title, "artist": self.author}
        return {name: value for name, value in given.items() if value}
