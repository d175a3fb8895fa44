"""Texts of one to ten minutes: how soon the first byte comes, and what the server's memory does meanwhile."""

import threading
import time

import psutil

from bench.serving import server

SENTENCE = "这是一段很长的文字，它会一句一句地读出来。This is a long text, and it is read one sentence at a time. "
SECONDS_PER_SENTENCE = 8.2
MEBIBYTE = 1 << 20


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


def main() -> None:
    print("preview voice over HTTP, pcm, the client reads as fast as it can; limit for first/total: 5 %")
    print(f"{'audio, min':>10}{'first byte, ms':>16}{'total, ms':>12}{'first/total':>13}{'peak memory, MiB':>18}")
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
            print(
                f"{received / 2 / 24_000 / 60:10.1f}{1000 * first:16.1f}{1000 * total:12.1f}"
                f"{100 * first / total:12.1f}%{memory.peak / MEBIBYTE:18.1f}"
            )


if __name__ == "__main__":
    main()
