"""What is known of the self-test of the last start, also where the process ended in it."""

import subprocess
import sys
from pathlib import Path

import pytest

from cosyserve.store.kernel_tests import SelfTest, recall, remember, trial

DIES = """
import os, sys
from pathlib import Path
from cosyserve.store.kernel_tests import trial
with trial(Path(sys.argv[1])) as tested:
    for name in ("flow", "draw"):
        tested.begins(name)
    os._exit(1)
"""


def die(folder: Path) -> None:
    """A start that ends while it tries `draw`."""
    assert subprocess.run([sys.executable, "-c", DIES, str(folder)]).returncode == 1


def broken(folder: Path) -> list[str]:
    """What the next start leaves out, which itself ends well."""
    with trial(folder) as tested:
        found = tested.broken
        tested.begins("flow")
        tested.ends("", dict.fromkeys(found, "it ended the process before"))
    return found


def test_what_was_found_is_remembered_for_this_version(tmp_path: Path) -> None:
    assert recall(tmp_path) is None
    found = SelfTest(replaced={"draw": "off by 0.5"})
    remember(tmp_path, found)
    assert recall(tmp_path) == found
    (tmp_path / "self-test.json").write_text('{"problem": 7')
    assert recall(tmp_path) is None
    remember(tmp_path, SelfTest(problem="it does not compile", cosyserve="0.0.1"))
    assert recall(tmp_path) is None


def test_a_kernel_at_which_two_starts_have_ended_is_not_tried_again(tmp_path: Path) -> None:
    die(tmp_path)
    die(tmp_path)
    assert [broken(tmp_path), broken(tmp_path)] == [["draw"], ["draw"]]


def test_one_start_that_ended_says_nothing(tmp_path: Path) -> None:
    """It may have been stopped; and what then goes well is forgotten."""
    for _ in range(2):
        die(tmp_path)
        assert broken(tmp_path) == []


def test_who_stops_a_start_blames_nothing(tmp_path: Path) -> None:
    for _ in range(3):
        with pytest.raises(KeyboardInterrupt), trial(tmp_path) as tested:
            tested.begins("draw")
            raise KeyboardInterrupt
    assert broken(tmp_path) == []


def test_what_has_spoilt_the_card_is_known_at_once(tmp_path: Path) -> None:
    with trial(tmp_path) as tested:
        tested.begins("flow")
        tested.blame("draw")
    assert broken(tmp_path) == ["draw"]


def test_one_that_tests_at_the_same_time_is_not_one_that_has_ended(tmp_path: Path) -> None:
    with trial(tmp_path) as first:
        first.begins("draw")
        for _ in range(3):
            with trial(tmp_path) as second:
                second.begins("flow")
                second.ends("", {})
        first.ends("", {})
    assert broken(tmp_path) == []


def test_without_a_folder_nothing_is_known() -> None:
    for _ in range(3):
        with trial(None) as tested:
            tested.begins("draw")
            assert tested.broken == []
