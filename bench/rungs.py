"""What a request costs on each rung, against plain Python: the same requests to all servers, in turn.

Latencies are at the client: to the first chunk, and to the end of the answer. Printed are medians of paired ratios.
A second server on the rung `direct` shows how far two equal ones differ.
"""

import argparse
import contextlib
import statistics
import tempfile
import time
from pathlib import Path

import httpx

from bench.common.benchmark import Benchmark
from bench.common.results import Results, ratio
from bench.common.serving import cpu_seconds
from tests.launch.rungs import MPI_RUNGS, settings_of
from tests.launch.supervised import Supervised

_ROUNDS, _WARM_UP = 400, 10
_CONTROL = "direct, again"
_SHORT = {"input": "Hello.", "response_format": "pcm"}


def speech(client: httpx.Client) -> tuple[float, float]:
    """Seconds to the first chunk and to the end."""
    began = time.perf_counter()
    with client.stream("POST", "/v1/audio/speech", json=_SHORT) as response:
        pieces = response.iter_raw()
        next(pieces)
        first = time.perf_counter() - began
        for _ in pieces:
            pass
    return first, time.perf_counter() - began


def liveness(client: httpx.Client) -> float:
    """The HTTP path alone, in seconds."""
    began = time.perf_counter()
    client.get("/livez")
    return time.perf_counter() - began


def asked_in_turn(names: list[str]) -> tuple[dict[str, list[tuple[float, ...]]], dict[str, float]]:
    """Of each server the times of its requests, and the seconds of CPU that it spent."""
    with contextlib.ExitStack() as stack:
        root = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        servers, clients = {}, {}
        for name in names:
            (root / name).mkdir()
            servers[name] = stack.enter_context(
                Supervised(root / name, **settings_of("direct" if name == _CONTROL else name))
            )
            clients[name] = stack.enter_context(httpx.Client(base_url=servers[name].url, timeout=30))
        seen: dict[str, list[tuple[float, ...]]] = {name: [] for name in names}
        spent = dict.fromkeys(names, 0.0)
        for number in range(_WARM_UP + _ROUNDS):
            if number == _WARM_UP:
                spent = {name: cpu_seconds(servers[name].server()) for name in names}
            order = names[number % len(names) :] + names[: number % len(names)]
            for name in order:
                taken = (*speech(clients[name]), liveness(clients[name]))
                if number >= _WARM_UP:
                    seen[name].append(taken)
        cpu = {name: cpu_seconds(servers[name].server()) - spent[name] for name in names}
    return seen, cpu


def measure(options: argparse.Namespace, results: Results) -> None:
    names = [*MPI_RUNGS, "python", _CONTROL]
    seen, cpu = asked_in_turn(names)
    for name in names:
        first, whole, livez = (
            statistics.median(a / b for a, b in zip(column, base, strict=True))
            for column, base in zip(zip(*seen[name], strict=True), zip(*seen["direct"], strict=True), strict=True)
        )
        results.add(
            name,
            first_chunk=ratio(first),
            whole_answer=ratio(whole),
            livez=ratio(livez),
            CPU_of_the_process=ratio(cpu[name] / cpu["direct"]),
        )


BENCHMARK = Benchmark(measure, needs="Open MPI")


if __name__ == "__main__":
    BENCHMARK.run()
