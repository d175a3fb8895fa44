"""Who is let in: decided from the head of a request, before a byte of its body is read.

Where keys are needed, a key is all that counts. Where none is, whoever reaches the port may use the server, and any web
page in a browser on this machine reaches it: so the name that it was addressed by and the page that asks are looked at.
The same holds for the host of a container whose port is published on its loopback alone, if it comes without a key.
"""

import base64
import hashlib
import ipaddress
import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import islice
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import HTTPConnection
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from cosyserve import errors
from cosyserve.addresses import is_loopback
from cosyserve.errors import CosyError
from cosyserve.keys import MAIN, Key
from cosyserve.keys.keyring import Keyring
from cosyserve.server.failures import response_of
from cosyserve.server.published import Host
from cosyserve.server.service import service_of
from cosyserve.settings import Settings

# What a browser's WebSocket, which cannot set headers, offers as a subprotocol in front of its key.
KEY_PROTOCOL = "cosyserve.key."

# Of one request that are compared: a browser's own in two readings, and to spare. Each is compared with every key.
_MOST_GIVEN = 8

_BLANKS = " \t"  # of HTTP; Python knows more of them, which are bytes of letters here

# Without a key these tell that there is a server, and whether it is ready.
_OPEN = frozenset(("/", "/livez", "/readyz", "/health", "/openapi.json"))
_OPEN_FOLDER = "/web/"
_CLOSED = {"/": ("POST",)}  # what is spoken there; the page is open

_HOST = re.compile(r"(\[[\da-fA-F:.]+\]|[^\[\]:@/?#\s]+)(?::(\d*))?")
_PRIVATE = "access-control-"
_DEFAULT_PORTS = {"http": 80, "https": 443}


class Door:
    """Lets a request in or answers it. Sets `known`, `needs_key` and `key` in the request's `state` for the routes."""

    def __init__(self, app: ASGIApp, keyring: Keyring, settings: Settings, host: Host) -> None:
        self._app, self._host, self._keyring = app, host, keyring
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
            key = self._check(scope, Headers(scope=scope))
        except CosyError as error:
            await response_of(error)(scope, receive, send)
            return
        needs_key = self._needs_key(scope, Headers(scope=scope))
        scope.setdefault("state", {}).update(known=key is not None, needs_key=needs_key, key=key or MAIN)
        await self._app(scope, receive, send)

    def _check(self, scope: Scope, headers: Headers) -> Key | None:
        """The key of one that may learn everything, else None; raises `CS-AUTH-…` if it may not come in."""
        path = scope["path"]
        is_open = (path in _OPEN or path.startswith(_OPEN_FOLDER)) and scope.get("method") not in _CLOSED.get(path, ())
        if self._keyring.needed and (key := self._keyring.find(islice(_given_keys(headers), _MOST_GIVEN))) is not None:
            return key
        if self._needs_key(scope, headers):
            if not is_open:
                raise CosyError(errors.KEY_REFUSED)
            return None
        if path == "/livez":
            return None
        self._check_host(headers)
        if not is_open:
            self._check_origin(headers)
        return MAIN

    def _needs_key(self, scope: Scope, headers: Headers) -> bool:
        """Whether a request from there is refused without a key."""
        return self._keyring.needed and (self._keyring.by_name or not self._host.asks(scope, headers))

    def _check_host(self, headers: Headers) -> None:
        """A name server can point any name to this machine, and that name's pages then count as the server's own. So
        only known names are accepted."""
        for host in headers.getlist("host"):
            match = _HOST.fullmatch(host)
            name = match[1].strip("[]").rstrip(".").lower() if match else ""
            if not (
                _is_here(name) or name in self._hosts or "*" in self._hosts or (self._figures and _is_figures(name))
            ):
                raise CosyError(errors.HOST_REFUSED, host=host[:100])

    def _check_origin(self, headers: Headers) -> None:
        """Programs send no origin and are let in, as are the server's own page and listed origins."""
        for origin in _origins_of(headers):
            if origin in self._origins or "*" in self._origins or _is_own(origin, headers.get("host", "")):
                continue
            if self._may_be_listed(headers):
                continue
            raise CosyError(errors.ORIGIN_REFUSED, origin=origin[:100])

    def _may_be_listed(self, headers: Headers) -> bool:
        """Whether something is embedded by a page that hides its origin, and that comes from the very address of the
        server, as a listed page does. A browser says `same-site` for pages of the same numeric address or of
        `localhost`, and no others; for other names also for their neighbours', so these do not count."""
        if headers.getlist("origin") or headers.get("referer") or headers.get("sec-fetch-site") != "same-site":
            return False
        here = _name_in(headers.get("host", "")) or ""
        listed = {_name_in(origin.partition("://")[2]) for origin in self._origins}
        return (_is_figures(here) or here == "localhost") and here in listed


class Cors(CORSMiddleware):
    """Answers a preflight request. A page that is refused learns which setting would allow it."""

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


def caller_of(connection: HTTPConnection) -> str | None:
    """A digest of the key of a request that was let in, by which what belongs to it is known. Empty without a key, None
    where nobody needs one."""
    keyring = service_of(connection).keyring
    if not keyring.needed:
        return None
    given = islice(_given_keys(connection.headers), _MOST_GIVEN)
    key = next((each for each in given if keyring.find([each]) is not None), None)
    return "" if key is None else hashlib.sha256(key).hexdigest()


def chosen_protocol(offered: Sequence[str]) -> str | None:
    """The subprotocol to accept: a browser that offered one disconnects without it. A key is repeated only if nothing
    else was offered."""
    without_key = [each for each in offered if not each.startswith(KEY_PROTOCOL)]
    return next(iter((*without_key, *offered)), None)


def _given_keys(headers: Headers) -> Iterator[bytes]:
    """The key as bytes, because it may contain any letters; empty if none is given."""
    for value in headers.getlist("authorization"):
        scheme, _, given = value.partition(" ")
        if scheme.lower() == "bearer" and (key := given.strip(_BLANKS)):
            yield key.encode("latin-1")
    for value in headers.getlist("sec-websocket-protocol"):
        for offered in value.split(","):
            if key := offered.strip(_BLANKS).partition(KEY_PROTOCOL)[2]:
                yield from _written_keys(key)


def _written_keys(written: str) -> Iterator[bytes]:
    """Subprotocols allow few characters, so keys with others are sent in base64url."""
    yield written.encode("latin-1")
    with suppress(ValueError):
        yield base64.urlsafe_b64decode(written + "=" * (-len(written) % 4))


def _origins_of(headers: Headers) -> list[str]:
    """The origin of the web page that sends the request; empty if no browser says that there is one.

    For `<audio src>` the browser sends no origin; it says how far away the page is, and mostly the referring page.
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
    """The name in a `Host` header without its port; None if it is malformed."""
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
    """A numeric address is safe: no name server can point it elsewhere."""
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
