"""What the supervisor adds to a start on a healthy host: paired runs, MPI initialised in both.

Plain is the same server under the same Python, without supervisor and ladder; supervised takes the remembered rung.
Seconds are from the start of the process to the first 200 of /readyz.
"""

import argparse
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

from bench.common.benchmark import Benchmark
from bench.common.results import Results, seconds
from cosyserve.server.run import listen

_PAIRS = 10
_PLAIN = """
import sys
from cosyserve.launch import mpi
from cosyserve.settings import load_settings
settings = load_settings()
mpi.initialise()
from cosyserve.server import run
from cosyserve.speech.choice import choose
run.serve(settings, choose(settings))
"""


def started(argv: list[str], folder: str) -> float:
    with listen("127.0.0.1", 0) as free:
        port = free.getsockname()[1]
    environ = {**os.environ, "HWLOC_COMPONENTS": "-gl,-opencl", "COSYSERVE_MPI": "always", "COSYSERVE_PORT": str(port)}
    environ["COSYSERVE_STATE_DIR"] = folder
    began = time.perf_counter()
    quiet = subprocess.DEVNULL
    process = subprocess.Popen([sys.executable, *argv], env=environ, cwd=folder, stdout=quiet, stderr=quiet)
    while not _ready(port):
        time.sleep(0.005)
    took = time.perf_counter() - began
    process.send_signal(signal.SIGTERM)
    process.wait()
    return took


def _ready(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz") as answer:
            return bool(answer.status == 200)
    except (OSError, urllib.error.HTTPError):
        return False


def measure(options: argparse.Namespace, results: Results) -> None:
    with tempfile.TemporaryDirectory() as folder:
        supervised = ["-m", "cosyserve", "serve"]
        started(supervised, folder)  # makes the memory
        pairs = [(started(["-c", _PLAIN], folder), started(supervised, folder)) for _ in range(_PAIRS)]
        assert (Path(folder) / "launch.json").exists()  # noqa: S101
    plain, watched = (statistics.median(column) for column in zip(*pairs, strict=True))
    added = statistics.median(b - a for a, b in pairs)
    results.add(f"medians of {_PAIRS} pairs", plain=seconds(plain), supervised=seconds(watched), added=seconds(added))


BENCHMARK = Benchmark(measure, needs="Open MPI")


if __name__ == "__main__":
    BENCHMARK.run()
