"""Repeated lines of a log are counted, not written: a burst of one line must not hide the others or fill a disk."""

import logging
import threading
from collections import OrderedDict

_PASSED = 50  # lines of a kind within the window
_WINDOW = 10.0  # seconds from the first of them
_KINDS = 1000  # that are remembered

Kind = tuple[str, int, str]


class Repeats(logging.Filter):
    """For one handler, which reports a burst with the first line that comes after it."""

    def __init__(self, handler: logging.Handler) -> None:
        super().__init__()
        self._handler = handler
        self._lock = threading.Lock()
        self._bursts: OrderedDict[Kind, tuple[float, int]] = OrderedDict()  # the oldest first: begin and lines

    def filter(self, record: logging.LogRecord) -> bool:
        kind = (record.name, record.levelno, record.getMessage())
        with self._lock:
            over = self._take_over(record.created)
            began, lines = self._bursts.get(kind, (record.created, 0))
            self._bursts[kind] = (began, lines + 1)
        for (name, level, message), more in over:
            summary = f"{more} more lines within {_WINDOW:g} s said: {message}"
            fields = {"name": name, "levelno": level, "levelname": logging.getLevelName(level), "msg": summary}
            self._handler.handle(logging.makeLogRecord(fields))
        return lines < _PASSED

    def _take_over(self, now: float) -> list[tuple[Kind, int]]:
        """The bursts that are over, and how many lines of each were left out."""
        over = []
        while self._bursts:
            kind, (began, lines) = next(iter(self._bursts.items()))
            if now - began < _WINDOW and len(self._bursts) < _KINDS:
                break
            del self._bursts[kind]
            if lines > _PASSED:
                over.append((kind, lines - _PASSED))
        return over
