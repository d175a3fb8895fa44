"""A stand-in hub on loopback that speaks both protocols, and misbehaves on request.

Hugging Face: HEAD and GET /{repository}/resolve/{revision}/{path}. ModelScope: GET /api/v1/models/{repository}/repo for
a file and …/repo/files for the list. The hubs' real clients talk to it.
"""

import hashlib
import json
import re
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from urllib.parse import parse_qs, urlsplit

from typing_extensions import Self

from tests.running import HANGS

REPOSITORY, COMMIT = "tests/model", "c" * 40
_BLOCK = 1 << 14


@dataclass
class Behaviour:
    """What goes wrong: `status` is sent instead of a file (`times` times, -1 is always), `after` bytes of a file
    `then` is called, bodies are `cut` short once, `hang` says nothing for ever, `pause` seconds are between blocks."""

    status: int = 0
    times: int = -1
    after: int | None = None
    then: Callable[[], None] = lambda: None
    cut: int | None = None
    hang: bool = False
    pause: float = 0
    ranges: bool = True
    files: dict[str, bytes] = field(default_factory=dict)  # instead of the right ones


class Hub:
    """Used with `with`. `served` counts the bytes of files that were sent, `asked` has every request's line."""

    def __init__(self, files: Mapping[str, bytes], behaviour: Behaviour | None = None) -> None:
        self.files = {**files, **(behaviour.files if behaviour else {})}
        self.said = dict(files)  # what it claims to have
        self.behaviour = behaviour or Behaviour()
        self.served, self.asked = 0, list[str]()
        self.authorised = list[str]()
        self.stopped = threading.Event()
        hub = self

        class Handler(_Handler):
            pass

        Handler.hub = hub
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()  # its end is looked for
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stopped.set()
        self._server.shutdown()
        self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def _answer(self, *, body: bool) -> None:
        self.hub.asked.append(f"{self.command} {self.path} {self.headers.get('Range', '')}".strip())
        if token := self.headers.get("Authorization"):
            self.hub.authorised.append(token)
        address = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(address.query).items()}
        if found := re.fullmatch(rf"/{REPOSITORY}/resolve/[^/]+/(.+)", address.path):
            self._file(found[1], body=body)
        elif address.path == f"/api/v1/models/{REPOSITORY}/repo":
            self._file(query["FilePath"], body=body)
        elif address.path == f"/api/v1/models/{REPOSITORY}/repo/files":
            listed = [
                {"Path": path, "Name": path, "Size": len(data), "Type": "blob", "Sha256": _sha256(data)}
                for path, data in self.hub.said.items()
            ]
            self._send(200, json.dumps({"Code": 200, "Success": True, "Data": {"Files": listed}}).encode())
        else:
            self._send(404, b"{}")

    def _file(self, path: str, *, body: bool) -> None:
        behaviour = self.hub.behaviour
        if behaviour.hang and body:
            self.hub.stopped.wait(HANGS)
            self.close_connection = True
            return
        if behaviour.status and behaviour.times:
            behaviour.times -= 1
            self._send(behaviour.status, b"{}", {"Retry-After": "0"})
            return
        data = self.hub.files.get(path)
        if data is None:
            self._send(404, b"{}", {"X-Error-Code": "EntryNotFound"})
            return
        said = self.hub.said[path]
        headers = {"ETag": f'"{_sha256(said)}"', "X-Repo-Commit": COMMIT, "Accept-Ranges": "bytes"}
        wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if not (wanted and behaviour.ranges):
            self._body(200, data, headers, body=body)
            return
        begin, end = int(wanted[1]), int(wanted[2] or len(data) - 1)
        if begin >= len(data):
            self._send(416, b"", {"Content-Range": f"bytes */{len(data)}"})
            return
        part = data[begin : end + 1]
        headers["Content-Range"] = f"bytes {begin}-{begin + len(part) - 1}/{len(data)}"
        self._body(206, part, headers, body=body)

    def _body(self, status: int, data: bytes, headers: Mapping[str, str], *, body: bool) -> None:
        behaviour = self.hub.behaviour
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        if not body:
            return
        if behaviour.cut is not None:
            data, behaviour.cut = data[: behaviour.cut], None
            self.close_connection = True
        for begin in range(0, len(data), _BLOCK):
            block = data[begin : begin + _BLOCK]
            if behaviour.after is not None and self.hub.served + len(block) > behaviour.after:
                self.wfile.write(block[: behaviour.after - self.hub.served])
                self.wfile.flush()
                self.hub.served, behaviour.after = behaviour.after, None
                behaviour.then()
                self.close_connection = True
                return
            self.wfile.write(block)
            self.hub.served += len(block)
            time.sleep(behaviour.pause)

    def _send(self, status: int, data: bytes, headers: Mapping[str, str] | None = None) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.send_header("Content-Type", "application/json")
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
