"""EPUBs as publishers make them, and as nobody should."""

import io
import zipfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cosyserve.errors import CosyError
from cosyserve.text import epub
from cosyserve.text.book import Book
from cosyserve.text.book_file import book_in, decoded

CONTAINER = '<?xml version="1.0"?><container><rootfiles><rootfile full-path="OEBPS/book.opf"/></rootfiles></container>'
OPF = """<?xml version="1.0"?><package xmlns:dc="x"><metadata><dc:title>The &amp; Book</dc:title>
<dc:creator>Anna</dc:creator></metadata><manifest>{items}</manifest><spine{toc}>{spine}</spine></package>"""
PAGE = """<?xml version="1.0"?><!DOCTYPE html PUBLIC "-//W3C//DTD XHTML 1.1//EN" "http://www.w3.org/TR/xhtml11.dtd">
<html><head><title>not spoken</title><style>p {{}}</style><script src="x"/></head><body>{body}</body></html>"""
NAV = '<html><body><nav epub:type="toc"><ol>{}</ol></nav></body></html>'
ONE = "<h1>One</h1><p>First&nbsp;<b>bold</b>\n words.<br/>A line.</p><div>Loose<p>Inner</p>end</div>"
TWO = '<h2 id="a">Two</h2><p><ruby>漢<rt>かん</rt></ruby>字。</p><h2><a id="b"/>Three</h2><p>Last.</p>'


