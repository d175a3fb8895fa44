"""The file of a long text, read by libraries that did not write it."""

import io
from pathlib import Path

import av
import mutagen
import numpy as np
import pytest

from cosyserve.errors import CosyError
from cosyserve.speech.audio import SAMPLE_RATE
from cosyserve.speech.binding import bind
from cosyserve.speech.encoders import BOOK_FORMATS
from cosyserve.speech.label import Label, rhythm
from cosyserve.speech.passages import Passages, SpokenSegment
from cosyserve.text.book import Book, Chapter, Passage
from tests.speech.test_label import LABEL
from tests.standins import tone

BOOK = Book(
    (
        Chapter("第一章", (Passage("a", 0.5), Passage("...", 0.25), Passage("b", 1))),
        Chapter("Two", (Passage("a", 1),)),
        Chapter("", (Passage("c"),)),
    ),
    "Title · 书名",
    "Anna",
)
BEGINS = [0, 0.5 + 0.25 + 1 + 2, 0.5 + 0.25 + 1 + 2 + 1 + 1]  # every passage with a sound is a second
SECONDS = BEGINS[-1] + 1
FORMATS = list(BOOK_FORMATS)


@pytest.fixture
def passages(tmp_path: Path) -> Passages:
    found = Passages(tmp_path, "a voice")
    for passage in found.missing(BOOK.passages):
        found.keep(
            passage, [SpokenSegment(f"{passage.text} one", tone(0.4)), SpokenSegment(f"{passage.text} two", tone(0.6))]
        )
    return found


def bound(passages: Passages, name: str, speed: float = 1.0, label: Label | None = None) -> bytes:
    file = io.BytesIO()
    *_, last = bind(BOOK, passages, BOOK_FORMATS[name], speed, label, file)
    assert last.seconds > 0
    return file.getvalue()


def begins_of(data: bytes, name: str) -> dict[str, float]:
    """Titles and beginnings of the chapters, by mutagen."""
    read = mutagen.File(io.BytesIO(data))
    if name == "m4b":
        return {chapter.title: chapter.start for chapter in read.chapters}
    if name == "mp3":
        return {chap.sub_frames["TIT2"].text[0]: chap.start_time / 1000 for chap in read.tags.getall("CHAP")}
    begins = {}
    for number in range(3):
        hours, minutes, seconds = read.tags[f"CHAPTER{number:03}"][0].split(":")
        title = read.tags[f"CHAPTER{number:03}NAME"][0]
        begins[title] = 3600 * int(hours) + 60 * int(minutes) + float(seconds)
    return begins


@pytest.mark.parametrize("damage", [b"", b"fLaC and nothing more", b"[[1, 2, 3]]", None])
@pytest.mark.parametrize("ending", [".flac", ".json"])
def test_a_kept_passage_that_was_damaged_is_spoken_again(passages: Passages, ending: str, damage: bytes | None) -> None:
    path = passages.path(Passage("b")).with_suffix(ending)
    if damage is None:
        path.unlink()
        path.mkdir()
    else:
        path.write_bytes(damage)
    if not passages.missing(BOOK.passages):  # else it is known already
        with pytest.raises(CosyError, match="CS-BOOK-002"):
            bound(passages, "flac")
    assert passages.missing(BOOK.passages) == [Passage("b", 1)]
    passages.keep(Passage("b", 1), [SpokenSegment("b", tone(1.0))])
    assert bound(passages, "flac")


def test_a_passage_that_was_cut_is_not_taken_for_a_shorter_one(passages: Passages) -> None:
    path = passages.path(Passage("b"))
    path.write_bytes(path.read_bytes()[:-500])
    with pytest.raises(CosyError, match="CS-BOOK-002"):
        bound(passages, "flac")


