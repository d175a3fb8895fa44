"""The number of requests that a server is at, as its supervisor reads it."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from cosyserve.launch.ledger import Ledger
from tests.running import HANGS

WORK = """
import os, sys
from pathlib import Path
from cosyserve.launch.ledger import Ledger
ledger = Ledger(Path(sys.argv[1]))
for change in (1, 1, 1, -1):
    ledger.add(change)
print("written", flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize("sig", [signal.SIGKILL, signal.SIGTERM, signal.SIGABRT])
def test_it_is_known_however_the_server_ends(tmp_path: Path, sig: signal.Signals) -> None:
    ledger = Ledger(tmp_path)
    assert ledger.requests == 0
    work = [sys.executable, "-c", WORK, str(tmp_path)]
    with subprocess.Popen(work, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as server:
        assert server.stdout is not None
        assert server.stdout.readline() == b"written\n"
        os.kill(server.pid, sig)
        server.wait(HANGS)
    assert ledger.requests == 2
    ledger.close()
