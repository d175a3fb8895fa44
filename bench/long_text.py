"""Texts of one to ten minutes: how soon the first byte comes, and what the server's memory does meanwhile."""

import argparse
import threading
import time

import psutil

from bench.common.benchmark import Benchmark
from bench.common.results import Figure, Results, mib, ms, share
from bench.common.serving import server

SENTENCE = "这是一段很长的文字，它会一句一句地读出来。This is a long text, and it is read one sentence at a time. "
SECONDS_PER_SENTENCE = 8.2


class PeakMemory:
    """The largest resident size of a process while it is watched, in bytes."""

    def __init__(self, process: psutil.Process) -> None:
        self.peak = 0
        self._process, self._stopped = process, threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self) -> "PeakMemory":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stopped.wait(0.005):
            self.peak = max(self.peak, self._process.memory_info().rss)


def measure(options: argparse.Namespace, results: Results) -> None:
    """The preview voice over HTTP, pcm; the client reads as fast as it can."""
    with server() as (client, process):
        for minutes in (1, 10, 1, 2, 5, 10):
            body = {"input": SENTENCE * round(60 * minutes / SECONDS_PER_SENTENCE), "response_format": "pcm"}
            with PeakMemory(process) as memory:
                started = time.perf_counter()
                with client.stream("POST", "v1/audio/speech", json=body) as response:
                    first, received = 0.0, 0
                    for piece in response.iter_raw():
                        first = first or time.perf_counter() - started
                        received += len(piece)
                total = time.perf_counter() - started
            results.add(
                f"{minutes} minutes",
                sound=Figure(received / 2 / 24_000 / 60, "min", ".1f"),
                first_byte=ms(first),
                total=ms(total),
                first_of_total=share(first / total),
                peak_memory=mib(memory.peak),
            )


BENCHMARK = Benchmark(measure)


if __name__ == "__main__":
    BENCHMARK.run()
