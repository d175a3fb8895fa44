"""Merges the Prometheus texts of several servers into one."""

from collections.abc import Iterable, Sequence

from prometheus_client import CollectorRegistry, Metric, generate_latest
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

_SEEN_BY_ALL = ("cosyserve_replicas_ready",)  # of the same replicas, not of each server's own

_Sample = tuple[str, tuple[tuple[str, str], ...]]  # name and labels


def merge_metrics(texts: Sequence[bytes]) -> bytes:
    """Counts, sums and gauges added up, sample by sample, in the order in which they come."""
    families: dict[str, Metric] = {}
    values: dict[str, dict[_Sample, float]] = {}
    for text in texts:
        for family in text_string_to_metric_families(text.decode()):
            families.setdefault(family.name, family)
            sums = values.setdefault(family.name, {})
            for sample in family.samples:
                key = (sample.name, tuple(sample.labels.items()))
                sums[key] = _together(sample.name, sums.get(key), sample.value)
    registry = CollectorRegistry()
    registry.register(_Families(_summed(family, values[name]) for name, family in families.items()))
    return generate_latest(registry)


def _together(name: str, so_far: float | None, value: float) -> float:
    if so_far is None:
        return value
    if name in _SEEN_BY_ALL:
        return max(so_far, value)
    return min(so_far, value) if name.endswith("_created") else so_far + value


def _summed(family: Metric, values: dict[_Sample, float]) -> Metric:
    summed = Metric(family.name, family.documentation, family.type)
    for (name, labels), value in values.items():
        summed.add_sample(name, dict(labels), value)
    return summed


class _Families(Collector):
    def __init__(self, families: Iterable[Metric]) -> None:
        self._families = list(families)

    def collect(self) -> Iterable[Metric]:
        return self._families
