"""Reads an EPUB: its spine in order, and chapters where its table of contents has them.

It is run in a process of its own (`book_file`), since anybody may have made the file. Nothing of it is unpacked to a
disk, and its names are looked up among its own entries only. Every document is read as HTML, whose parser knows no
entities but characters, so there is nothing to expand.
"""

import io
import json
import lzma
import posixpath
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from html.parser import HTMLParser
from urllib.parse import unquote, urldefrag

from cosyserve import errors
from cosyserve.errors import CosyError
from cosyserve.text.book import Block, Book, of_blocks, of_parts
from cosyserve.text.checks import checked_piece

MOST_BYTES = 256 * 1024 * 1024  # of the file, pictures included
_MOST_TEXT = 64 * 1024 * 1024  # bytes of all documents together, once they are unpacked
_MOST_ENTRIES = 10_000
_DEEPEST_CONTENTS = 2  # levels of the table of contents that make chapters: parts and chapters
_CONTAINER, _ENCRYPTION = "META-INF/container.xml", "META-INF/encryption.xml"
_LINE_END = "\0"  # no text has it
_LONGEST_REASON = 200
_DOCUMENTS = ("application/xhtml+xml", "text/html")

_HEADINGS = {f"h{level}": level for level in range(1, 7)}
_BLOCKS = frozenset(
    ("address", "article", "aside", "blockquote", "body", "caption", "center", "dd", "details", "div", "dl", "dt")
    + ("figcaption", "figure", "footer", "form", "header", "hr", "html", "li", "main", "nav", "ol", "p", "pre")
    + ("section", "summary", "table", "tbody", "td", "tfoot", "th", "thead", "tr", "ul")
)
_UNSPOKEN = frozenset(("head", "script", "style", "rt", "rp", "template"))
# What the standard library raises for a damaged archive or document.
_BROKEN = (
    *(zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, NotImplementedError, RuntimeError),
    *(OSError, ValueError, LookupError),
)


def read(data: bytes) -> bytes:
    """The book as JSON, for `loaded`. Raises `CS-BOOK-001`."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            package = _package(_Archive(archive))
            parts = [(part.title, [(block.text, block.level) for block in part.blocks]) for part in _parts(package)]
    except _BROKEN as error:
        raise unreadable(f"it is no EPUB: {error}", f"不是有效的 EPUB：{error}") from error
    return json.dumps([package.title, package.author, bool(package.contents), parts]).encode()


def loaded(data: bytes) -> Book:
    """What `read` has found."""
    title, author, has_contents, found = json.loads(data)
    parts = [(name, [Block(checked_piece(text), level) for text, level in blocks]) for name, blocks in found]
    if has_contents:
        return of_parts(parts, title, author)
    return of_blocks([block for _, blocks in parts for block in blocks], title, author)


def unreadable(reason: str, reason_zh: str) -> CosyError:
    """Without the path, which is not known here."""
    return CosyError(errors.BOOK_UNREADABLE, path="", reason=reason, reason_zh=reason_zh)


class _Archive:
    """The texts in the archive, by their names."""

    def __init__(self, archive: zipfile.ZipFile) -> None:
        self._archive, self._left = archive, _MOST_TEXT
        self._names = set(archive.namelist())
        if len(archive.infolist()) > _MOST_ENTRIES:
            raise unreadable(f"it has more than {_MOST_ENTRIES} entries", f"条目超过 {_MOST_ENTRIES} 个")

    def __contains__(self, name: str) -> bool:
        return name in self._names

    def read(self, name: str) -> str:
        """At most as many bytes as are left, whatever its header says. Raises LookupError if there is no such entry."""
        with self._archive.open(name) as entry:
            data = entry.read(self._left + 1)
        self._left -= len(data)
        if self._left < 0:
            raise unreadable(f"its texts have more than {_MOST_TEXT} bytes", f"文本超过 {_MOST_TEXT} 字节")
        encoding = "utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
        return data.decode(encoding, errors="replace")


class _Reader(HTMLParser):
    """Calls `opened` and `closed` for every element, and gathers the text in between."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self._text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.opened(tag, {name: value or "" for name, value in attrs})

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        self.handle_endtag(tag)

    def handle_endtag(self, tag: str) -> None:
        self.closed(tag)

    def handle_data(self, data: str) -> None:
        self._text.append(data)

    def taken(self) -> str:
        """The text since the last time, its white space as it is shown."""
        lines = "".join(self._text).split(_LINE_END)
        self._text.clear()
        return "\n".join(" ".join(line.split()) for line in lines).strip()

    def opened(self, tag: str, attributes: dict[str, str]) -> None: ...

    def closed(self, tag: str) -> None: ...

    def read(self, document: str) -> None:
        self.feed(document)
        self.close()