def packed(entries: dict[str, str | bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    return file.getvalue()


def made(pages: dict[str, str], links: str = "", *, ncx: str = "", more: dict[str, str | bytes] | None = None) -> bytes:
    """An EPUB of these pages in their order."""
    items = [f'<item id="i{n}" href="{name}" media-type="application/xhtml+xml"/>' for n, name in enumerate(pages)]
    items += ['<item id="nav" href="nav.xhtml" properties="nav" media-type="application/xhtml+xml"/>'] if links else []
    items += ['<item id="ncx" href="toc.ncx" media-type="application/x-dtbncx+xml"/>'] if ncx else []
    spine = "".join(f'<itemref idref="i{n}"/>' for n in range(len(pages)))
    entries: dict[str, str | bytes] = {"mimetype": "application/epub+zip", "META-INF/container.xml": CONTAINER}
    entries["OEBPS/book.opf"] = OPF.format(items="".join(items), spine=spine, toc=' toc="ncx"' if ncx else "")
    entries |= {f"OEBPS/{name}": PAGE.format(body=body) for name, body in pages.items()}
    entries |= {"OEBPS/nav.xhtml": NAV.format(links)} if links else {}
    entries |= {"OEBPS/toc.ncx": ncx} if ncx else {}
    return packed(entries | (more or {}))


def read(data: bytes) -> Book:
    return epub.loaded(epub.read(data))


def texts(book: Book) -> dict[str, list[str]]:
    return {chapter.title: [passage.text for passage in chapter.passages] for chapter in book.chapters}


EXPECTED = {
    "Chapter one": ["One", "First bold words.\nA line.\nLoose\nInner\nend"],
    "Chapter two": ["Two", "漢字。"],
    "Chapter three": ["Three", "Last."],
}


def test_the_contents_of_epub_3_make_the_chapters() -> None:
    links = '<li><a href="one.xhtml">Chapter one</a></li><li><a href="sub%20two.xhtml#a">Chapter two</a></li>'
    links += '<li><a href="sub%20two.xhtml#b">Chapter <i>three</i></a></li>'
    book = read(made({"one.xhtml": ONE, "sub two.xhtml": TWO}, links))
    assert (book.title, book.author) == ("The & Book", "Anna")
    assert texts(book) == EXPECTED


def test_the_contents_of_epub_2_do_too() -> None:
    points = [("Chapter one", "one.xhtml"), ("Chapter two", "two.xhtml#a"), ("Chapter three", "two.xhtml#b")]
    ncx = "".join(f'<navPoint><navLabel><text>{t}</text></navLabel><content src="{s}"/></navPoint>' for t, s in points)
    book = read(made({"one.xhtml": ONE, "two.xhtml": TWO}, ncx=f"<ncx><navMap>{ncx}</navMap></ncx>"))
    assert texts(book) == EXPECTED


def test_headings_make_chapters_where_there_is_no_table_of_contents() -> None:
    assert list(texts(read(made({"one.xhtml": ONE, "two.xhtml": TWO})))) == ["One", "Two", "Three"]


def test_a_page_that_the_contents_do_not_name_belongs_to_the_chapter_before() -> None:
    book = read(made({"one.xhtml": ONE, "two.xhtml": TWO}, '<li><a href="one.xhtml">All</a></li>'))
    assert list(texts(book)) == ["All"]
    assert "Last." in texts(book)["All"]


def test_a_file_is_read_by_its_ending(tmp_path: Path) -> None:
    path = tmp_path / "Book.EPUB"
    path.write_bytes(made({"one.xhtml": ONE}))
    assert texts(book_in(path)) == {"One": EXPECTED["Chapter one"]}
    for name, data in {"a.txt": "你好。".encode("gb18030"), "b.txt": b"\xff\xfe\x60\x4f\x7d\x59\x02\x30"}.items():
        (tmp_path / name).write_bytes(data)
        assert texts(book_in(tmp_path / name)) == {"": ["你好。"]}


BILLION = '<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">]>'
OUTSIDE = '<!DOCTYPE x [<!ENTITY b SYSTEM "file:///etc/passwd">]>'


@pytest.mark.parametrize("doctype", [BILLION, OUTSIDE])
def test_no_entity_is_expanded_and_no_file_read(doctype: str) -> None:
    data = made({}, more={"OEBPS/x.xhtml": f"{doctype}<html><body><p>Said: &b;</p></body></html>"})
    opf = OPF.format(items='<item id="x" href="x.xhtml" media-type="text/html"/>', spine='<itemref idref="x"/>', toc="")
    [passage] = read(repacked(data, {"OEBPS/book.opf": opf})).passages
    assert passage.text.endswith("Said: &b;")
    assert "root:" not in passage.text
    assert passage.text.count("aaa") <= 1


def repacked(data: bytes, changed: dict[str, str | bytes]) -> bytes:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return packed({**{name: archive.read(name) for name in archive.namelist()}, **changed})


HOSTILE = {
    "nothing": b"",
    "no zip": b"Just a text.",
    "no container": packed({"mimetype": "application/epub+zip"}),
    "a package that is not there": packed({"META-INF/container.xml": CONTAINER}),
    "a package outside": packed({"META-INF/container.xml": CONTAINER.replace("OEBPS/book.opf", "../../etc/passwd")}),
    "cut off": made({"one.xhtml": ONE})[:-30],
    "damaged": made({"one.xhtml": ONE * 50}).replace(b"\x78", b"\x79", 1)[:400],
    "a bomb": made({"one.xhtml": ONE}, more={"OEBPS/one.xhtml": b"<p>a</p>" * (9 * 1024 * 1024)}),
    "too many entries": packed({str(number): b"" for number in range(10_001)}),
    "locked": made(
        {"one.xhtml": ONE},
        more={"META-INF/encryption.xml": '<x><enc:CipherReference URI="OEBPS/one.xhtml"/></x>'},
    ),
}


@pytest.mark.parametrize("data", HOSTILE.values(), ids=HOSTILE.keys())
def test_what_is_no_book_is_refused_with_a_reason(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "book.epub").write_bytes(data)
    with pytest.raises(CosyError) as refused:
        book_in(tmp_path / "book.epub")
    assert refused.value.fault.id == "CS-BOOK-001"
    assert "book.epub" in refused.value.cause
    assert refused.value.cause_zh


def test_damaged_lzma_is_told_as_such() -> None:
    data, name = packed({"META-INF/container.xml": CONTAINER}, zipfile.ZIP_LZMA), b"META-INF/container.xml"
    properties = data.index(name) + len(name) + 4  # after the version and the size of the properties
    with pytest.raises(CosyError, match="it is no EPUB"):
        epub.read(data[:properties] + b"\xff" + data[properties + 1 :])


def test_locked_fonts_do_not_keep_the_text_locked() -> None:
    locked: dict[str, str | bytes] = {"META-INF/encryption.xml": '<x><CipherReference URI="OEBPS/font.ttf"/></x>'}
    assert texts(read(made({"one.xhtml": ONE}, more=locked)))


def test_links_that_lead_out_of_the_file_lead_nowhere() -> None:
    opf = OPF.format(
        items='<item id="x" href="../../../etc/passwd" media-type="text/html"/>', spine='<itemref idref="x"/>', toc=""
    )
    assert read(repacked(made({}), {"OEBPS/book.opf": opf})).chapters == ()


SAMPLE = made({"one.xhtml": ONE, "two.xhtml": TWO}, '<li><a href="one.xhtml">1</a></li>')


@settings(max_examples=200)
@given(st.lists(st.tuples(st.integers(0, len(SAMPLE) - 1), st.integers(0, 255)), min_size=1, max_size=8))
def test_a_damaged_file_is_read_or_refused(damage: list[tuple[int, int]]) -> None:
    data = bytearray(SAMPLE)
    for place, value in damage:
        data[place] = value
    try:
        read(bytes(data))
    except CosyError as error:
        assert error.fault.id == "CS-BOOK-001"


TAGS = st.sampled_from(
    [
        "<p>",
        "</p>",
        "<h1>",
        "</h1>",
        '<h2 id="a">',
        "</h2>",
        "<br/>",
        "<rt>",
        "</rt>",
        "<script>",
        "</script>",
        "<![CDATA[",
    ]
    + ["]]>", "<!--", "-->", "&amp;", "&", "&#xD800;", "<", "\0", "word ", "好。", "<body>", "</body>", "<a name='a'/>"]
)


@given(st.lists(TAGS, max_size=40).map("".join))
def test_any_document_is_read(body: str) -> None:
    book = read(made({"one.xhtml": body}, '<li><a href="one.xhtml#a">A</a></li>'))
    assert all(passage.text.strip() and "\0" not in passage.text for passage in book.passages)


@pytest.mark.parametrize("data", [b"\xff", b"\x81\xff\xff"])
def test_what_is_no_text_is_no_book(data: bytes, tmp_path: Path) -> None:
    with pytest.raises(ValueError):
        decoded(data)
    (tmp_path / "a.txt").write_bytes(data)
    with pytest.raises(CosyError) as refused:
        book_in(tmp_path / "a.txt")
    assert refused.value.fault.id == "CS-BOOK-001"


def test_a_book_without_a_word_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("…\n\n* * *\n")
    with pytest.raises(CosyError) as refused:
        book_in(tmp_path / "a.txt")
    assert refused.value.fault.id == "CS-TEXT-001"
