"""Passing a port to the next server without refusing a single connection.

The new server is given the listening socket itself, over a Unix socket in the state folder. Connections wait in the
socket's queue whoever accepts them, so nothing is lost while two servers share it, and nothing is ever bound twice.
"""

import contextlib
import logging
import os
import socket
import threading
from collections.abc import Callable
from pathlib import Path

from cosyserve.files import temporary_name

log = logging.getLogger(__name__)

_RETIRE = b"retire"
_ANSWER_SECONDS = 5  # for a server that runs to give its socket
_LONGEST_PATH = 107  # bytes of a Unix socket's address, less the zero at its end


def _path(folder: Path, port: int) -> Path:
    return folder.expanduser() / f"port-{port}.socket"


class Offer:
    """The running server's side: a process that may write to the state folder gets the socket, with another one if
    there is one, and may tell this server to retire."""

    def __init__(
        self, folder: Path, bound: socket.socket, retire: Callable[[], None], other: socket.socket | None = None
    ) -> None:
        self._bound, self._retire = bound, retire
        self._given = [each.fileno() for each in (bound, other) if each is not None]
        self._path = _path(folder, bound.getsockname()[1])
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._inode = 0
        try:
            self._listen()
        except OSError as error:  # a server that cannot hand over can still serve
            log.debug("%s cannot be made: %s", self._path, error)
            return
        threading.Thread(target=self._answer, daemon=True).start()

    def _listen(self) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with temporary_name(self._path.parent) as beginning:
            if len(os.fsencode(beginning)) > _LONGEST_PATH:
                raise OSError("the path is too long for a socket")
            self._socket.bind(str(beginning))
            beginning.chmod(0o600)
            self._socket.listen()
            self._inode = beginning.stat().st_ino
            beginning.replace(self._path)  # in place of the predecessor's

    def _answer(self) -> None:
        """Serves one successor at a time. A successor that exits before it is ready sends nothing more."""
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._socket.accept()
                with connection, contextlib.suppress(OSError):
                    socket.send_fds(connection, [b"port"], self._given)
                    if connection.recv(len(_RETIRE)) == _RETIRE:
                        self._retire()
                        return

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        with contextlib.suppress(OSError):
            if self._path.stat().st_ino == self._inode:  # and not the successor's
                self._path.unlink()


class Inheritance:
    """What a new server got: the listening `socket`, the other one if the predecessor has one, and the message to send
    once it accepts connections itself."""

    def __init__(self, bound: socket.socket, connection: socket.socket, other: socket.socket | None = None) -> None:
        self.socket, self._connection, self._other = bound, connection, other

    def other(self, host: str, port: int) -> socket.socket | None:
        """The other socket if it listens there; it is closed if not."""
        other, self._other = self._other, None
        if other is not None and not _listens(other, host, port):
            other.close()
            return None
        return other

    def retire_predecessor(self) -> None:
        with self._connection, contextlib.suppress(OSError):
            self._connection.sendall(_RETIRE)

    def close(self) -> None:
        """Leave the port to the predecessor."""
        for each in (self.socket, self._other, self._connection):
            if each is not None:
                each.close()


def inherit(folder: Path, host: str, port: int) -> Inheritance | None:
    """The socket of the server that listens there; None if there is none or it listens on another address."""
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.settimeout(_ANSWER_SECONDS)
    try:
        connection.connect(str(_path(folder, port)))
        _, descriptors, _, _ = socket.recv_fds(connection, 16, 2)
        bound, *others = [socket.socket(fileno=each) for each in descriptors]
        inheritance = Inheritance(bound, connection, next(iter(others), None))
        if _listens(bound, host, port):
            return inheritance
        inheritance.close()
    except (OSError, ValueError, RuntimeError):  # the last where there is no home
        pass
    connection.close()
    return None


def _listens(bound: socket.socket, host: str, port: int) -> bool:
    return bool(bound.getsockname() == socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][4])


def has_predecessor(folder: Path, host: str, port: int) -> bool:
    """Whether a server that could hand over listens there."""
    if (inheritance := inherit(folder, host, port)) is None:
        return False
    inheritance.close()
    return True
