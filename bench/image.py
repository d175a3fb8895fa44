"""An image: what its layers weigh, and how long a container takes to be ready, with an empty volume and a full one.

    python -m bench.image IMAGE [NAME=VALUE…]

needs a Docker engine; NAME=VALUE go into the container's environment.
"""

import argparse
import time
import uuid

import docker
from bench.common.benchmark import Benchmark
from bench.common.results import Figure, Results, seconds

_SECOND = 1_000_000_000
_HEALTH = {"interval": _SECOND // 5, "timeout": 5 * _SECOND, "retries": 3, "start_period": 600 * _SECOND}


def until_ready(client: docker.DockerClient, image: str, volume: str, environment: list[str]) -> float:
    began = time.monotonic()
    container = client.containers.run(
        image, detach=True, environment=environment, volumes={volume: {"bind": "/data"}}, healthcheck=_HEALTH
    )
    try:
        while container.attrs["State"].get("Health", {}).get("Status") != "healthy":
            time.sleep(0.05)
            container.reload()
            if container.status == "exited":
                raise SystemExit(container.logs().decode())
        return time.monotonic() - began
    finally:
        container.remove(force=True)


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("image")
    parser.add_argument("environment", nargs="*", metavar="NAME=VALUE", help="of the containers")


def measure(options: argparse.Namespace, results: Results) -> None:
    client = docker.from_env()
    layers = [layer for layer in client.images.get(options.image).history() if layer["Size"] > 1000]
    for layer in reversed(layers):
        results.add(" ".join(layer["CreatedBy"].split())[:90] or "the base", size=megabytes(layer["Size"]))
    results.add(options.image, size=megabytes(sum(layer["Size"] for layer in layers)))
    volume = client.volumes.create(f"cosyserve-bench-{uuid.uuid4().hex[:8]}")
    try:
        for start in ("cold", "warm"):
            took = until_ready(client, options.image, volume.name, options.environment)
            results.add(start, ready_after=seconds(took, ".1f"))
    finally:
        volume.remove(force=True)


def megabytes(size: float) -> Figure:
    return Figure(size / 1e6, "MB", ".1f")


BENCHMARK = Benchmark(measure, needs="a Docker engine", arguments=arguments)


if __name__ == "__main__":
    BENCHMARK.run()
