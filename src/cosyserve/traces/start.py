"""Whether there are traces, and where they begin."""

import logging
import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from cosyserve import errors, logs
from cosyserve.errors import CosyError
from cosyserve.settings import open_telemetry_variables
from cosyserve.traces.span import UNTRACED, Facts, Span, current

if TYPE_CHECKING:
    from cosyserve.traces.otel import Tracing

log = logging.getLogger(__name__)

# Each names a place for traces to go to. OTEL_SERVICE_NAME and the others say only how.
_ASKING = ("OTEL_TRACES_EXPORTER", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")

_tracing: "Tracing | None" = None


def asked_by(variables: Mapping[str, str]) -> str:
    """The variable that asks for traces; empty if none does, or if another one says that there are to be none."""
    disabled = variables.get("OTEL_SDK_DISABLED", "").strip().lower() == "true"
    if disabled or variables.get("OTEL_TRACES_EXPORTER", "").strip().lower() == "none":
        return ""
    return next((name for name in _ASKING if variables.get(name, "").strip()), "")


def start() -> None:
    """Trace from now on, if OpenTelemetry's variables ask for that. What keeps it from doing so is said in the log: a
    server speaks with or without traces. To be called before FastAPI is imported."""
    global _tracing
    variables = open_telemetry_variables()
    if asking := asked_by(variables):
        os.environ.update(variables)  # where the SDK reads them
        try:
            _tracing = _made()
            log.info("Requests are traced, because %s is set", asking)
        except CosyError as error:
            log.error("%s", error)
        except Exception as problem:  # of values that the SDK or an exporter cannot use
            log.error("%s", CosyError(errors.TRACES_UNUSABLE, variable=asking, reason=problem))
    if _tracing is None:  # a name in it that is unknown here would end the import of FastAPI, which reads it too
        os.environ.pop("OTEL_PROPAGATORS", None)


def _made() -> "Tracing":
    try:
        from cosyserve.traces.otel import Tracing
    except ModuleNotFoundError as error:
        raise CosyError(errors.TRACES_PACKAGE_MISSING, package="opentelemetry-sdk") from error
    return Tracing()


def stop() -> None:
    """Send what is left; returns after a few seconds in any case."""
    global _tracing
    if _tracing is not None:
        tracing, _tracing = _tracing, None
        tracing.close()


def arrived(name: str, carrier: Mapping[str, Sequence[str] | str], facts: Facts) -> Span:
    """A span for a request, which goes on with the trace that `carrier` (headers, in small letters) tells of. From here
    on the task works for it, and its log lines carry the trace's id."""
    span = UNTRACED if _tracing is None else _tracing.arrived(name, carrier, facts)
    current.set(span)
    logs.trace_id.set(span.trace_id)
    return span
