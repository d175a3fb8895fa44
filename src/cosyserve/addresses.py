"""How to reach a server that listens on an address. Only the standard library, because a health check imports it."""

import http.client
import ipaddress
from contextlib import suppress


def is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def addresses_of(host: str) -> tuple[str, ...]:
    """The addresses at which this machine reaches a server that listens on `host`, in the order to try them."""
    try:
        everywhere = ipaddress.ip_address(host).is_unspecified
    except ValueError:  # a name
        return (host,)
    if not everywhere:
        return (host,)
    # Who listens on :: takes IPv4 as well, and a container may have no IPv6 on its loopback.
    return ("::1", "127.0.0.1") if ":" in host else ("127.0.0.1",)


def connected(host: str, port: int, seconds: float) -> http.client.HTTPConnection:
    """A connection to a server on this machine that listens on `host`; raises `OSError` if there is none."""
    *others, last = addresses_of(host)
    for address in others:
        connection = http.client.HTTPConnection(address, port, timeout=seconds)
        with suppress(OSError):
            connection.connect()
            return connection
    connection = http.client.HTTPConnection(last, port, timeout=seconds)
    connection.connect()
    return connection
