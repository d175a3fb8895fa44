"""Reads the file of a book: plain text, Markdown or EPUB, by its ending."""

import codecs
from collections.abc import Callable, Mapping
from pathlib import Path

from cosyserve import errors
from cosyserve.confined import Bounds, Confined, NotStartedError, UnfinishedError
from cosyserve.errors import CosyError
from cosyserve.text import epub
from cosyserve.text.book import Book, of_markdown, of_text
from cosyserve.text.checks import checked_piece

_MOST_BYTES = 64 * 1024 * 1024  # of a text; the longest novels have a few millions
_MARKS = ((codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))
_KINDS: Mapping[str, Callable[[str], Book]] = {
    **dict.fromkeys((".txt", ".text", ""), of_text),
    **dict.fromkeys((".md", ".markdown"), of_markdown),
}

_EPUB = ".epub"
# A novel takes a second; the longest that is allowed, a minute.
_read_epub = Confined("cosyserve.text.epub:read", Bounds(memory=2 << 30, cpu_seconds=120, seconds=600, at_once=1))


def book_in(path: Path) -> Book:
    """Raises `CS-BOOK-001`, or `CS-TEXT-001` if there is nothing to speak."""
    try:
        kind = path.suffix.lower()
        if kind == _EPUB:
            book = _of_epub(path)
        elif kind in _KINDS:
            book = _KINDS[kind](checked_piece(decoded(_read(path, _MOST_BYTES))))
        else:
            raise _unreadable(path, f"the ending {kind} is unknown", f"未知的扩展名 {kind}")
    except OSError as error:
        reason = error.strerror or str(error)
        raise _unreadable(path, reason, reason) from error
    except ValueError:
        raise _unreadable(path, "its encoding is neither UTF-8 nor GB 18030", "编码既非 UTF-8 也非 GB 18030") from None
    if not any(passage.has_sound for passage in book.passages):
        raise CosyError(errors.TEXT_EMPTY)
    return book


def _of_epub(path: Path) -> Book:
    data = _read(path, epub.MOST_BYTES)
    try:
        return epub.loaded(_read_epub(data))
    except CosyError as error:
        raise _unreadable(path, error.facts["reason"], error.facts["reason_zh"]) from error
    except NotStartedError as error:
        raise CosyError(errors.INTERNAL) from error
    except UnfinishedError as error:
        raise _unreadable(path, "it takes more time or memory than any book", "所需的时间或内存超出正常范围") from error


def decoded(data: bytes) -> str:
    """The text. Without a mark it is UTF-8 or, as many Chinese books are, GB 18030. Raises ValueError."""
    encoding = next((name for mark, name in _MARKS if data.startswith(mark)), None)
    if encoding is not None:
        return data.decode(encoding)
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return data.decode("gb18030")


def _read(path: Path, most: int) -> bytes:
    if not path.is_file():  # opening a pipe could take forever
        raise _unreadable(path, "it is no file", "它不是文件")
    with path.open("rb") as file:
        data = file.read(most + 1)
    if len(data) > most:
        raise _unreadable(path, f"it is larger than {most} bytes", f"大于 {most} 字节")
    return data


def _unreadable(path: Path, reason: str, reason_zh: str) -> CosyError:
    return CosyError(errors.BOOK_UNREADABLE, path=path, reason=reason, reason_zh=reason_zh)
