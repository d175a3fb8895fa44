"""Spans of OpenTelemetry's SDK. Imported only where traces are asked for."""

import asyncio
import os
import threading
from collections.abc import Mapping, Sequence
from importlib.metadata import entry_points
from typing import Any

from opentelemetry import propagate, trace
from opentelemetry.context import Context
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from opentelemetry.trace import SpanKind, Status, StatusCode
from typing_extensions import Self

from cosyserve import __version__, errors
from cosyserve.errors import CosyError
from cosyserve.traces.span import NO_FACTS, Facts, Span

_LAST_SECONDS = 2  # at the end, for the last spans; a collector may not answer
_PROTOCOLS = {"http/protobuf": "otlp_proto_http", "grpc": "otlp_proto_grpc"}
# These end a piece of work but are no failure of it.
_CANCELLED = (asyncio.CancelledError, GeneratorExit)


class Traced:
    """A span of the SDK."""

    def __init__(self, tracer: trace.Tracer, span: trace.Span) -> None:
        self._tracer, self._span = tracer, span

    @property
    def trace_id(self) -> str:
        return trace.format_trace_id(self._span.get_span_context().trace_id)

    @property
    def _context(self) -> Context:
        return trace.set_span_in_context(self._span, Context())

    def begin(self, name: str, facts: Facts = NO_FACTS, at: int | None = None) -> Span:
        return Traced(self._tracer, self._tracer.start_span(name, self._context, attributes=dict(facts), start_time=at))

    def rename(self, name: str) -> None:
        self._span.update_name(name)

    def note(self, facts: Facts) -> None:
        self._span.set_attributes(dict(facts))

    def fail(self, kind: str) -> None:
        self._span.set_attribute("error.type", kind)
        self._span.set_status(Status(StatusCode.ERROR))

    def end(self, at: int | None = None) -> None:
        self._span.end(at)

    def carrier(self) -> dict[str, str]:
        held: dict[str, str] = {}
        propagate.inject(held, self._context)
        return held

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, problem: BaseException | None, trace: object) -> None:
        if isinstance(problem, _CANCELLED):
            self.note({"cosyserve.cancelled": True})
        elif isinstance(problem, CosyError):
            self.fail(problem.fault.id) if problem.fault.status >= 500 else self.note({"error.type": problem.fault.id})
        elif problem is not None:
            self.fail(type(problem).__name__)
        self.end()


class Tracing:
    """Makes spans and sends them on in a thread of its own. What nobody takes is dropped, and the log says so."""

    def __init__(self) -> None:
        """Everything is read from OpenTelemetry's variables. Raises `CS-OTEL-001` where the package of an exporter that
        they name is missing, and whatever the SDK thinks of their values."""
        resource = Resource.create({"service.name": "cosyserve", "service.version": __version__})
        exporters = [_exporter(name) for name in exporter_names()]
        # The variables override our description of the service.
        resource = resource.merge(OTELResourceDetector().detect())
        self._provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        for exporter in exporters:
            self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer("cosyserve", __version__)

    def arrived(self, name: str, carrier: Mapping[str, Sequence[str] | str], facts: Facts) -> Span:
        """A span for work that another process has asked for, which may have told its trace."""
        context = propagate.extract(carrier, Context())
        span = self._tracer.start_span(name, context, SpanKind.SERVER, dict(facts))
        return Traced(self._tracer, span)

    def close(self) -> None:
        """Send what is left, for a few seconds at most: a collector may hang."""
        closing = threading.Thread(target=self._provider.shutdown, name="traces", daemon=True)
        closing.start()
        closing.join(_LAST_SECONDS)


def exporter_names() -> list[str]:
    """As they are registered: `otlp` means OTLP by the protocol that the variables name."""
    named = os.environ.get("OTEL_TRACES_EXPORTER", "").lower().split(",")
    protocol = os.environ.get("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL") or os.environ.get("OTEL_EXPORTER_OTLP_PROTOCOL")
    protocol = protocol or "http/protobuf"
    otlp = _PROTOCOLS.get(protocol.strip().lower(), protocol)
    names = [otlp if name == "otlp" else name for name in map(str.strip, named) if name]
    return names or [otlp]


def _exporter(name: str) -> SpanExporter:
    found = [*entry_points(group="opentelemetry_traces_exporter", name=name)]
    if not found:
        raise CosyError(errors.TRACES_PACKAGE_MISSING, package=f"opentelemetry-exporter-{name.replace('_', '-')}")
    make: Any = found[0].load()
    exporter: SpanExporter = make()
    return exporter
