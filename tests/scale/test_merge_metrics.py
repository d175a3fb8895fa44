"""Metrics of several servers as one."""

from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from cosyserve.scale.merge_metrics import merge_metrics
from cosyserve.server.admission import Admission
from cosyserve.server.fleet import ALONE
from cosyserve.server.metrics import Metrics

REQUESTS = st.lists(st.tuples(st.sampled_from(["/a", "/b"]), st.sampled_from(["ok", "failed"]), st.floats(0.001, 40)))


def counted(requests: list[tuple[str, str, float]]) -> Metrics:
    metrics = Metrics(Admission(lambda: 1, 1, 1), ALONE)
    for endpoint, outcome, seconds in requests:
        metrics.count(endpoint, outcome, "main")
        metrics.first_chunk.observe(seconds)
    return metrics


def values(text: bytes) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): round(sample.value, 6)
        for family in text_string_to_metric_families(text.decode())
        for sample in family.samples
        if not sample.name.endswith("_created")
    }


@given(st.lists(REQUESTS, min_size=1, max_size=4))
def test_several_servers_count_as_one_that_did_it_all(servers: list[list[tuple[str, str, float]]]) -> None:
    texts = [generate_latest(counted(requests).registry) for requests in servers]
    one = generate_latest(counted([request for requests in servers for request in requests]).registry)
    assert values(merge_metrics(texts)) == values(one)


def test_buckets_stay_in_order() -> None:
    lines: Callable[[bytes], list[str]] = lambda text: [line.split()[0] for line in text.decode().splitlines()]  # noqa: E731
    text = generate_latest(counted([("/a", "ok", 1.0)]).registry)
    assert lines(merge_metrics([text, text])) == lines(text)
