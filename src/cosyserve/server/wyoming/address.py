"""The address for the Wyoming protocol. It imports little, because every start checks it first."""

import socket
from collections.abc import Iterable
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address

from cosyserve import errors
from cosyserve.addresses import is_loopback
from cosyserve.errors import CosyError
from cosyserve.server import listening
from cosyserve.settings import Settings


def expect_usable(settings: Settings, *, is_free: bool) -> None:
    """Raises `CS-WYO-…` if the settings ask for the protocol on an address that cannot be used, or that lets in
    strangers. `is_free` says whether nobody may listen there yet."""
    if settings.wyoming_port is None:
        return
    _expect_guarded(settings)
    if settings.wyoming_port == settings.port != 0:
        raise _taken(settings, "COSYSERVE_PORT is the same")
    if not is_free:
        return
    try:
        listening.expect_free(settings.wyoming_host, settings.wyoming_port)
    except CosyError as error:
        raise _taken(settings, error.facts["reason"]) from None


def _expect_guarded(settings: Settings) -> None:
    """Raises `CS-WYO-001` if other machines could connect and nobody has said which."""
    if not (is_loopback(settings.wyoming_host) or settings.wyoming_clients.strip(", ")):
        raise CosyError(errors.WYOMING_OPEN, host=settings.wyoming_host)


def listen(settings: Settings, port: int) -> socket.socket:
    """A listening socket; raises `CS-WYO-…`."""
    try:
        return listening.listen(settings.wyoming_host, port)
    except CosyError as error:
        raise _taken(settings, error.facts["reason"]) from None


def is_welcome(address: str, networks: Iterable[IPv4Network | IPv6Network]) -> bool:
    """Whether a client at this numeric address may connect: one on this machine always may."""
    try:
        client = ip_address(address.partition("%")[0])
    except ValueError:
        return False
    if isinstance(client, IPv6Address) and client.ipv4_mapped:  # of a socket that takes both
        client = client.ipv4_mapped
    return client.is_loopback or any(client in network for network in networks)


def _taken(settings: Settings, reason: str) -> CosyError:
    return CosyError(errors.WYOMING_TAKEN, host=settings.wyoming_host, port=settings.wyoming_port, reason=reason)
