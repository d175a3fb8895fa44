"""How replicas follow the load: clients come and go in steps, on a cluster of two hosts, and the plot of it.

    python -m bench.autoscaling docs/autoscaling.svg

Needs root and iproute2 (the hosts are network namespaces). The preview voice, and delays that are shorter than those of
anybody who pays for cards, so that it fits into two minutes.
"""

import argparse
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import httpx

from bench.common import plot
from bench.common.benchmark import Benchmark
from bench.common.results import Results, count
from tests.scale.cluster import KEY, Cluster

_CONFIGURATION = """
proxy_location: HeadOnly
http_options: {host: 0.0.0.0, port: 6008}
applications:
  - name: cosyserve
    import_path: cosyserve.scale.app:build
    route_prefix: /
    args: {most_replicas: 3}
    deployments:
      - {name: Front, num_replicas: 1, ray_actor_options: {num_cpus: 0.1}}
      - name: Replica
        ray_actor_options: {num_cpus: 0.1}
        autoscaling_config:
          {min_replicas: 1, max_replicas: 3, target_ongoing_requests: 2, metrics_interval_s: 1,
           look_back_period_s: 4, upscale_delay_s: 4, downscale_delay_s: 8}
"""
_STEPS = ((20, 1), (40, 12), (35, 3), (30, 0))  # for so many seconds so many clients
_ASKED = {"input": "This is one sentence. " * 20, "response_format": "pcm"}


@dataclass(frozen=True)
class Sample:
    seconds: float
    clients: int
    wanted: int
    ready: int


@contextmanager
def clients(number: int, url: str, failures: list[str]) -> Iterator[None]:
    enough = threading.Event()

    def listen() -> None:
        with httpx.Client(base_url=url, timeout=60, headers={"Authorization": f"Bearer {KEY}"}) as client:
            while not enough.is_set():
                answer = client.post("/v1/audio/speech", json=_ASKED)
                if answer.status_code != 200:
                    failures.append(answer.text)

    threads = [threading.Thread(target=listen) for _ in range(number)]
    for thread in threads:
        thread.start()
    yield
    enough.set()
    for thread in threads:
        thread.join()


def watched(url: str) -> tuple[list[Sample], list[str]]:
    """Run inside the head's network."""
    began, samples, failures = time.monotonic(), list[Sample](), list[str]()
    for seconds, number in _STEPS:
        end = time.monotonic() + seconds
        with clients(number, url, failures):
            while time.monotonic() < end:
                state = httpx.get(f"{url}/readyz", timeout=30).json()
                samples.append(Sample(time.monotonic() - began, number, state["replicas"], state["replicas_ready"]))
                time.sleep(0.5)
    return samples, failures


def drawn(samples: Sequence[Sample]) -> str:
    """A step line for each of the three."""
    height, margin = 300, 44
    last, top = samples[-1].seconds, max(sample.clients for sample in samples)

    def at(seconds: float, value: float) -> tuple[float, float]:
        x = margin + seconds / last * (plot.WIDTH - 2 * margin)
        return x, height - margin - value / top * (height - 2 * margin)

    def steps(values: Sequence[int]) -> list[tuple[float, float]]:
        return [
            corner
            for sample, before, value in zip(samples, [values[0], *values], values, strict=False)
            for corner in (at(sample.seconds, before), at(sample.seconds, value))
        ]

    lines = (("clients", plot.GREY), ("replicas wanted", plot.ORANGE), ("replicas ready", plot.BLUE))
    return plot.svg(
        height,
        (
            *(plot.text(at(mark, 0)[0], height - 24, f"{mark} s") for mark in range(0, int(last) + 1, 20)),
            *(plot.text(16, at(0, mark)[1], f"{mark}") for mark in range(0, top + 1, 3)),
            *plot.legend(lines, margin + 20),
            plot.line(steps([sample.clients for sample in samples]), plot.GREY),
            plot.line(steps([sample.wanted for sample in samples]), plot.ORANGE, dashed=True),
            plot.line(steps([sample.ready for sample in samples]), plot.BLUE),
        ),
    )


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("picture", type=Path, help="SVG")


def measure(options: argparse.Namespace, results: Results) -> None:
    with tempfile.TemporaryDirectory() as folder, Cluster(Path(folder), synthesizer="preview") as cluster:
        cluster.deploy(_CONFIGURATION)
        cluster.wait_for(1)
        samples, failures = cluster.head.inside(watched, cluster.head.url)
    options.picture.write_text(drawn(samples), encoding="utf-8")
    for before, now in pairwise(samples):
        if now.ready != before.ready:
            results.add(f"after {now.seconds:.1f} s", replicas_ready=count(now.ready), clients=count(now.clients))
    results.add("requests", failed=count(len(failures)))


BENCHMARK = Benchmark(measure, needs="root and iproute2", arguments=arguments)


if __name__ == "__main__":
    BENCHMARK.run()
