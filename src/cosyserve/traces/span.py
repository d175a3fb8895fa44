"""The interface of a span, and the span that is used if nothing is traced.

A span is passed on by hand and never made "current" around a `yield`: an asynchronous generator may be closed in
another context than the one in which it began.
"""

from collections.abc import Mapping
from contextvars import ContextVar
from types import MappingProxyType
from typing import Protocol

from typing_extensions import Self

Facts = Mapping[str, str | int | float | bool]
NO_FACTS: Facts = MappingProxyType({})


class Span(Protocol):
    """A piece of work with a beginning and an end. As a context manager it ends with its body, which may fail."""

    @property
    def trace_id(self) -> str:
        """32 hexadecimal digits; empty where nothing is traced."""
        ...

    def begin(self, name: str, facts: Facts = NO_FACTS, at: int | None = None) -> "Span":
        """A span within this one; `at` is in nanoseconds since 1970, by default now."""
        ...

    def rename(self, name: str) -> None: ...

    def note(self, facts: Facts) -> None: ...

    def fail(self, kind: str) -> None:
        """Mark it as failed; `kind` is an id of the catalogue of errors, or the name of an exception."""
        ...

    def end(self, at: int | None = None) -> None: ...

    def carrier(self) -> dict[str, str]:
        """What another process needs to go on with this trace: W3C's `traceparent`, or what OTEL_PROPAGATORS names."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(self, kind: object, problem: BaseException | None, trace: object) -> None: ...


class Untraced:
    """Does nothing."""

    trace_id = ""

    def begin(self, name: str, facts: Facts = NO_FACTS, at: int | None = None) -> Span:
        return self

    def rename(self, name: str) -> None: ...

    def note(self, facts: Facts) -> None: ...

    def fail(self, kind: str) -> None: ...

    def end(self, at: int | None = None) -> None: ...

    def carrier(self) -> dict[str, str]:
        return {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, problem: BaseException | None, trace: object) -> None: ...


UNTRACED = Untraced()

current: ContextVar[Span] = ContextVar("span", default=UNTRACED)
"""The span of the request that the running task works for."""
