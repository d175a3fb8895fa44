"""Work in processes with bounds: what comes back, what becomes of one that exceeds them, and that none is left."""

import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import psutil
import pytest

from cosyserve import errors
from cosyserve.confined import Bounds, Confined, NotStartedError, UnfinishedError
from cosyserve.errors import CosyError
from cosyserve.speech import recording
from tests.running import ROOT, eventually, lives

WORK = "tests.confined_work:obey"
BOUNDS = Bounds(memory=256 << 20, cpu_seconds=0.2, seconds=60, at_once=4)


@pytest.fixture(scope="module")
def confined() -> Iterator[Confined]:
    each = Confined(WORK, BOUNDS)
    yield each
    each.close()


def children() -> list[psutil.Process]:
    """Those of this file: others of the same run may have children, too."""
    found = []
    for child in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):
            if WORK in child.cmdline():
                found.append(child)
    return found


def test_many_threads_get_their_own_answers(confined: Confined) -> None:
    asked = [str(number).encode() * 100_000 for number in range(16)]
    with ThreadPoolExecutor(16) as threads:
        assert list(threads.map(confined, asked)) == asked


def test_a_refusal_arrives_with_all_it_says(confined: Confined) -> None:
    with pytest.raises(CosyError, match="8000 samples") as refused:
        confined(b"refuse")
    assert refused.value.param == "audio"


@pytest.mark.parametrize("asked", ["take memory", "calculate", "crash", "raise"])
def test_what_exceeds_its_bounds_or_crashes_ends_alone(confined: Confined, asked: str) -> None:
    with ThreadPoolExecutor(2) as threads:
        bad = threads.submit(confined, asked.encode())
        assert confined(b"another") == b"another"
        with pytest.raises(UnfinishedError):
            bad.result()
    assert confined(b"the next") == b"the next"


def test_work_that_cannot_be_imported_is_no_fault_of_what_was_asked() -> None:
    confined = Confined("tests.no_such_module:work", BOUNDS)
    for _ in range(2):
        with pytest.raises(NotStartedError):
            confined(b"anything")
    confined.close()


def test_a_recording_that_cannot_be_read_for_want_of_a_package_is_the_servers_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("cosyserve.speech.recording._decode", Confined("tests.no_such_module:work", BOUNDS))
    with pytest.raises(CosyError) as refused:
        recording.read(b"RIFF")
    assert refused.value.fault is errors.INTERNAL


def test_what_waits_for_ever_ends() -> None:
    confined = Confined(WORK, Bounds(memory=256 << 20, cpu_seconds=60, seconds=0.2, at_once=1))
    with pytest.raises(UnfinishedError):
        confined(b"sleep")
    confined.close()


def test_a_child_serves_one_call_unless_it_is_kept(confined: Confined) -> None:
    assert confined(b"who") != confined(b"who")
    keeping = Confined(WORK, Bounds(memory=256 << 20, cpu_seconds=60, seconds=60, at_once=1, kept=1))
    first = keeping(b"who")
    assert keeping(b"who") == first
    kept = psutil.Process(int(first))
    kept.kill()
    kept.wait()
    assert keeping(b"who") != first
    keeping.close()


def test_the_process_that_forks_is_replaced_where_it_was_killed(confined: Confined) -> None:
    confined(b"once")
    killed = children()
    for each in killed:
        with suppress(psutil.NoSuchProcess):  # a child of the last call, which has just ended by itself
            each.kill()
    psutil.wait_procs(killed)
    assert confined(b"again") == b"again"


def test_closing_leaves_no_process_and_a_later_call_begins_anew(confined: Confined) -> None:
    confined(b"once")
    confined.close()
    assert children() == []
    assert confined(b"again") == b"again"


def test_no_process_outlives_a_killed_one() -> None:
    script = """
from tests.test_confined import WORK, Bounds, Confined
confined = Confined(WORK, Bounds(256 << 20, 60, 60, at_once=1, kept=1))
print(confined(b"who").decode(), flush=True)
input()
"""
    with subprocess.Popen(
        [sys.executable, "-c", script], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        kept = psutil.Process(int(process.stdout.readline()))
        family = [kept, *kept.parents()[:1]]
        process.kill()
        assert process.stdout.read() == b""  # nobody else holds it
    eventually(lambda: not any(each.is_running() and lives(each) for each in family))