class _ContainerReader(_Reader):
    package = ""

    def opened(self, tag: str, attributes: dict[str, str]) -> None:
        if tag.endswith("rootfile"):
            self.package = self.package or attributes.get("full-path", "")


@dataclass
class _Item:
    path: str
    media_type: str
    properties: list[str]


@dataclass
class _Line:
    """A line of the table of contents."""

    path: str
    fragment: str
    title: str


@dataclass
class _Package:
    entries: _Archive
    title: str = ""
    author: str = ""
    items: dict[str, _Item] = field(default_factory=dict)
    spine: list[str] = field(default_factory=list)
    contents_id: str = ""
    contents: list[_Line] = field(default_factory=list)


class _PackageReader(_Reader):
    """The package document: metadata, manifest, spine."""

    def __init__(self, package: _Package, path: str) -> None:
        super().__init__()
        self._package, self._path = package, path

    def opened(self, tag: str, attributes: dict[str, str]) -> None:
        name, package = tag.rpartition(":")[2], self._package
        self.taken()
        if name == "item":
            path, _ = _address(self._path, attributes.get("href", ""))
            properties = attributes.get("properties", "").split()
            package.items[attributes.get("id", "")] = _Item(path, attributes.get("media-type", ""), properties)
        elif name == "itemref" and attributes.get("linear") != "no":
            package.spine.append(attributes.get("idref", ""))
        elif name == "spine":
            package.contents_id = attributes.get("toc", "")

    def closed(self, tag: str) -> None:
        text = self.taken()
        if tag == "dc:title":
            self._package.title = self._package.title or text[:1000]
        elif tag == "dc:creator":
            self._package.author = self._package.author or text[:1000]


class _NavigationReader(_Reader):
    """The table of contents of EPUB 3, a list of links."""

    def __init__(self, path: str) -> None:
        super().__init__()
        self.found: list[_Line] = []
        self._path, self._inside, self._depth = path, False, 0
        self._address: tuple[str, str] | None = None

    def opened(self, tag: str, attributes: dict[str, str]) -> None:
        if tag == "nav":
            self._inside = "toc" in attributes.get("epub:type", "").split()
        elif tag == "ol":
            self._depth += 1
        elif tag == "a" and self._inside:
            self.taken()
            self._address = _address(self._path, attributes.get("href", ""))

    def closed(self, tag: str) -> None:
        if tag == "nav":
            self._inside = False
        elif tag == "ol":
            self._depth -= 1
        elif tag == "a" and self._address is not None:
            if self._depth <= _DEEPEST_CONTENTS:
                self.found.append(_Line(*self._address, self.taken()))
            self._address = None


class _NcxReader(_Reader):
    """The table of contents of EPUB 2."""

    def __init__(self, path: str) -> None:
        super().__init__()
        self.found: list[_Line] = []
        self._path, self._depth, self._title = path, 0, ""

    def opened(self, tag: str, attributes: dict[str, str]) -> None:
        if tag == "navpoint":
            self._depth += 1
        elif tag == "navlabel":
            self.taken()
        elif tag == "content" and 0 < self._depth <= _DEEPEST_CONTENTS:
            self.found.append(_Line(*_address(self._path, attributes.get("src", "")), self._title))

    def closed(self, tag: str) -> None:
        if tag == "navpoint":
            self._depth -= 1
        elif tag == "navlabel":
            self._title = self.taken()


@dataclass
class _Part:
    title: str
    blocks: list[Block] = field(default_factory=list)


