"""The library of voices on disk."""

import json
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cosyserve.errors import CosyError
from cosyserve.speech import names
from cosyserve.speech.voices import BUNDLED, Entry, Library
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


@pytest.mark.parametrize(
    "name", ["", ".", "..", "../x", "a/b", "a\\b", ".hidden", "a\0b", "x" * 49, "[x]", "a\nb", "-x"]
)
def test_names_that_are_no_file_names_are_refused(name: str) -> None:
    with refused("CS-VOICE-002"):
        names.checked(name)


@given(st.text(max_size=60))
def test_a_checked_name_stays_in_its_folder(name: str) -> None:
    try:
        checked = names.checked(name)
    except CosyError:
        return
    assert Path(f"{checked}.json").name == f"{checked}.json"
    assert names.checked(checked) == checked
    assert len(checked.encode()) < 250
