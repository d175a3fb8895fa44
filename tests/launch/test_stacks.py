"""Stacks of real processes that hang."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import psutil
import pytest

from cosyserve.launch import stacks

HANGS = """
import signal, sys, threading
from pathlib import Path
from cosyserve.launch import stacks
stacks.offer(Path(sys.argv[1]))
def deep(levels):
    deep(levels - 1) if levels else threading.Event().wait()
for _ in range(20):
    threading.Thread(target=deep, args=(60,), daemon=True).start()
def say():
    print("hanging", flush=True)
def blocked():
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
    say()
    threading.Event().wait()
def outermost():
    {how}
outermost()
"""
WAYS = {
    "in Python": "say(); threading.Event().wait()",
    "in a call that keeps the interpreter": "import ctypes; say(); [ctypes.PyDLL(None).sleep(1000) for _ in range(9)]",
    "with the signal blocked elsewhere": "t = threading.Thread(target=blocked); t.start(); t.join()",
}

Hang = Callable[[str], "subprocess.Popen[bytes]"]


@pytest.fixture
def hang(tmp_path: Path) -> Iterator[Hang]:
    with ExitStack() as started:

        def start(how: str) -> "subprocess.Popen[bytes]":
            command = [sys.executable, "-c", HANGS.format(how=how), str(tmp_path)]
            process = started.enter_context(subprocess.Popen(command, stdout=subprocess.PIPE))
            started.callback(process.kill)
            assert process.stdout is not None
            assert process.stdout.readline() == b"hanging\n"
            return process

        yield start


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_they_are_whole(hang: Hang, tmp_path: Path, way: str) -> None:
    hang(way)
    for _ in range(2):  # asked again, it writes anew
        lines = stacks.ask(tmp_path)
    assert sum("in deep" in line for line in lines) == 20 * 61
    assert any("in outermost" in line for line in lines)
    assert lines[-1].endswith("in <module>")


def test_who_is_stopped_or_gone_is_not_waited_for(hang: Hang, tmp_path: Path) -> None:
    stopped, gone = hang(WAYS["in Python"]), hang(WAYS["in Python"])
    psutil.Process(stopped.pid).suspend()
    gone.kill()
    gone.wait()
    assert stacks.ask(tmp_path) == []
    assert stacks.ask(tmp_path / "nowhere") == []
