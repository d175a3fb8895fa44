"""What a container's health check asks, as a program that needs nothing but the standard library and 30 ms.

Status 0 and `ready`; or status 1 and what the container does instead, so that one that builds an engine can be told
from one that is dead.
"""

import http.client
import json
import os
import sys
from pathlib import Path

_SECONDS = 4
_STEPS = {"fetch": "fetching the model", "build": "building the engine", "doctor": "looking at the machine"}


def health(port: int, processes: Path = Path("/proc")) -> tuple[bool, str]:
    """Whether a server on `port` is alive and can speak, and what is to be said of it."""
    try:
        if _get(port, "/livez")[0] != 200:
            return False, "the server is not alive"
        status, body = _get(port, "/readyz")
    except OSError as error:
        return False, _step(processes) or f"nothing answers on port {port}: {error}"
    return status == 200, "ready" if status == 200 else json.loads(body)["status"]


def _get(port: int, path: str) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_SECONDS)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def _step(processes: Path) -> str:
    """What the entrypoint is at, by the command that runs."""
    for process in processes.glob("[0-9]*/cmdline"):
        try:
            command = process.read_bytes().decode(errors="replace").split("\0")
        except OSError:
            continue
        names = [Path(each).name for each in command]
        if "cosyserve" in names:
            step = command[names.index("cosyserve") + 1]
            if step in _STEPS:
                return f"starting: {_STEPS[step]}"
            if step == "serve":
                return "starting: loading the model"
    return ""


if __name__ == "__main__":
    well, said = health(int(os.environ.get("COSYSERVE_PORT") or 6008))
    print(said)
    sys.exit(not well)
