"""A flag that a signal's handler sets."""

import signal
import subprocess
import sys
import time
from pathlib import Path

from cosyserve.launch.flag import Flag
from tests.launch.supervised import Supervised
from tests.running import HANGS

# A timer's signals interrupt one another, a wait, and the main thread as it sets the flag itself.
_STORM = """
import signal
from cosyserve.launch.flag import Flag

flag = Flag()
signal.signal(signal.SIGALRM, lambda *_: flag.set())
signal.setitimer(signal.ITIMER_REAL, 1e-3, 1e-3)
assert flag.wait(60)
for _ in range(200_000):
    flag.set()
    assert flag.wait(60)
signal.setitimer(signal.ITIMER_REAL, 0)
"""


def test_signals_at_any_moment_set_it_and_nobody_stands_still() -> None:
    subprocess.run([sys.executable, "-c", _STORM], check=True, timeout=HANGS)


def test_it_is_waited_for_no_longer_than_asked() -> None:
    flag = Flag()
    began = time.monotonic()
    assert not flag.wait(0.01)
    assert time.monotonic() - began >= 0.01
    flag.set()
    assert flag.wait(HANGS)
    assert flag.is_set()


def test_a_storm_of_signals_ends_a_server_at_once(tmp_path: Path) -> None:
    with Supervised(tmp_path, mpi="auto") as supervised:
        supervised.wait_until_it_stands()
        for _ in range(100):
            supervised.process.send_signal(signal.SIGTERM)
            supervised.process.send_signal(signal.SIGINT)
        assert supervised.process.wait(HANGS) == 130
        assert supervised.left() == []
