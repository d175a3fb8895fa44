"""`cosyserve say --file`: a book into one audio file, with as many passages at once as there are streams, here or on a
server.

What has been spoken is kept beside the file until it is complete, so the same command goes on after any end.
"""

import contextlib
import json
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import click
from anyio.to_thread import run_sync

from cosyserve import errors
from cosyserve.errors import CosyError
from cosyserve.settings import Settings
from cosyserve.speech.binding import Progress, bind_to_file
from cosyserve.speech.captions import Caption, expect_writable, write
from cosyserve.speech.encoders import BOOK_FORMATS, Format
from cosyserve.speech.label import Label, LabelKind, label_of, louder
from cosyserve.speech.lexicon import Lexicon
from cosyserve.speech.passages import Passages, SpokenSegment, speak_all
from cosyserve.speech.reading import Reader
from cosyserve.speech.synthesizer import Options, Synthesizer, pronounces, voice_of
from cosyserve.text.book import Book, Passage
from cosyserve.text.book_file import book_in

_LINE_SECONDS = 10  # between two lines about the progress where there is no terminal


class PassageReader(Protocol):
    """What speaks the passages of a book."""

    @property
    def manner(self) -> str:
        """What decides how a passage sounds. If any of it has changed, all passages are spoken again."""
        ...

    @property
    def streams(self) -> int:
        """How many passages are spoken at once."""
        ...

    @property
    def label(self) -> LabelKind:
        """How its speech is labelled, at least."""
        ...

    async def read(self, passage: Passage) -> list[SpokenSegment]: ...


class ReaderHere:
    """The synthesizer of this process. `at_once` bounds the passages that are spoken at a time where it does not."""

    def __init__(
        self, settings: Settings, synthesizer: Synthesizer, voice: str, at_once: int, *, normalize: bool = True
    ) -> None:
        speaker, lexicon = voice_of(synthesizer, voice or settings.voice), Lexicon(settings.voices_dir)
        words = lexicon.words(speaker.id, pronounced=pronounces(synthesizer))
        longest, whole = settings.max_audio_seconds, Options(whole=True)
        self.read = Reader(synthesizer, speaker, words, whole, longest, normalize=normalize).read
        entries = [vars(entry) for entry in lexicon.entries]
        self.manner = json.dumps([synthesizer.model, speaker.id, normalize, entries])
        self.streams = synthesizer.capacity.streams if synthesizer.capacity else min(at_once, settings.max_streams)
        self.label: LabelKind = settings.label


async def read_aloud(
    settings: Settings,
    reader: PassageReader,
    path: Path,
    output: Path,
    *,
    speed: float = 1.0,
    title: str = "",
    captions: Path | None = None,
) -> None:
    """Have the book in `path` spoken into `output`, whose ending says its format. The file `captions` says what was
    said when."""
    fmt = _format_of(output)
    caption_format = expect_writable(captions) if captions else None
    book = book_in(path)
    book = replace(book, title=title or book.title or path.stem)
    passages = Passages(output.parent / f".{output.name}.passages", reader.manner)
    try:
        passages.folder.mkdir(exist_ok=True)
        await _speak(book, passages, reader)
        label = label_of(settings.model_copy(update={"label": louder(settings.label, reader.label)}))
        said = _bind(book, passages, fmt, speed, label, output)
        if captions and caption_format:
            write(captions, caption_format.written(said))
        shutil.rmtree(passages.folder, ignore_errors=True)
    except OSError as error:
        raise _unusable(output, error.strerror or str(error)) from error


async def _speak(book: Book, passages: Passages, reader: PassageReader) -> None:
    missing = passages.missing(book.passages)
    total = sum(len(passage.text) for passage in book.passages if passage.has_sound)
    left = sum(len(passage.text) for passage in missing)
    click.echo(
        f"{len(book.chapters)} chapters, {total} characters, {reader.streams} passages at once. "
        "If this is interrupted, the same command goes on behind the last passage.",
        err=True,
    )
    with _shown("Speaking", total, total - left) as shown:

        async def keep(passage: Passage) -> None:
            await run_sync(passages.keep, passage, await reader.read(passage))
            shown.add(len(passage.text))

        await speak_all(missing, reader.streams, keep)


def _bind(
    book: Book, passages: Passages, fmt: Format, speed: float, label: Label | None, output: Path
) -> Sequence[Caption]:
    parts = list(book.passages)
    binding = bind_to_file(output, book, passages, fmt, speed, label)
    last = Progress(0)
    with _shown("Writing", len(parts), 0) as shown, closing(binding):
        for so_far in binding:
            shown.add(1)
            last = so_far
    click.echo(f"{output}: {_clock(last.seconds)}", err=True)
    return last.captions


def _format_of(output: Path) -> Format:
    fmt = BOOK_FORMATS.get(output.suffix[1:].lower())
    if fmt is None:
        raise _unusable(output, "unknown ending")
    return fmt


def _unusable(output: Path, reason: str) -> CosyError:
    endings = ", ".join(f".{name}" for name in BOOK_FORMATS)
    return CosyError(errors.OUTPUT_UNUSABLE, path=output, reason=reason, endings=endings)


def _clock(seconds: float) -> str:
    return f"{int(seconds // 3600)}:{int(seconds // 60 % 60):02}:{int(seconds % 60):02}"


class _Shown(Protocol):
    def add(self, done: int) -> None: ...


class _Bar:
    def __init__(self, what: str, total: int, done: int) -> None:
        from tqdm import tqdm  # which takes a while to import, and is for terminals only

        form = "{desc}: {percentage:3.0f}%|{bar}| {elapsed}, {remaining} left"
        self.bar: Any = tqdm(desc=what, total=total, initial=done, bar_format=form, leave=False)

    def add(self, done: int) -> None:
        self.bar.update(done)


class _Lines:
    """A line now and then."""

    def __init__(self, what: str, total: int, done: int) -> None:
        self._what, self._total, self._first, self._done = what, total, done, done
        self._began = self._said = time.monotonic()

    def add(self, done: int) -> None:
        self._done += done
        now = time.monotonic()
        if now < self._said + _LINE_SECONDS:
            return
        self._said = now
        left = (now - self._began) * (self._total - self._done) / max(1, self._done - self._first)
        click.echo(f"{self._what}: {self._done / max(1, self._total):.0%}, {_clock(left)} left", err=True)


@contextlib.contextmanager
def _shown(what: str, total: int, done: int) -> Iterator[_Shown]:
    """How far it is, of `total`, and how long it still takes."""
    if not sys.stderr.isatty():
        yield _Lines(what, total, done)
        return
    bar = _Bar(what, total, done)
    try:
        yield bar
    finally:
        bar.bar.close()
