"""What a container's health check asks, as a program that needs the standard library, `cosyserve.addresses` and 30 ms.

Status 0 and `ready`; or status 1 and what the container does instead, so that one that builds an engine can be told
from one that is dead.
"""

import json
import os
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

from cosyserve.addresses import connected

_SECONDS = 4
_STEPS = {
    "doctor": "looking at the machine",
    "fetch": "fetching the model",
    "build": "building the engine",
    "serve": "loading the voice",
}


def health(host: str, port: int, processes: Path) -> tuple[bool, str]:
    """Whether the server is alive and can speak, and what is to be said of it.

    `processes` is /proc: a host and a port that were given as flags stand there, else they are `host` and `port`.
    """
    commands = list(_commands(processes))
    host = next((options["--host"] for _, options in commands if "--host" in options), host)
    port = next((int(options["--port"]) for _, options in commands if "--port" in options), port)
    try:
        if _get(host, port, "/livez")[0] != 200:
            return False, "the server is not alive"
        status, body = _get(host, port, "/readyz")
    except OSError as error:
        steps = [_STEPS[step] for step, _ in commands if step in _STEPS]
        return False, f"starting: {steps[0]}" if steps else f"nothing answers on {host} port {port}: {error}"
    return status == 200, "ready" if status == 200 else json.loads(body)["status"]


def _get(host: str, port: int, path: str) -> tuple[int, bytes]:
    connection = connected(host, port, _SECONDS)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def _commands(processes: Path) -> Iterator[tuple[str, dict[str, str]]]:
    """Every command of cosyserve that runs, with what stands behind each of its words."""
    for process in processes.glob("[0-9]*/cmdline"):
        try:
            words = process.read_bytes().decode(errors="replace").rstrip("\0").split("\0")
        except OSError:
            continue
        names = [Path(word).name for word in words]
        if "cosyserve" in names[:-1]:
            rest = words[names.index("cosyserve") + 1 :]
            yield rest[0], dict(pairwise(rest))


if __name__ == "__main__":
    own = {name: os.environ.get(f"COSYSERVE_{name}") for name in ("HOST", "PORT")}
    well, said = health(own["HOST"] or "127.0.0.1", int(own["PORT"] or 6008), Path("/proc"))
    print(said)
    sys.exit(not well)
