"""Where the host publishes a container's port. Nothing inside a container tells that, so COSYSERVE_PUBLISH has to."""

import os
import socket
import struct

from starlette.datastructures import Headers
from starlette.types import Scope

from cosyserve.addresses import addresses_of, is_loopback
from cosyserve.keys import makes_key
from cosyserve.machine import IMAGE, Machine, is_container
from cosyserve.server.listening import url
from cosyserve.settings import Settings

# Internal, hence no setting: the host's address for others, which `make docker-run` and compose pass on.
HOST_ADDRESS = "_COSYSERVE_HOST_ADDRESS"

_SOMEWHERE = ("192.0.2.1", 9)  # of RFC 5737, nobody's; a datagram socket that is connected sends nothing
_ROUTES = "/proc/net/route"
_PASSED_ON = ("forwarded", "x-forwarded-for", "x-real-ip")


class Host:
    """The machine outside the container. If only its loopback is published, its own clients need no key.

    Their requests come from the gateway of the container's network. Other containers, and machines that route to the
    container directly, have addresses of their own. Requests forwarded by a proxy may come from anywhere.
    """

    def __init__(self, settings: Settings, machine: Machine) -> None:
        address, _ = address_of(settings)
        trusted = is_container(machine) and makes_key(settings) and is_loopback(address)
        self._addresses = gateways(machine) if trusted else frozenset[str]()

    def __bool__(self) -> bool:
        return bool(self._addresses)

    def asks(self, scope: Scope, headers: Headers) -> bool:
        """Whether a request comes from the host itself."""
        address, _ = scope.get("client") or ("", 0)
        return address in self._addresses and not any(name in headers for name in _PASSED_ON)


def address_of(settings: Settings) -> tuple[str, int]:
    """Where the host publishes the port; an empty name and 0 if it does not."""
    host, _, port = settings.publish.rpartition(":")
    return host.strip("[]"), int(port or 0)


def gateways(machine: Machine) -> frozenset[str]:
    """The addresses that the default routes of IPv4 lead to."""
    rows = [line.split() for line in machine.read(_ROUTES).splitlines()[1:]]
    # An address is a number in the processor's own order of bytes: proc(5).
    found = {int(row[2], 16) for row in rows if len(row) > 2 and int(row[1], 16) == 0}
    return frozenset(socket.inet_ntoa(struct.pack("=I", number)) for number in found - {0})


def where(settings: Settings, bound: socket.socket) -> str:
    """The server's addresses for people: first on this machine, or on a container's host."""
    host, port = address_of(settings)
    if not port:  # nobody has said it, or Docker takes a free one
        host, port = bound.getsockname()[:2]
    here, *_ = addresses_of(host)
    others = _address_of_machine() if here != host else None
    return f"{url(here, port)} (from elsewhere: {url(others, port)})" if others else url(here, port)


def _address_of_machine() -> str | None:
    """The source address of its default route. A container has to be told that of its host."""
    if IMAGE in os.environ:
        return os.environ.get(HOST_ADDRESS) or None
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as unsent:
        try:
            unsent.connect(_SOMEWHERE)
        except OSError:  # no route leads anywhere
            return None
        return str(unsent.getsockname()[0])
