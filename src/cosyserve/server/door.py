"""Who is let in: decided from the head of a request, before a byte of its body is read.

Where keys are needed, a key is all that counts. Where none is, whoever reaches the port may use the server, and any web
page in a browser on this machine reaches it: so the name that it was addressed by and the page that asks are looked at.
The same holds for the host of a container whose port is published on its loopback alone, if it comes without a key.
"""

import base64
import hmac
import ipaddress
import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from cosyserve import errors
from cosyserve.addresses import is_loopback
from cosyserve.errors import CosyError
from cosyserve.server.failures import response_of
from cosyserve.server.published import Host
from cosyserve.settings import Settings

# What a browser's WebSocket, which cannot set headers, offers as a subprotocol in front of its key.
KEY_PROTOCOL = "cosyserve.key."

_BLANKS = " \t"  # of HTTP; Python knows more of them, which are bytes of letters here

# Without a key one learns from these that there is a server, and whether it is ready.
_OPEN = frozenset(("/", "/livez", "/readyz", "/health", "/openapi.json"))
_OPEN_FOLDER = "/web/"

_HOST = re.compile(r"(\[[\da-fA-F:.]+\]|[^\[\]:@/?#\s]+)(?::(\d*))?")
_PRIVATE = "access-control-"
_DEFAULT_PORTS = {"http": 80, "https": 443}


class Door:
    """Lets a request in, or answers it. Tells the routes in the request's `state` whether it is `known`."""

    def __init__(self, app: ASGIApp, keys: Sequence[str], settings: Settings, host: Host) -> None:
        self._app, self._host = app, host
        self._keys = [key.encode() for key in keys]
        allowed = settings.allowed_host_list()
        self._any_host = "*" in allowed
        self._hosts = frozenset(_name_in(host) for host in (*allowed, settings.host)) - {None}
        self._figures = not is_loopback(settings.host) and not host
        self._origins = frozenset(settings.cors_list())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        try:
            known = self._check(scope, Headers(scope=scope))
        except CosyError as error:
            await response_of(error)(scope, receive, send)
            return
        scope.setdefault("state", {})["known"] = known
        await self._app(scope, receive, send)

    def _check(self, scope: Scope, headers: Headers) -> bool:
        """Whether it may learn all there is; raises `CS-AUTH-…` where it may not come in."""
        path = scope["path"]
        is_open = path in _OPEN or path.startswith(_OPEN_FOLDER)
        if self._keys and self._has_key(headers):
            return True
        if self._keys and not self._host.asks(scope, headers):
            if not is_open:
                raise CosyError(errors.KEY_REFUSED)
            return False
        if path == "/livez":
            return False
        self._check_host(headers)
        if not is_open:
            self._check_origin(headers)
        return True

    def _has_key(self, headers: Headers) -> bool:
        # Every key is compared, each in constant time, so that timing tells nothing about any.
        matches = [hmac.compare_digest(given, key) for given in _given_keys(headers) for key in self._keys]
        return any(matches)

    def _check_host(self, headers: Headers) -> None:
        """A name server can have any name point to this machine, whose pages then count as ours: so names are known."""
        for host in headers.getlist("host"):
            match = _HOST.fullmatch(host)
            name = match[1].strip("[]").rstrip(".").lower() if match else ""
            if not (
                _is_here(name) or name in self._hosts or "*" in self._hosts or (self._figures and _is_figures(name))
            ):
                raise CosyError(errors.HOST_REFUSED, host=host[:100])

    def _check_origin(self, headers: Headers) -> None:
        """Programs send none, and are welcome. A page of ours and those that are listed are as well."""
        for origin in _origins_of(headers):
            if origin in self._origins or "*" in self._origins or _is_own(origin, headers.get("host", "")):
                continue
            raise CosyError(errors.ORIGIN_REFUSED, origin=origin[:100])


class Cors(CORSMiddleware):
    """Answers a browser that asks in advance. One that may not is told which setting would let it."""

    def preflight_response(self, request_headers: Headers) -> Response:
        origin = request_headers["origin"]
        if not self.is_allowed_origin(origin):
            return response_of(CosyError(errors.ORIGIN_REFUSED, origin=origin[:100]))
        # Newer versions of the library refuse a listed page on a private network, older ones do not know of it.
        asked = {name: value for name, value in request_headers.items() if name != f"{_PRIVATE}request-private-network"}
        response = super().preflight_response(Headers(asked))
        if len(asked) < len(request_headers.keys()):
            response.headers[f"{_PRIVATE}allow-private-network"] = "true"
        return response


def chosen_protocol(offered: Sequence[str]) -> str | None:
    """The subprotocol to accept: a browser that offered any breaks off without one. A key is said back only alone."""
    without_key = [each for each in offered if not each.startswith(KEY_PROTOCOL)]
    return next(iter((*without_key, *offered)), None)


def _given_keys(headers: Headers) -> Iterator[bytes]:
    """As bytes, since a key may be of any letters; nothing where none is given."""
    for value in headers.getlist("authorization"):
        scheme, _, given = value.partition(" ")
        if scheme.lower() == "bearer" and (key := given.strip(_BLANKS)):
            yield key.encode("latin-1")
    for value in headers.getlist("sec-websocket-protocol"):
        for offered in value.split(","):
            if key := offered.strip(_BLANKS).partition(KEY_PROTOCOL)[2]:
                yield from _written_keys(key)


def _written_keys(written: str) -> Iterator[bytes]:
    """A subprotocol has few characters: a key of others is written in base64url."""
    yield written.encode("latin-1")
    with suppress(ValueError):
        yield base64.urlsafe_b64decode(written + "=" * (-len(written) % 4))


def _origins_of(headers: Headers) -> list[str]:
    """The web page that asks, nothing where no browser says that there is one.

    A page's `<audio src>` names no origin; the browser says from how far away it is, and mostly the page.
    """
    if given := headers.getlist("origin"):
        return given
    if headers.get("sec-fetch-site") not in ("cross-site", "same-site"):
        return []
    try:
        page = urlsplit(headers.get("referer", ""))
    except ValueError:
        return ["null"]
    return [f"{page.scheme}://{page.netloc}" if page.netloc else "null"]


def _name_in(host: str) -> str | None:
    """The name of a `Host`, without its port; None where it is none."""
    match = _HOST.fullmatch(host)
    return match[1].strip("[]").rstrip(".").lower() if match else None


def _is_own(origin: str, host: str) -> bool:
    """Whether a page of `origin` came from the server that was addressed as `host`. A proxy may have added TLS."""
    try:
        page, here = urlsplit(origin), urlsplit(f"//{host}")
        ports = {page.port or _DEFAULT_PORTS.get(page.scheme), here.port or _DEFAULT_PORTS.get(page.scheme)}
    except ValueError:
        return False
    return bool(page.hostname) and page.hostname == here.hostname and len(ports) == 1


def _is_here(name: str) -> bool:
    return is_loopback(name) or name.endswith(".localhost")


def _is_figures(name: str) -> bool:
    """An address in figures is nobody's name: no name server can have it point elsewhere."""
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
