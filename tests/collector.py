"""A stand-in for a collector of traces: takes OTLP over HTTP on loopback, and keeps the spans."""

import gzip
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.running import HANGS


@dataclass(frozen=True)
class Seen:
    """A span as it came."""

    name: str
    trace: str
    id: str
    parent: str
    seconds: float
    began: int
    ended: int
    kind: int
    failed: bool
    facts: dict[str, Any]
    service: str


class Collector:
    def __init__(self, url: str) -> None:
        self.environ = {"OTEL_EXPORTER_OTLP_ENDPOINT": url, "OTEL_BSP_SCHEDULE_DELAY": "50"}
        self.spans: list[Seen] = []
        self._changed = threading.Condition()

    def take(self, body: bytes) -> None:
        request = ExportTraceServiceRequest.FromString(body)
        with self._changed:
            for resource in request.resource_spans:
                service = _facts(resource.resource.attributes).get("service.name", "")
                for scope in resource.scope_spans:
                    self.spans += [_seen(span, service) for span in scope.spans]
            self._changed.notify_all()

    def wait(self, there: Callable[[list[Seen]], bool]) -> list[Seen]:
        """All spans, once those are there that `there` looks for."""
        with self._changed:
            assert self._changed.wait_for(lambda: there(self.spans), HANGS), self.spans
            return list(self.spans)

    def trace(self, trace: str, root: str) -> dict[str, list[Seen]]:
        """The spans of a trace by name, once the one that ends last is there."""
        spans = self.wait(lambda spans: any(each.trace == trace and each.name == root for each in spans))
        found: dict[str, list[Seen]] = {}
        for each in spans:
            if each.trace == trace:
                found.setdefault(each.name, []).append(each)
        return found


def _seen(span: Any, service: str) -> Seen:
    times = (span.end_time_unix_nano - span.start_time_unix_nano) / 1e9, span.start_time_unix_nano
    ids = span.trace_id.hex(), span.span_id.hex(), span.parent_span_id.hex()
    failed = span.status.code == 2  # STATUS_CODE_ERROR
    facts = _facts(span.attributes)
    return Seen(span.name, *ids, *times, span.end_time_unix_nano, span.kind, failed, facts, service)


def _facts(attributes: Any) -> dict[str, Any]:
    return {each.key: getattr(each.value, each.value.WhichOneof("value")) for each in attributes}


@contextmanager
def collecting() -> Iterator[Collector]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            collector.take(gzip.decompress(body) if self.headers.get("Content-Encoding") == "gzip" else body)
            self.send_response(200)
            self.send_header("Content-Type", "application/x-protobuf")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    collector = Collector(f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield collector
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
