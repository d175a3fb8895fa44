"""What Prometheus reads of each key, by its name."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator

from prometheus_client.core import CounterMetricFamily
from prometheus_client.registry import Collector

from cosyserve.keys import MAIN


class KeyMetrics(Collector):
    """Of the main keys and the named ones that there are now, so their number is bounded."""

    def __init__(self, names: Callable[[], Iterable[str]]) -> None:
        self._names = names
        self._requests: Counter[tuple[str, ...]] = Counter()
        self._refused: Counter[tuple[str, ...]] = Counter()
        self._characters: Counter[tuple[str, ...]] = Counter()

    def count(self, name: str, outcome: str, characters: int) -> None:
        self._requests[name, outcome] += 1
        self._characters[(name,)] += characters

    def refuse(self, name: str, limit: str) -> None:
        self._refused[name, limit] += 1

    def collect(self) -> Iterator[CounterMetricFamily]:
        known = {MAIN.name, *self._names()}
        for counts in (self._requests, self._refused, self._characters):
            for gone in [labels for labels in counts if labels[0] not in known]:
                del counts[gone]
        yield _family("requests", "Speech requests by key and outcome", ("key", "outcome"), self._requests)
        yield _family("characters", "Characters that a key has had spoken", ("key",), self._characters)
        yield _family("refused", "Requests that a limit of their key refused", ("key", "limit"), self._refused)


def _family(name: str, said: str, labels: tuple[str, ...], counts: Counter[tuple[str, ...]]) -> CounterMetricFamily:
    family = CounterMetricFamily(f"cosyserve_key_{name}", said, labels=labels)
    for values, count in counts.items():
        family.add_metric(values, count)
    return family
