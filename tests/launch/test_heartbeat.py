"""The folder of a start, when supervisors come and go."""

import os
import signal
import subprocess
import sys
from pathlib import Path

from cosyserve.launch.heartbeat import Receiver, new_folder
from tests.running import HANGS

_SUPERVISOR = """
import signal, sys
from pathlib import Path
from cosyserve.launch.heartbeat import Receiver, new_folder
folder = new_folder(sys.argv[1])
receiver = Receiver(Path(folder.name))
print(flush=True)
signal.pause()
"""


def test_the_next_start_removes_what_a_killed_one_left_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "cosyserve-of-somebody").mkdir()
    with new_folder(str(tmp_path)) as mine:
        receiver = Receiver(Path(mine))
        argv = [sys.executable, "-c", _SUPERVISOR, str(tmp_path)]
        with subprocess.Popen(argv, stdout=subprocess.PIPE, env={**os.environ}) as other:
            assert other.stdout is not None
            other.stdout.readline()
            assert len([*tmp_path.glob("*/beat")]) == 2
            other.send_signal(signal.SIGKILL)
            other.wait(HANGS)
        with new_folder(str(tmp_path)) as later:
            left = {path.name for path in tmp_path.iterdir()}
            assert left == {"cosyserve-of-somebody", Path(mine).name, Path(later).name}
        receiver.close()