def test_a_passage_is_spoken_once_and_kept(passages: Passages, tmp_path: Path) -> None:
    assert passages.missing(BOOK.passages) == []
    assert len(list(tmp_path.glob("*.flac"))) == 3
    assert Passages(tmp_path, "another voice").missing(BOOK.passages) != []
    assert sum(samples for _, samples in passages.segments(Passage("a"))) == SAMPLE_RATE
    assert passages.segments(Passage("...")) == []


def test_a_passage_sounds_as_it_was_spoken(passages: Passages) -> None:
    (one, first), (two, second) = passages.read(Passage("b"))
    assert (one, two) == ("b one", "b two")
    np.testing.assert_allclose(first, tone(0.4), atol=1e-4)
    np.testing.assert_allclose(second, tone(0.6), atol=1e-4)


@pytest.mark.parametrize("speed", [1.0, 2.0])
def test_captions_say_where_each_segment_is(passages: Passages, speed: float) -> None:
    *_, last = bind(BOOK, passages, BOOK_FORMATS["wav"], speed, None, io.BytesIO())
    assert [caption.text for caption in last.captions] == ["a one", "a two", "b one", "b two"] + ["a one", "a two"] + [
        "c one",
        "c two",
    ]
    times = [(caption.begin / SAMPLE_RATE, caption.end / SAMPLE_RATE) for caption in last.captions]
    begins = [0, 0.4 / speed, 1 / speed + 0.75, 1.4 / speed + 0.75, 2 / speed + 1.75, 2.4 / speed + 1.75]
    assert [begin for begin, _ in times[:6]] == pytest.approx(begins, abs=0.001)
    assert times[-1][1] == pytest.approx(last.seconds, abs=0.001)


@pytest.mark.parametrize("speed", [1.0, 2.0])
@pytest.mark.parametrize("name", FORMATS)
def test_the_file_is_as_long_as_passages_and_pauses(passages: Passages, name: str, speed: float) -> None:
    data = bound(passages, name, speed)
    if name == "pcm":
        seconds = len(data) / 2 / SAMPLE_RATE
    else:
        with av.open(io.BytesIO(data), "r") as container:
            frames = [frame.samples / frame.sample_rate for frame in container.decode(audio=0)]
            seconds = sum(frames)
    pauses = SECONDS - 4
    assert seconds == pytest.approx(4 / speed + pauses, abs=0.15)


@pytest.mark.parametrize("name", ["m4b", "mp3", "opus", "flac"])
def test_chapters_begin_where_they_are_heard(passages: Passages, name: str) -> None:
    found = begins_of(bound(passages, name), name)
    assert list(found) == ["第一章", "Two", "Title · 书名"]
    assert list(found.values()) == pytest.approx(BEGINS, abs=0.002)


def test_chapters_follow_the_speed_and_a_label_that_is_heard(passages: Passages) -> None:
    label = Label("喵 Inc.", "f00d", audible=True)
    found = begins_of(bound(passages, "m4b", 2.0, label), "m4b")
    lead = rhythm().size / SAMPLE_RATE
    assert list(found.values()) == pytest.approx([0, lead + 1 + 1.75, lead + 1.5 + 2.75], abs=0.01)


@pytest.mark.parametrize("name", ["m4b", "mp3", "opus", "flac", "wav"])
def test_title_author_and_label_are_in_the_metadata(passages: Passages, name: str) -> None:
    data = bound(passages, name, label=LABEL)
    with av.open(io.BytesIO(data), "r") as container:
        found = {key.lower(): value for key, value in (container.metadata or container.streams[0].metadata).items()}
    assert found["aigc"] == LABEL.entry
    if name != "wav":
        assert (found["title"], found["artist"]) == (BOOK.title, BOOK.author)


def test_a_book_of_one_chapter_has_no_marks(passages: Passages) -> None:
    file = io.BytesIO()
    list(bind(Book(BOOK.chapters[1:2]), passages, BOOK_FORMATS["m4b"], 1.0, None, file))
    assert not mutagen.File(io.BytesIO(file.getvalue())).chapters
