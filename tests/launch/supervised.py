"""A supervised server for the tests, and a little client that can be run inside a stand-in host."""

import json
import os
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import httpx
import psutil

from cosyserve.host import cure, probe
from tests.running import HANGS, Server, asked, lives


class Supervised(Server):
    """A server that initialises MPI, and everything that belongs to it."""

    def __init__(self, folder: Path, before: tuple[str, ...] = (), **settings: object) -> None:
        super().__init__(folder, before, **{"mpi": "always", "mpi_seconds": HANGS, **settings})

    def server(self) -> psutil.Process:
        """The process that serves: the newest below the supervisor that was started as a server."""
        below = [each for each in self.process.children(recursive=True) if _serves(each)]
        return max(below, key=lambda each: each.create_time())

    def below(self, name: str) -> psutil.Process:
        return next(each for each in psutil.process_iter() if asked(each.name) == name and self._is_ours(each))

    def left(self) -> list[str]:
        """What is left of it: every living process with its mark, wherever it has moved itself."""
        living = [each for each in psutil.process_iter() if each != self.process and self._is_ours(each)]
        return [name for each in living if (name := asked(each.name)) is not None and lives(each)]

    def _is_ours(self, process: psutil.Process) -> bool:
        try:
            environ = process.environ()
        except psutil.Error:
            return False
        return probe.MARKER in environ and environ.get("COSYSERVE_STATE_DIR", "").startswith(str(self.log.parent))


def _serves(process: psutil.Process) -> bool:
    """Beside it there are processes that read texts and recordings."""
    with suppress(psutil.Error):
        return process.name().startswith("python") and "serve" in process.cmdline()
    return False


def speaks(url: str) -> bool:
    body = {"input": "Hello.", "response_format": "wav"}
    return len(httpx.post(f"{url}/v1/audio/speech", json=body, timeout=HANGS).content) > 10_000


def main(mpi_seconds: str) -> None:
    """Start, speak, stop; one line of JSON says how it went. Run inside a stand-in host."""
    with tempfile.TemporaryDirectory(dir=cure.look_around(os.environ, 1).tmpdir) as folder:
        began = time.monotonic()
        with Supervised(Path(folder), mpi_seconds=mpi_seconds) as supervised:
            rung, url = supervised.wait_until_it_stands()
            seconds = time.monotonic() - began
            try:
                spoken = speaks(url)
            except httpx.TransportError:
                spoken = None  # there is no loopback here; its warm-up has spoken, or it would not be ready
            status = supervised.stop()
            left = supervised.left()
        print(json.dumps({"rung": rung, "seconds": seconds, "spoken": spoken, "status": status, "left": left}))


if __name__ == "__main__":
    main(*sys.argv[1:])
