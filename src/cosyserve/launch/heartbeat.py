"""What a server tells its supervisor: datagrams on a Unix socket, which neither side ever waits for."""

import contextlib
import json
import os
import socket
from dataclasses import dataclass
from pathlib import Path

# Internal to a launch, hence no settings: where to tell, and what a restarted server may tell others.
SOCKET = "_COSYSERVE_BEAT"
RESTARTS = "_COSYSERVE_RESTARTS"
REASON, REASON_ZH = "_COSYSERVE_RESTART_REASON", "_COSYSERVE_RESTART_REASON_ZH"
# Which of several installed releases this is, and which start of it.
RELEASE, START = "_COSYSERVE_RELEASE", "_COSYSERVE_START"
# The share of a graphics card's memory that a replica has; the rest belongs to others.
GPU_SHARE = "_COSYSERVE_GPU_SHARE"


@dataclass(frozen=True)
class Heartbeat:
    """Which process it is, how far it is (`mpi`, then the states of the service), and where it is to be found."""

    pid: int
    state: str
    address: str = ""


class Sender:
    """The server's side."""

    def __init__(self, path: str) -> None:
        self._path = path
        self.folder = Path(path).parent  # of this start, which the supervisor removes at its end
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        self.address = ""
        """Where people find the server, once that is known."""

    def send(self, state: str) -> bool:
        """Whether there still is a supervisor. A full buffer is no reason to think that it is gone."""
        try:
            message = {"pid": os.getpid(), "state": state, "address": self.address}
            self._socket.sendto(json.dumps(message).encode(), self._path)
        except BlockingIOError:
            return True
        except OSError:
            return False
        return True


def to_supervisor() -> Sender | None:
    """The way to the supervisor that started this process, None where nobody did."""
    path = os.environ.get(SOCKET)
    return Sender(path) if path else None


def folder_of_start() -> Path:
    """A folder of this start of a server, which its supervisor removes at the end."""
    return Path(os.environ[SOCKET]).parent


class Receiver:
    """The supervisor's side, in a folder that is gone with it."""

    def __init__(self, folder: Path) -> None:
        self.path = str(folder / "beat")
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(self.path)

    def receive(self, seconds: float) -> Heartbeat | None:
        """The next heartbeat, None when none comes in time."""
        self._socket.settimeout(seconds)
        with contextlib.suppress(TimeoutError, ValueError, KeyError, TypeError):
            message = json.loads(self._socket.recv(4096))
            return Heartbeat(int(message["pid"]), str(message["state"]), str(message.get("address", "")))
        return None

    def close(self) -> None:
        self._socket.close()
