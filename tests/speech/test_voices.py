"""The library of voices on disk."""

import json
import os
import subprocess
import sys
import threading
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cosyserve.errors import CosyError
from cosyserve.speech import names
from cosyserve.speech.voices import BUNDLED, Entry, Library
from tests.running import ROOT
from tests.speech.recordings import REFUSED, encoded, tone

RECORDING = encoded(tone(2))


@pytest.fixture
def library(tmp_path: Path) -> Library:
    return Library(tmp_path / "voices")


def refused(code: str) -> "pytest.RaisesExc[CosyError]":
    return pytest.raises(CosyError, match=code)


def test_a_fresh_library_has_the_voice_that_comes_with_it(library: Library) -> None:
    (entry,) = library.entries.values()
    assert entry.file.parent == BUNDLED
    assert entry.transcript
    assert not library.folder.exists()


def test_a_recording_named_as_the_original_server_has_it_is_a_voice(library: Library) -> None:
    library.folder.mkdir()
    (library.folder / "[小明]今天天气真好。.wav").write_bytes(RECORDING)
    for other in ("notes.txt", "plain.wav", "[no words].wav", "[x]words.txt", "broken.json"):
        (library.folder / other).write_bytes(b"{")
    assert {entry.name: entry.transcript for entry in library.entries.values() if entry.file.parent != BUNDLED} == {
        "小明": "今天天气真好。"
    }


def test_only_files_are_voices(library: Library) -> None:
    (library.folder / "[folder]words.wav").mkdir(parents=True)
    for name in ("[pipe]words.wav", "pipe.json"):
        os.mkfifo(library.folder / name)
    assert list(library.entries) == ["cosy"]


def test_a_voice_is_added_found_by_another_process_and_removed(library: Library) -> None:
    other = Library(library.folder)
    assert "Anna" not in other.entries
    library.add("Anna", "Hello there.", "Anna, 2026-01-01", RECORDING)
    entry = other.entries["Anna"]
    assert (entry.transcript, entry.consent) == ("Hello there.", "Anna, 2026-01-01")
    other.remove("Anna")
    assert "Anna" not in library.entries
    assert list(library.folder.iterdir()) == []


def test_the_voice_of_a_dropped_in_file_can_be_removed(library: Library) -> None:
    library.folder.mkdir()
    (library.folder / "[Bob]Hi.wav").write_bytes(RECORDING)
    library.remove("Bob")
    assert "Bob" not in library.entries


def test_what_is_refused_leaves_nothing_behind(library: Library) -> None:
    library.add("Anna", "", "Anna", RECORDING)
    with refused("CS-VOICE-003"):
        library.add("Anna", "", "Anna", RECORDING)
    with refused("CS-VOICE-005"):
        library.add("Bob", "", " ", RECORDING)
    with refused("CS-VOICE-007"):
        library.remove("Bob")
    with refused("CS-VOICE-004"):
        library.remove("cosy")
    for data, code in REFUSED.values():
        with refused(code):
            library.add("Bob", "", "Bob", data)
    assert len(list(library.folder.iterdir())) == 2  # Anna's card and recording


def test_a_voice_that_cannot_be_learnt_is_not_there(tmp_path: Path) -> None:
    def fail(entry: Entry) -> None:
        assert entry.file.exists()
        raise RuntimeError("the model did not take it")

    library = Library(tmp_path, learn=fail)
    with pytest.raises(RuntimeError):
        library.add("Anna", "", "Anna", RECORDING)
    assert list(tmp_path.iterdir()) == []


