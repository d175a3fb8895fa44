"""The address a server listens on. It imports little, because every start checks it first."""

import socket

from cosyserve import errors
from cosyserve.addresses import addresses_of
from cosyserve.errors import CosyError


def listen(host: str, port: int) -> socket.socket:
    """A listening socket; raises `CS-SET-002` if the address cannot be used."""
    bound = _bound(host, port)
    try:
        bound.listen()  # at once: two sockets may share an address until one of them listens
    except OSError as error:
        bound.close()
        raise _taken(host, port, error) from None
    return bound


def expect_free(host: str, port: int) -> None:
    """Raises `CS-SET-002` if the address cannot be used. It never listens, so no connection is accepted and lost."""
    _bound(host, port).close()


def _bound(host: str, port: int) -> socket.socket:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        bound = socket.socket(family, kind, protocol)
    except (OSError, UnicodeError) as error:
        raise _taken(host, port, error) from None
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(address)
    except OSError as error:
        bound.close()
        raise _taken(host, port, error) from None
    return bound


def _taken(host: str, port: int, error: Exception) -> CosyError:
    reason = getattr(error, "strerror", None) or error
    return CosyError(errors.PORT_TAKEN, host=host, port=port, reason=reason)


def url_of(bound: socket.socket) -> str:
    """The server's address for a browser on this machine."""
    host, port = bound.getsockname()[:2]
    return url(addresses_of(host)[0], port)


def url(host: str, port: int) -> str:
    return f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"
