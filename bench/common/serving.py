"""A server for the benchmarks, and the process that serves (not its supervisor): its CPU and memory count alone."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import psutil

from tests.running import Server


@contextmanager
def server() -> Iterator[tuple[httpx.Client, psutil.Process]]:
    with (
        tempfile.TemporaryDirectory() as folder,
        Server(Path(folder)) as running,
        httpx.Client(base_url=running.url, timeout=300) as client,
    ):
        yield client, running.process.children()[0]
        running.stop()


def cpu_seconds(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)
