"""An AutoDL machine at work: TensorBoard on 6007, SSH on 6003, our own server on 6008. Does a second one start?

Run in a network of its own, since it needs these very ports; one line of JSON says how each start went.
"""

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from cosyserve.host import mpi, probe
from cosyserve.machine import Machine
from tests.host.hosts import SSH, listener
from tests.launch.rungs import MPI_RUNGS
from tests.launch.supervised import Supervised, speaks
from tests.running import eventually

_IMPORT = "from mpi4py import MPI; MPI.COMM_WORLD.Split_type(MPI.COMM_TYPE_SHARED)"


@contextmanager
def tensorboard(folder: Path) -> Iterator[None]:
    command = [sys.executable, "-m", "tensorboard.main", "--host", "0.0.0.0", "--port", "6007", "--logdir", str(folder)]  # noqa: S104
    with (folder / "tensorboard.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
    try:
        eventually(_tensorboard_answers)
        yield
    finally:
        process.terminate()
        process.wait()


def _tensorboard_answers() -> bool:
    try:
        return "TensorBoard" in httpx.get("http://127.0.0.1:6007/").text
    except httpx.TransportError:
        return False


def second_start(folder: Path, rung: str, limit: float) -> list[object]:
    folder.mkdir()
    with Supervised(folder, launch=rung, mpi_seconds=limit) as server:
        came, url = server.wait_until_it_stands()
        return [came, speaks(url), server.stop()]


def main(limit: float) -> None:
    """`limit`: seconds in which a healthy start of MPI is long done."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as name:
        folder = Path(name)
        with tensorboard(folder), listener(6003, SSH), Supervised(folder, port=6008) as first:
            attempts = {attempt.name: attempt for attempt in mpi.attempts(Machine())}
            python = [sys.executable, "-c", _IMPORT]
            result = {
                "plain python": probe.run(python, attempts["direct"].environ, limit).outcome.value,
                "as an engine build starts": probe.run(python, attempts["cured"].environ, limit).outcome.value,
                **{rung: second_start(folder / rung, rung, limit) for rung in MPI_RUNGS},
                "first": [speaks(first.url), first.stop()],
            }
    print(json.dumps(result))


if __name__ == "__main__":
    main(float(sys.argv[1]))