def test_of_many_who_add_one_name_at_once_one_succeeds(tmp_path: Path) -> None:
    barrier, outcomes = threading.Barrier(8), list[str]()

    def add() -> None:
        library = Library(tmp_path, learn=lambda entry: barrier.wait())
        try:
            library.add("Anna", "", "Anna", RECORDING)
            outcomes.append("added")
        except CosyError as error:
            outcomes.append(error.fault.id)

    threads = [threading.Thread(target=add) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["CS-VOICE-003"] * 7 + ["added"]
    assert len(list(tmp_path.iterdir())) == 2


def test_a_card_cannot_point_out_of_its_folder(library: Library, tmp_path: Path) -> None:
    library.folder.mkdir()
    (tmp_path / "secret.flac").write_bytes(RECORDING)
    card = {"transcript": "", "consent": "", "file": "../secret.flac"}
    (library.folder / "Anna.json").write_text(json.dumps(card))
    assert "Anna" not in library.entries


def test_a_folder_that_cannot_be_written_to_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with refused("CS-VOICE-006"):
        Library(tmp_path / "file" / "voices").add("Anna", "", "Anna", RECORDING)


NO_NAMES = ["", ".", "..", "../x", "a/b", "a\\b", ".hidden", "a\0b", "x" * 49, "[x]", "a\nb", "-x", "a.", "\u0301a"]
DEVICES = ["CON", "nul", "Prn", "COM1", "LPT9", "aux.txt", "CON .x", "com0", "lpt².flac", "nul.a.b", " con "]
FOREIGN = [
    "हिन्दी",
    "தமிழ்",
    "ไทย",
    "José",
    "Zoë Müller",
    "小明",
    "玛丽·居里",
    "マリー・キュリー",
    "O'Brien",
    "می\u200cخواهم",
    "Straße",
]


@pytest.mark.parametrize("name", NO_NAMES + DEVICES)
def test_names_that_are_no_file_names_are_refused(name: str) -> None:
    with refused("CS-VOICE-002"):
        names.checked(name)


@pytest.mark.parametrize("name", [*FOREIGN, "console", "com10", "Nulla", "auxiliary.x"])
def test_names_of_every_script_are_names(name: str) -> None:
    assert names.checked(name) == unicodedata.normalize("NFC", name)


@given(st.text(max_size=60))
def test_a_checked_name_stays_in_its_folder(name: str) -> None:
    try:
        checked = names.checked(name)
    except CosyError:
        return
    assert Path(f"{checked}.json").name == f"{checked}.json"
    assert names.checked(checked) == checked
    assert len(checked.encode()) < 250


def spellings(name: str) -> list[str]:
    """The same name as keyboards, file systems and forms may have it."""
    cases = (name, name.upper(), name.lower(), name.swapcase(), name.title(), name.casefold())
    return [f" {unicodedata.normalize(form, each)}\t" for each in cases for form in ("NFC", "NFD")]


@given(name=st.text(st.characters(categories=("L", "M", "N", "Zs")), max_size=12), other=st.text(max_size=12))
def test_a_name_is_found_in_any_form_and_case(name: str, other: str) -> None:
    try:
        voices = {names.checked(name): "it"}
    except CosyError:
        return
    assert [names.found(voices, each) for each in spellings(next(iter(voices)))] == ["it"] * 12
    assert names.found(voices, other) == ("it" if names.are_alike(name, other) else None)


def test_of_names_that_differ_in_case_the_exact_one_is_meant() -> None:
    voices = {"Bob": 1, "BOB": 2, "Anna": 3}
    assert [names.found(voices, each) for each in ("Bob", "BOB ", "bob", "anna", "")] == [1, 2, None, 3, None]


@pytest.mark.parametrize("name", FOREIGN)
def test_every_spelling_of_a_voice_is_the_voice(library: Library, name: str) -> None:
    for uploaded, deleted in zip(spellings(name), reversed(spellings(name)), strict=True):
        added = library.adopt(uploaded, b"features")
        assert all(names.found(Library(library.folder).entries, each) == added for each in spellings(name))
        with refused("CS-VOICE-003"):
            library.adopt(deleted, b"features")
        library.remove(deleted)
        assert list(library.folder.iterdir()) == []


def test_files_that_other_systems_name_in_their_own_form_are_voices(library: Library) -> None:
    card = library.add("José", "", "José", RECORDING).card
    assert card is not None
    card.rename(library.folder / unicodedata.normalize("NFD", card.name))
    (library.folder / unicodedata.normalize("NFD", "[ Zoë ]Salut.wav")).write_bytes(RECORDING)
    assert {"José", "Zoë"} <= set(library.entries)
    library.remove("josé")
    library.remove("ZOË")
    assert list(library.folder.iterdir()) == []


def test_words_without_end_are_no_transcript(library: Library) -> None:
    for field in ("transcript", "consent"):
        words = {"transcript": "Hi.", "consent": "Anna", field: "x" * 1001}
        with pytest.raises(CosyError, match="CS-TEXT-006") as error:
            library.add("Anna", data=RECORDING, **words)
        assert error.value.param == field
    with refused("CS-TEXT-003"):
        library.add("Anna", "\ud800", "Anna", RECORDING)
    assert not library.folder.exists()


def test_only_the_owner_can_read_a_voice(library: Library) -> None:
    before = os.umask(0)
    try:
        library.add("Anna", "Hi.", "Anna", RECORDING)
    finally:
        os.umask(before)
    assert {file.stat().st_mode & 0o777 for file in library.folder.iterdir()} == {0o600}


def test_what_an_ended_process_has_left_is_taken_away(library: Library) -> None:
    """It was killed before the card was there, with and without a name for the recording."""
    library.add("Anna", "", "Anna", RECORDING)
    (left,) = library.folder.glob("Anna-*.flac")
    between = {".adding-a1.flac", "Bob-a1.flac", ".adding-b2.json"}
    for name in (*between, ".adding-young.flac", "my own.flac"):
        (library.folder / name).write_bytes(b"left")
        if name in between:
            os.utime(library.folder / name, (0, 0))
    os.link(left, library.folder / left.name.replace("Anna-", ".adding-"))  # it was killed with all done but this
    os.utime(left, (0, 0))
    library.add("Cleo", "", "Cleo", RECORDING)
    names_left = {file.name for file in library.folder.iterdir()}
    assert not between & names_left
    assert {".adding-young.flac", "my own.flac", left.name, "Anna.json", "Cleo.json"} <= names_left


FULL = """
from contextlib import suppress
from pathlib import Path
from cosyserve.errors import CosyError
from cosyserve.speech import voices
from tests.speech.test_voices import RECORDING

folder = Path("full")
library = voices.Library(folder)
outcomes = set()
for room in range(0, 40_000, 4096):
    filler = folder / "filler"
    with filler.open("wb", buffering=0) as file:
        with suppress(OSError):
            while True:
                file.write(bytes(4096))
        file.truncate(file.tell() - room)
    before = set(folder.iterdir())
    try:
        library.add("Anna", "x" * 1000, "Anna", RECORDING)
        outcomes.add("added")
        library.remove("Anna")
    except CosyError as error:
        outcomes.add(error.fault.id)
    left = set(folder.iterdir()) - before
    assert not left, left
    filler.unlink()
assert outcomes == {"added", "CS-VOICE-006"}, outcomes
"""


@pytest.mark.mpi  # needs root, for a disk of its own
def test_a_disk_that_is_full_at_any_moment_is_left_as_it_was(tmp_path: Path) -> None:
    mounted = 'mkdir -p full; mount -t tmpfs -o size=64k none full; exec "$@"'
    done = subprocess.run(
        ["unshare", "-m", "sh", "-ec", mounted, "sh", sys.executable, "-c", FULL],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.pathsep.join((str(ROOT), str(ROOT / "src")))},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
