"""Requests to a server, one after the other, which another thread may break off."""

import http.client
import json
import socket
import ssl
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

from cosyserve import __version__, errors
from cosyserve.client.address import Address
from cosyserve.errors import CosyError

Fields = Mapping[str, Any]  # of a request's JSON

_CONNECT_SECONDS = 15
_SILENT_SECONDS = 900  # a request may wait in a queue, and a processor may take minutes for a segment
_LONGEST_ANSWER = 1 << 24  # bytes of what is no audio
_LONGEST_WAIT = 24 * 3600  # seconds in Retry-After
_TEXTS = ("code", "message", "remedy", "message_zh", "remedy_zh")


class RefusedError(CosyError):
    """What the server says against a request, with its own id and texts. `status` is the answer's."""

    def __init__(self, url: str, status: int, error: Mapping[str, str], retry_after: int | None) -> None:
        self.status = status
        super().__init__(
            errors.SERVER_REFUSED,
            retry_after=retry_after,
            url=url,
            code=error["code"],
            reason=error["message"].removesuffix(error["remedy"]).strip().removesuffix("."),
            reason_zh=error["message_zh"].strip().removesuffix("。"),
            remedy=error["remedy"].strip().removesuffix("."),
            remedy_zh=error["remedy_zh"].strip().removesuffix("。"),
        )


