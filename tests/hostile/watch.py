"""What others notice of a server while it is attacked: how long /livez takes, how long a stream waits, memory."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

import httpx
import numpy as np
import psutil

from tests.running import HANGS

_EVERY = 0.02  # seconds between two looks
_STREAM = {"input": "Somebody listens to this all the time. " * 40, "response_format": "pcm"}


@dataclass
class Noticed:
    """Seconds that /livez took, the longest that a stream waited for its next bytes, and bytes of memory."""

    livez: list[float] = field(default_factory=list)
    stream: float = 0.0
    memory: int = 0

    @property
    def longest(self) -> float:
        return max(self.livez, default=0.0)

    def p99(self) -> float:
        return float(np.percentile(self.livez, 99)) if self.livez else 0.0

    def line(self) -> str:
        mib = self.memory / 2**20
        return f"/livez {1000 * self.longest:5.0f} ms, a stream waits {1000 * self.stream:5.0f} ms, {mib:5.0f} MiB"


class Watch:
    """Three threads that look at a server; each stretch of time has a `Noticed` of its own."""

    def __init__(self, url: str, process: psutil.Process, key: str = "") -> None:
        self._url, self._process = url, process
        self._headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._over = threading.Event()
        self.now = self.all = Noticed()
        self._threads = [threading.Thread(target=each) for each in (self._ask, self._listen, self._weigh)]

    def __enter__(self) -> "Watch":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()

    @contextmanager
    def stretch(self) -> Iterator[Noticed]:
        self.now = Noticed()
        yield self.now
        self.all = Noticed(
            [*self.all.livez, *self.now.livez],
            max(self.all.stream, self.now.stream),
            max(self.all.memory, self.now.memory),
        )

    def memory(self) -> int:
        """Of the server and all that belong to it."""
        return sum(self.memory_by_process().values())

    def memory_by_process(self) -> dict[str, int]:
        held: dict[str, int] = {}
        for each in (self._process, *self._process.children(recursive=True)):
            with suppress(psutil.Error):
                held[f"{each.pid} {' '.join(each.cmdline()[-3:])}"] = each.memory_info().rss
        return held

    def _ask(self) -> None:
        with httpx.Client(timeout=HANGS) as client:
            while not self._over.wait(_EVERY):
                began = time.monotonic()
                with suppress(httpx.HTTPError):
                    client.get(f"{self._url}/livez").raise_for_status()
                self.now.livez.append(time.monotonic() - began)

    def _listen(self) -> None:
        while not self._over.is_set():
            with (
                suppress(httpx.HTTPError),
                httpx.stream(
                    "POST", f"{self._url}/v1/audio/speech", json=_STREAM, headers=self._headers, timeout=HANGS
                ) as stream,
            ):
                last = None
                for _ in stream.iter_raw():
                    now = time.monotonic()
                    if last is not None:  # how long the first takes is a matter of the queue
                        self.now.stream = max(self.now.stream, now - last)
                    last = now
                    if self._over.is_set():
                        return

    def _weigh(self) -> None:
        while not self._over.wait(_EVERY):
            self.now.memory = max(self.now.memory, self.memory())
