"""What Prometheus reads at /metrics."""

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from cosyserve.server.admission import Admission
from cosyserve.server.fleet import Fleet
from cosyserve.server.key_metrics import KeyMetrics

_FIRST_CHUNK_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.15, 0.2, 0.3, 0.5, 0.75, 1, 2, 5, 10, 30)
_REAL_TIME_FACTOR_BUCKETS = (0.001, 0.01, 0.05, 0.1, 0.15, 0.2, 0.3, 0.5, 0.75, 1, 1.5, 2, 5)


class Metrics:
    """One registry a server, so that several servers in one process do not share counts."""

    def __init__(self, admission: Admission, fleet: Fleet, key_names: Callable[[], Iterable[str]] = lambda: ()) -> None:
        self.registry = registry = CollectorRegistry()
        self.requests = Counter(
            "cosyserve_requests", "Speech requests by outcome", ("endpoint", "outcome"), registry=registry
        )
        self.first_chunk = Histogram(
            "cosyserve_first_chunk_seconds",
            "From the request's arrival to its first audio chunk, waiting included",
            buckets=_FIRST_CHUNK_BUCKETS,
            registry=registry,
        )
        self.real_time_factor = Histogram(
            "cosyserve_real_time_factor",
            "Seconds of work for a second of audio, sending not counted",
            buckets=_REAL_TIME_FACTOR_BUCKETS,
            registry=registry,
        )
        self.audio_seconds = Counter("cosyserve_audio_seconds", "Seconds of audio produced", registry=registry)
        self.rejected = Counter(
            "cosyserve_rejected", "Requests turned away because the server was full", registry=registry
        )
        self.restarts = Counter("cosyserve_restarts", "Restarts by the supervisor since it started", registry=registry)
        Gauge("cosyserve_queue_depth", "Requests waiting for a stream", registry=registry).set_function(
            lambda: admission.waiting
        )
        Gauge("cosyserve_active_streams", "Requests being synthesized", registry=registry).set_function(
            lambda: admission.active
        )
        Gauge("cosyserve_job_streams", "Streams that jobs have borrowed", registry=registry).set_function(
            lambda: admission.lent
        )
        Gauge("cosyserve_replicas_ready", "Replicas that can speak", registry=registry).set_function(
            lambda: fleet.ready
        )

        self.by_key = KeyMetrics(key_names)
        self.registry_by_key = CollectorRegistry()  # which is for the owner alone
        self.registry_by_key.register(self.by_key)

    def count(self, endpoint: str, outcome: str, key: str, characters: int = 0) -> None:
        """A request that has ended, and the characters of its text if it was spoken."""
        self.requests.labels(endpoint, outcome).inc()
        self.by_key.count(key, outcome, characters)
        if outcome == "rejected":
            self.rejected.inc()


class Stopwatch:
    """The times of one request, in seconds: made on arrival, told of each step."""

    def __init__(self) -> None:
        self.arrived = self.admitted = time.perf_counter()
        self.first_chunk_seconds: float | None = None
        self.audio_seconds = 0.0
        self._delivering = 0.0

    def admit(self) -> None:
        self.admitted = time.perf_counter()

    def made(self, seconds: float) -> None:
        """Notes how much audio there is so far."""
        self.audio_seconds = seconds
        if self.first_chunk_seconds is None:
            self.first_chunk_seconds = time.perf_counter() - self.arrived

    @contextmanager
    def delivering(self) -> Iterator[None]:
        """Wraps sending, whose time a slow client stretches and which is not part of synthesis."""
        started = time.perf_counter()
        try:
            yield
        finally:
            self._delivering += time.perf_counter() - started

    @property
    def real_time_factor(self) -> float:
        return (time.perf_counter() - self.admitted - self._delivering) / max(self.audio_seconds, 1e-9)
