"""A server for the benchmarks, and the process that serves (not its supervisor): its CPU and memory count alone."""

import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import psutil


@contextmanager
def server() -> Iterator[tuple[httpx.Client, psutil.Process]]:
    with tempfile.TemporaryDirectory() as folder:
        process = psutil.Popen(
            [sys.executable, "-m", "cosyserve", "serve", "--port", "0"],
            cwd=folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        url = process.stdout.readline().split()[1]
        with httpx.Client(base_url=url, timeout=300) as client:
            while client.get("readyz").status_code != 200:
                time.sleep(0.05)
            yield client, process.children()[0]
        process.terminate()
        process.wait()


def cpu_seconds(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)