class Call:
    """Everything that is asked of a server for one piece of work. Only `break_off` may be called by another thread."""

    def __init__(self, address: Address, key: str = "") -> None:
        self.address, self._key = address, key
        self._socket: socket.socket | None = None
        self._broken_off = threading.Event()

    @contextmanager
    def answer(self, method: str, path: str, fields: Fields | None = None) -> Iterator[http.client.HTTPResponse]:
        """A successful answer, to be read within the body by `read` and `line`. Raises `CS-SAY-…`."""
        connection = self._connection()
        try:
            with self._asked(connection, method, path, fields) as response:
                if response.status >= 300:
                    raise self._refusal(response)
                yield response
        finally:
            self._socket = None
            connection.close()

    def read(self, response: http.client.HTTPResponse, most: int) -> bytes:
        """Up to so many bytes of an answer, none at its end; raises `CS-SAY-008` if it is cut before."""
        try:
            data = response.read(most)
        except (OSError, http.client.HTTPException) as error:
            raise self.broke_off(_said(error)) from error
        if not data and response.length:
            raise self.broke_off(f"{response.length} bytes are missing")
        return data

    def line(self, response: http.client.HTTPResponse, most: int) -> bytes:
        """The next line of an answer with its end, if it has one within so many bytes; raises the same."""
        try:
            return response.readline(most)
        except (OSError, http.client.HTTPException) as error:
            raise self.broke_off(_said(error)) from error

    def content(self, path: str) -> bytes:
        """All that GET gives."""
        with self.answer("GET", path) as response:
            return self._content(response)

    def json(self, path: str) -> Any:
        """The value that GET gives; /readyz gives one also while the server is not ready."""
        try:
            with self.answer("GET", path) as response:
                return self._value(response)
        except _NotReadyError as error:
            return error.value

    def wait(self, seconds: float) -> bool:
        """Whether the call goes on after so many seconds."""
        return not self._broken_off.wait(seconds)

    def break_off(self) -> None:
        """Whatever the call waits for ends at once, with an error."""
        self._broken_off.set()
        if connected := self._socket:
            with suppress(OSError):
                connected.shutdown(socket.SHUT_RDWR)

    def foreign(self, reason: str) -> CosyError:
        """The error for an answer that makes no sense here."""
        return CosyError(errors.SERVER_FOREIGN, url=self.address.url, reason=reason, version=__version__)

    def broke_off(self, reason: str) -> CosyError:
        return CosyError(errors.SERVER_BROKE_OFF, url=self.address.url, reason=reason)

    def refused(self, status: int, error: Any, retry_after: int | None = None) -> CosyError:
        """The error for one that the server tells; `error` is that of its answer, whatever it holds."""
        if not isinstance(error, dict) or not all(isinstance(error.get(name), str) for name in _TEXTS):
            return self.foreign(f"status {status}")
        return RefusedError(self.address.url, status, error, retry_after)

    def key_refused(self) -> CosyError:
        which, which_zh = ("the one that was sent", "所发送的密钥") if self._key else ("none", "未提供的密钥")
        return CosyError(errors.SERVER_KEY, url=self.address.url, which=which, which_zh=which_zh)

    def _connection(self) -> http.client.HTTPConnection:
        host, port = self.address.host, self.address.port
        if self.address.scheme == "http":
            return http.client.HTTPConnection(host, port, timeout=_CONNECT_SECONDS)
        context = ssl.create_default_context()
        return http.client.HTTPSConnection(host, port, timeout=_CONNECT_SECONDS, context=context)

    def _asked(
        self, connection: http.client.HTTPConnection, method: str, path: str, fields: Fields | None
    ) -> http.client.HTTPResponse:
        try:
            self._send(connection, method, path, fields)
            return connection.getresponse()
        except http.client.RemoteDisconnected as error:
            raise self._unreachable(_said(error)) from error
        except http.client.HTTPException as error:
            raise self.foreign("it does not answer in HTTP") from error
        except OSError as error:
            raise self._unreachable(_said(error)) from error

    def _unreachable(self, reason: str) -> CosyError:
        return CosyError(errors.SERVER_UNREACHABLE, url=self.address.url, reason=reason)

    def _send(self, connection: http.client.HTTPConnection, method: str, path: str, fields: Fields | None) -> None:
        connection.connect()
        self._socket = connection.sock
        connection.sock.settimeout(_SILENT_SECONDS)
        if self._broken_off.is_set():
            raise OSError("it was broken off here")
        headers = {"Accept": "*/*", "User-Agent": f"CosyServe/{__version__}"}
        if self._key:  # http.client would write a text in latin-1; a key is compared as the bytes of UTF-8
            headers["Authorization"] = f"Bearer {self._key}".encode().decode("latin-1")
        body = None
        if fields is not None:
            body, headers["Content-Type"] = json.dumps(fields).encode(), "application/json"
        connection.request(method, self.address.prefix + path, body, headers)

    def _refusal(self, response: http.client.HTTPResponse) -> Exception:
        if response.status == 401:
            return self.key_refused()
        if response.status < 400:
            return self.foreign(f"status {response.status}, to another address")
        value = self._value(response)
        if response.status == 503 and isinstance(value, dict) and "status" in value:
            return _NotReadyError(value)
        error = value.get("error") if isinstance(value, dict) else None
        return self.refused(response.status, error, _retry_after(response))

    def _value(self, response: http.client.HTTPResponse) -> Any:
        data = self._content(response)
        try:
            return json.loads(data)
        except (ValueError, RecursionError):
            raise self.foreign(f"status {response.status}, without JSON that can be read") from None

    def _content(self, response: http.client.HTTPResponse) -> bytes:
        data = b""
        while piece := self.read(response, _LONGEST_ANSWER):
            data += piece
            if len(data) > _LONGEST_ANSWER:
                raise self.foreign(f"status {response.status}, with more than {_LONGEST_ANSWER} bytes")
        return data


class _NotReadyError(Exception):
    """A server that is not ready says what it is."""

    def __init__(self, value: Any) -> None:
        self.value = value


def _retry_after(response: http.client.HTTPResponse) -> int | None:
    given = response.headers.get("Retry-After", "")
    return min(int(given), _LONGEST_WAIT) if given.isdecimal() and len(given) < 10 else None


def _said(error: Exception) -> str:
    return (isinstance(error, OSError) and error.strerror) or str(error) or type(error).__name__