class _DocumentReader(_Reader):
    """A document of the spine. It begins a part where the table of contents points."""

    def __init__(self, part: _Part, titles: dict[str, str]) -> None:
        super().__init__()
        self.parts, self._titles = [part], titles
        self._unspoken, self._level = 0, 0

    def opened(self, tag: str, attributes: dict[str, str]) -> None:
        if tag in _UNSPOKEN:
            self._unspoken += 1
        if tag in _BLOCKS or tag in _HEADINGS:
            self._end_block()
            self._level = _HEADINGS.get(tag, 0)
        if tag == "br":
            self.handle_data(_LINE_END)
        for name in (attributes.get("id", ""), attributes.get("name", "") if tag == "a" else ""):
            if name and name in self._titles:
                self._begin(self._titles.pop(name))

    def closed(self, tag: str) -> None:
        if tag in _UNSPOKEN:
            self._unspoken = max(0, self._unspoken - 1)
        if tag in _BLOCKS or tag in _HEADINGS:
            self._end_block()
            self._level = 0

    def handle_data(self, data: str) -> None:
        if not self._unspoken:
            super().handle_data(data)

    def read(self, document: str) -> None:
        super().read(document)
        self._end_block()

    def _begin(self, title: str) -> None:
        if not self._level:  # the place may be inside the heading
            self._end_block()
        self.parts.append(_Part(title))

    def _end_block(self) -> None:
        if text := self.taken():
            self.parts[-1].blocks.append(Block(text, self._level))


def _package(entries: _Archive) -> _Package:
    """Raises LookupError, `CS-BOOK-001`."""
    container = _ContainerReader()
    container.read(entries.read(_CONTAINER))
    package = _Package(entries)
    _PackageReader(package, container.package).read(entries.read(container.package))
    if _ENCRYPTION in entries:
        locked = _LockedReader()
        locked.read(entries.read(_ENCRYPTION))
        if locked.found & {item.path for item in package.items.values() if item.media_type in _DOCUMENTS}:
            raise unreadable("it is protected against copying", "有版权保护（DRM）")
    package.contents = _contents(package)
    return package


class _LockedReader(_Reader):
    """Which entries are encrypted. Fonts often are, which is no protection of the text."""

    def __init__(self) -> None:
        super().__init__()
        self.found: set[str] = set()

    def opened(self, tag: str, attributes: dict[str, str]) -> None:
        if tag.endswith("cipherreference"):
            self.found.add(unquote(attributes.get("uri", "")))


def _contents(package: _Package) -> list[_Line]:
    navigation = next((item for item in package.items.values() if "nav" in item.properties), None)
    older = package.items.get(package.contents_id)
    for item, kind in ((navigation, _NavigationReader), (older, _NcxReader)):
        if item is not None and item.path in package.entries:
            reader = kind(item.path)
            reader.read(package.entries.read(item.path))
            if found := [entry for entry in reader.found if entry.title]:
                return found
    return []


def _parts(package: _Package) -> Iterator[_Part]:
    """The text of the spine, cut where the table of contents points."""
    part = _Part("")
    for item in _spine(package):
        titles = {entry.fragment: entry.title for entry in reversed(package.contents) if entry.path == item.path}
        if "" in titles:
            yield part
            part = _Part(titles.pop(""))
        reader = _DocumentReader(part, titles)
        reader.read(package.entries.read(item.path))
        yield from reader.parts[:-1]
        part = reader.parts[-1]
    yield part


def _spine(package: _Package) -> Iterable[_Item]:
    """The documents in the order of reading, without one that is not there; each once."""
    items = {item.path: item for name in package.spine if (item := package.items.get(name)) is not None}
    for item in items.values():
        if item.path in package.entries and item.media_type in _DOCUMENTS and "nav" not in item.properties:
            yield item


def _address(base: str, link: str) -> tuple[str, str]:
    """The entry and the place in it that a link in the document `base` means."""
    path, fragment = urldefrag(link)
    return posixpath.normpath(posixpath.join(posixpath.dirname(base), unquote(path))), unquote(fragment)
