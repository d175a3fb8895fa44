"""A flag that a signal's handler sets."""

import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import psutil

from cosyserve.launch.flag import Flag
from tests.launch.supervised import Supervised
from tests.running import HANGS, eventually, lives

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
    """Signals of one kind that wait together count once, and a SIGINT with a SIGTERM behind it is one stop. So the
    second storm begins when the first is noticed; until then the server stands still, so that it cannot end by itself.
    """
    with Supervised(tmp_path, mpi="auto", heartbeat_seconds=HANGS) as supervised:
        supervised.wait_until_it_stands()
        server = supervised.server()
        server.suspend()
        try:
            for _ in range(100):
                supervised.process.send_signal(signal.SIGINT)
            eventually(lambda: "Ctrl-C again stops at once" in supervised.text())
            while lives(supervised.process):
                supervised.process.send_signal(signal.SIGTERM)
                supervised.process.send_signal(signal.SIGINT)
            assert supervised.process.wait(HANGS) == 130
            assert supervised.left() == []
        finally:
            with suppress(psutil.NoSuchProcess):
                server.kill()
