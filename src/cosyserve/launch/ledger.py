"""How many requests a server is at, kept where its supervisor can read it however the server ends.

A server that dies while it serves may have been brought down by what it was sent; one that dies with nothing to do has
not. A heartbeat is too slow to tell, since a request may kill at once: so the number lies in memory that both map.
"""

import mmap
from pathlib import Path

_NAME = "requests"
_SIZE = 8  # bytes; the processor writes them as one


class Ledger:
    """The supervisor makes it in the folder of a start; the server that it starts opens it."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / _NAME
        if not self._file.exists():
            self._file.write_bytes(bytes(_SIZE))
        with self._file.open("r+b") as file:
            self._map = mmap.mmap(file.fileno(), _SIZE)
        self._count = memoryview(self._map).cast("q")

    @property
    def requests(self) -> int:
        """Requests that have begun and not ended; for a dead server, at the time of its death."""
        return self._count[0]

    def add(self, change: int) -> None:
        self._count[0] += change

    def close(self) -> None:
        self._count.release()
        self._map.close()
