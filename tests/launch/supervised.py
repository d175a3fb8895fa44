"""A supervised server for the tests, and a little client that can be run inside a stand-in host."""

import json
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import httpx
import psutil

from cosyserve.host import probe


class Supervised:
    """`COSYSERVE_MPI=always cosyserve serve` and everything that belongs to it."""

    def __init__(self, folder: Path, before: tuple[str, ...] = (), **settings: object) -> None:
        given = {"mpi": "always", "mpi_seconds": 6, "state_dir": folder / "state", "port": 0, **settings}
        environ = {name: value for name, value in os.environ.items() if not name.startswith("COSYSERVE_")}
        environ |= {f"COSYSERVE_{name.upper()}": str(value) for name, value in given.items()}
        self.log = folder / "supervised.log"
        self._output = self.log.open("wb")
        self.process = psutil.Popen(
            [*before, sys.executable, "-m", "cosyserve", "serve"],
            env=environ,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=self._output,
            stderr=subprocess.STDOUT,
        )

    def text(self) -> str:
        return self.log.read_text(errors="replace")

    def wait_until_it_stands(self, starts: int = 1, seconds: float = 60) -> tuple[str, str]:
        """The rung and the address, once it has become ready for the `starts`th time."""
        deadline = time.monotonic() + seconds
        while len(stands := re.findall(r"stands on the rung '([\w-]+)'", self.text())) < starts:
            assert time.monotonic() < deadline, self.text()
            assert self.process.poll() is None, self.text()
            time.sleep(0.02)
        return stands[-1], re.findall(r"CosyServe: (http://\S+)/", self.text())[-1]

    def server(self) -> psutil.Process:
        """The process that serves: the newest python below the supervisor."""
        below = [each for each in self.process.children(recursive=True) if each.name().startswith("python")]
        return max(below, key=lambda each: each.create_time())

    def below(self, name: str) -> psutil.Process:
        return next(each for each in psutil.process_iter() if each.name() == name and self._is_ours(each))

    def left(self) -> list[str]:
        """What is left of it: every living process with its mark, wherever it has moved itself."""
        living = [each for each in psutil.process_iter() if each != self.process and self._is_ours(each)]
        return [each.name() for each in living if each.status() != psutil.STATUS_ZOMBIE]

    def _is_ours(self, process: psutil.Process) -> bool:
        try:
            environ = process.environ()
        except psutil.Error:
            return False
        return probe.MARKER in environ and environ.get("COSYSERVE_STATE_DIR", "").startswith(str(self.log.parent))

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self._output.close()


def speaks(url: str) -> bool:
    body = {"input": "Hello.", "response_format": "wav"}
    return len(httpx.post(f"{url}/v1/audio/speech", json=body, timeout=20).content) > 10_000


def main() -> None:
    """Start, speak, stop; one line of JSON says how it went. Run inside a stand-in host."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        began = time.monotonic()
        supervised = Supervised(Path(folder))
        try:
            rung, url = supervised.wait_until_it_stands()
            seconds = time.monotonic() - began
            try:
                spoken = speaks(url)
            except httpx.ConnectError:
                spoken = None  # there is no loopback here; its warm-up has spoken, or it would not be ready
            supervised.process.terminate()
            status = supervised.process.wait(30)
            left = supervised.left()
        finally:
            supervised.close()
        print(json.dumps({"rung": rung, "seconds": seconds, "spoken": spoken, "status": status, "left": left}))


if __name__ == "__main__":
    main()
