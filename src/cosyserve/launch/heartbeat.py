"""Heartbeats from a server to its supervisor: datagrams on a Unix socket. Neither side ever waits for the other."""

import contextlib
import json
import os
import platform
import shutil
import socket
import tempfile
import zlib
from dataclasses import dataclass
from pathlib import Path

# Internal to a launch, so these are not settings: the socket, and what a restarted server may tell its users.
SOCKET = "_COSYSERVE_BEAT"
_BEAT = "beat"  # its name
RESTARTS = "_COSYSERVE_RESTARTS"
REASON, REASON_ZH = "_COSYSERVE_RESTART_REASON", "_COSYSERVE_RESTART_REASON_ZH"
# Which of several installed releases this is, and which start of it.
RELEASE, START = "_COSYSERVE_RELEASE", "_COSYSERVE_START"
# The share of a graphics card's memory that a replica has; the rest belongs to others.
GPU_SHARE = "_COSYSERVE_GPU_SHARE"


@dataclass(frozen=True)
class Heartbeat:
    """The server's process, its state (`mpi`, then the states of the service), and its address."""

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
        """The server's address, once it is known."""

    def send(self, state: str) -> bool:
        """Whether the supervisor is still there. A full buffer does not mean that it is gone."""
        try:
            message = {"pid": os.getpid(), "state": state, "address": self.address}
            self._socket.sendto(json.dumps(message).encode(), self._path)
        except BlockingIOError:
            return True
        except OSError:
            return False
        return True


def to_supervisor() -> Sender | None:
    """The connection to the supervisor that started this process; None if none did."""
    path = os.environ.get(SOCKET)
    return Sender(path) if path else None


def folder_of_start() -> Path:
    """A folder of this start of a server, which its supervisor removes at the end."""
    return Path(os.environ[SOCKET]).parent


def new_folder(tmpdir: str | None) -> "tempfile.TemporaryDirectory[str]":
    """A folder for one start of a server. Those of this machine's supervisors that were killed are removed: nobody
    hears the heartbeats that are sent there. On a shared disk, those of another machine would look the same."""
    prefix = f"cosyserve-{zlib.crc32(platform.node().encode()):08x}-"
    for path in Path(tmpdir or tempfile.gettempdir()).glob(f"{prefix}*/{_BEAT}"):
        with contextlib.suppress(OSError):
            if not _is_heard(path):
                shutil.rmtree(path.parent)
    return tempfile.TemporaryDirectory(prefix=prefix, dir=tmpdir)


def _is_heard(path: Path) -> bool:
    """Whether a process has that socket; raises OSError where it cannot be asked."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            return False
    return True


class Receiver:
    """The supervisor's side. Its folder is removed with it."""

    def __init__(self, folder: Path) -> None:
        self.path = str(folder / _BEAT)
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
