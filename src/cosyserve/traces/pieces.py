"""Work that is done piece by piece, as one span: a long text has thousands of pieces."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from cosyserve.traces.span import Span


class Pieces:
    """A span from the beginning of the first piece to the end of the last. It notes how long the work itself took."""

    def __init__(self, name: str) -> None:
        self._name, self._count, self._seconds = name, 0, 0.0
        self._began = self._ended = 0  # nanoseconds since 1970

    @contextmanager
    def piece(self) -> Iterator[None]:
        """To be held while one piece is worked on."""
        began, started = time.time_ns(), time.perf_counter()
        self._began = self._began or began
        try:
            yield
        finally:
            took = time.perf_counter() - started
            self._count, self._seconds = self._count + 1, self._seconds + took
            self._ended = began + round(1e9 * took)

    def tell(self, parent: Span) -> None:
        """End the span, within `parent`; nothing if there was no piece."""
        if self._count:
            facts = {"cosyserve.pieces": self._count, "cosyserve.seconds": self._seconds}
            parent.begin(self._name, facts, self._began).end(self._ended)
