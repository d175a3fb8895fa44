"""Turns what a server and its libraries print into records of the log."""

import logging
import threading
from typing import IO

from cosyserve import logs

_LONGEST_LINE = 1 << 16
_LONGEST_WORDS = 200  # characters of the last words, which stand on the page and in /readyz
_LAST_SECONDS = 1.0  # for what is still in the pipes when all who write to them are gone


class Output:
    """Reads a server's pipes in threads of their own, so that it never waits for its log.

    Each pipe has its own thread: mpirun forwards a long line in pieces, which one pipe for both would mix.
    """

    def __init__(self, *pipes: IO[bytes] | None) -> None:
        self.last_words = ""
        self._threads = [threading.Thread(target=self._read, args=(pipe,), daemon=True) for pipe in pipes if pipe]
        for thread in self._threads:
            thread.start()

    def _read(self, pipe: IO[bytes]) -> None:
        with pipe:
            for data in iter(lambda: pipe.readline(_LONGEST_LINE), b""):
                line = data.decode(errors="backslashreplace").rstrip("\r\n")  # mpirun's terminal ends lines with both
                if line.strip():
                    self._take(line)

    def _take(self, line: str) -> None:
        record = logs.record_of(line)
        if record is None:
            record = logging.makeLogRecord(
                {"name": "output", "levelno": logging.INFO, "levelname": "INFO", "msg": line}
            )
        if record.name == "output" or record.levelno >= logging.ERROR:
            self.last_words = _presentable(record.getMessage())
        logging.getLogger(record.name).handle(record)

    def close(self) -> None:
        """Stops reading once the server is gone. It does not wait for another process that inherited a pipe."""
        for thread in self._threads:
            thread.join(_LAST_SECONDS)


def _presentable(message: str) -> str:
    """The text as one short line without secrets, fit for an environment variable and for anybody to see."""
    line = next((line for line in message.splitlines() if line.strip()), "")
    printable = "".join(character if character.isprintable() else " " for character in logs.without_secrets(line))
    return printable.strip()[:_LONGEST_WORDS]
