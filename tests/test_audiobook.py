"""`cosyserve say --file` in processes of its own, one of which dies in the middle."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import mutagen
import pytest

from tests.running import Server
from tests.text.test_epub import ONE, TWO, made

# A stand-in for whatever ends a process: it kills itself once it has kept three passages, whose threads take turns.
_DYING = """
import itertools, os, signal, threading
from cosyserve.cli import main
from cosyserve.speech.passages import Passages

keep, numbers, turns = Passages.keep, itertools.count(1), threading.Lock()

def keep_and_die(*given):
    with turns:
        keep(*given)
        if next(numbers) == 3:
            os.kill(os.getpid(), signal.SIGKILL)

Passages.keep = keep_and_die
main()
"""
PARAGRAPH = "Nobody minds the quick brown fox that jumps over the lazy dog. " * 4
BOOK = "# A book\n\n" + "".join(f"## Part {part}\n\n{part} {PARAGRAPH}\n\n" for part in range(4))


def said(
    folder: Path,
    *arguments: str,
    program: tuple[str, ...] = ("-m", "cosyserve"),
    keys: Mapping[str, str] = MappingProxyType({}),
) -> subprocess.CompletedProcess[str]:
    settings = {"COSYSERVE_SYNTHESIZER": "preview", "COSYSERVE_STATE_DIR": str(folder / "state"), **keys}
    return subprocess.run(
        [sys.executable, *program, "say", *arguments],
        cwd=folder,
        env={**os.environ, **settings},
        capture_output=True,
        text=True,
    )


@pytest.mark.parametrize("where", ["here", "by a server"])
def test_a_book_goes_on_where_a_killed_process_left_it(tmp_path: Path, server: Server, where: str) -> None:
    (tmp_path / "book.md").write_text(BOOK)
    by = () if where == "here" else ("--server", server.url)
    arguments = ("--file", "book.md", "-o", "book.m4b", *by)
    assert said(tmp_path, *arguments, program=("-c", _DYING)).returncode == -signal.SIGKILL
    assert not (tmp_path / "book.m4b").exists()
    kept = list((tmp_path / ".book.m4b.passages").glob("*.flac"))
    assert len(kept) == 3
    for path in kept:  # so that it can be read whether they are used
        words = json.loads(path.with_suffix(".json").read_text())
        path.with_suffix(".json").write_text(json.dumps([(f"Kept: {written}", samples) for written, samples in words]))
    run = said(tmp_path, *arguments, "--captions", "book.srt")
    assert run.returncode == 0, run.stderr
    read = mutagen.File(tmp_path / "book.m4b")
    assert [chapter.title for chapter in read.chapters] == ["A book · Part 0", "Part 1", "Part 2", "Part 3"]
    lines = (tmp_path / "book.srt").read_text().splitlines()
    written = [line for line in lines if PARAGRAPH[:20] in line or line.startswith(("A book", "Part", "Kept"))]
    assert sum(line.startswith("Kept: ") for line in written) >= len(kept)
    assert sum(not line.startswith("Kept: ") for line in written) > 0
    assert read.tags["©alb"] == ["A book"]
    assert {path.name for path in tmp_path.iterdir()} - {"state"} == {"book.m4b", "book.md", "book.srt"}


def test_an_epub_becomes_an_audiobook(tmp_path: Path) -> None:
    (tmp_path / "book.epub").write_bytes(made({"one.xhtml": ONE, "two.xhtml": TWO}))
    run = said(tmp_path, "--file", "book.epub", "-o", "book.mp3", "--speed", "2", "--title", "Mine")
    assert run.returncode == 0, run.stderr
    tags = mutagen.File(tmp_path / "book.mp3").tags
    assert [chapter.sub_frames["TIT2"].text[0] for chapter in tags.getall("CHAP")] == ["One", "Two", "Three"]
    assert (tags["TIT2"].text, tags["TPE1"].text) == (["Mine"], ["Anna"])
    assert "TXXX:AIGC" in tags


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--file", "absent.txt", "-o", "a.mp3"), "CS-BOOK-001"),
        (("--file", "book.pdf", "-o", "a.mp3"), "CS-BOOK-001"),
        (("--file", "book.md", "-o", "a.midi"), "CS-SAY-002"),
        (("--file", "book.md", "-o", "nowhere/a.mp3"), "CS-SAY-002"),
        (("--file", "book.md", "-o", "-"), "needs -o"),
        (("hello", "--file", "book.md", "-o", "a.mp3"), "either TEXT or --file"),
    ],
)
def test_what_cannot_be_says_why(tmp_path: Path, arguments: tuple[str, ...], words: str) -> None:
    for name in ("book.md", "book.pdf"):
        (tmp_path / name).write_text("Hello.")
    run = said(tmp_path, *arguments)
    assert (run.returncode, words in run.stderr) == (2, True), run.stderr
