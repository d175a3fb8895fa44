"""Files are whole or absent: whoever writes at the same time, and wherever a writer is ended."""

import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from cosyserve.files import create_atomically, link, temporary_name, write_atomically, writing_atomically
from tests.running import HANGS, ROOT

PYTHON = (sys.executable, "-c")
FORBIDDING = (sys.executable, "-m", "tests.forbidding")
WITHOUT_LINKS = (*FORBIDDING, "link=refuse", "--")
MAKE_KEY = """
import sys
from pathlib import Path
from cosyserve.keys import made_key
from cosyserve.settings import Settings
print(made_key(Settings(state_dir=Path(sys.argv[1]))))
"""
ADD_VOICE = """
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from cosyserve.errors import CosyError
from cosyserve.speech.voices import Library
from tests.speech.test_voices import RECORDING
def add(_: int) -> str:
    try:
        return Library(Path(sys.argv[1])).add("Anna", "Hi.", "Anna", RECORDING).name
    except CosyError as error:
        return error.fault.id
with ThreadPoolExecutor(3) as pool:
    print(*sorted(pool.map(add, range(3))))
"""


@contextmanager
def umask(mask: int) -> Iterator[None]:
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


def run(*argv: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(argv, capture_output=True, text=True, timeout=HANGS, cwd=ROOT, check=False)


def test_writers_with_one_process_id_do_not_meet(tmp_path: Path) -> None:
    """As in two containers on one volume: threads have the same number, too."""
    file = tmp_path / "state" / "file"
    contents = [bytes([each]) * 50_000 for each in range(8)]
    with ThreadPoolExecutor(8) as pool:
        written = [pool.submit(write_atomically, file, content) for content in contents * 10]
        while not all(each.done() for each in written):
            assert not file.exists() or file.read_bytes() in contents
    assert [each.exception() for each in written] == [None] * 80
    assert list(file.parent.iterdir()) == [file]


def test_what_fails_leaves_the_old_content_and_nothing_else(tmp_path: Path) -> None:
    file = tmp_path / "file"
    write_atomically(file, "old")
    with pytest.raises(ZeroDivisionError), writing_atomically(file) as writing:
        writing.write(b"new")
        raise ZeroDivisionError
    assert file.read_text() == "old"
    assert list(tmp_path.iterdir()) == [file]


def test_a_file_has_the_mode_that_is_asked_for(tmp_path: Path) -> None:
    def mode(file: Path) -> int:
        return stat.S_IMODE(file.stat().st_mode)

    with umask(0o027):
        write_atomically(tmp_path / "open", "")
        write_atomically(tmp_path / "secret", "", mode=0o600)
        create_atomically(tmp_path / "key", "", mode=0o600)
    assert [mode(tmp_path / name) for name in ("open", "secret", "key")] == [0o640, 0o600, 0o600]


def test_of_starts_at_once_where_there_are_no_hard_links_all_have_one_key(tmp_path: Path) -> None:
    with ThreadPoolExecutor(3) as pool:
        starts = list(pool.map(lambda _: run(*WITHOUT_LINKS, *PYTHON, MAKE_KEY, str(tmp_path)), range(3)))
    assert {start.stderr for start in starts} == {""}
    keys = {start.stdout for start in starts}
    assert keys == {(tmp_path / "api_key").read_text()}
    assert [each.name for each in tmp_path.iterdir()] == ["api_key"]
    assert stat.S_IMODE((tmp_path / "api_key").stat().st_mode) == 0o600


@pytest.mark.parametrize("call", ["flock", "rename"])
def test_a_start_that_is_ended_where_there_are_no_hard_links_leaves_no_empty_key(tmp_path: Path, call: str) -> None:
    ended = run(*FORBIDDING, "link=refuse", f"{call}=kill", "--", *PYTHON, MAKE_KEY, str(tmp_path))
    assert (ended.returncode, ended.stdout) == (-31, "")  # SIGSYS
    assert not (tmp_path / "api_key").exists()
    assert run(*WITHOUT_LINKS, *PYTHON, MAKE_KEY, str(tmp_path)).stdout == (tmp_path / "api_key").read_text()


def test_a_voice_is_added_once_where_there_are_no_hard_links(tmp_path: Path) -> None:
    added = run(*WITHOUT_LINKS, *PYTHON, ADD_VOICE, str(tmp_path))
    assert (added.stderr, added.stdout) == ("", "Anna CS-VOICE-003 CS-VOICE-003\n")
    assert sorted(file.suffix for file in tmp_path.iterdir()) == [".flac", ".json"]


def test_a_second_name_never_takes_the_place_of_a_file(tmp_path: Path) -> None:
    with temporary_name(tmp_path) as first:
        first.write_text("one")
        link(first, tmp_path / "file")
        with pytest.raises(FileExistsError):
            link(first, tmp_path / "file")
    assert (tmp_path / "file").read_text() == "one"
