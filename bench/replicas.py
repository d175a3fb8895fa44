"""What Ray costs and what a second replica brings: the same server without Ray, with one replica and with two.

All in one run on this machine, for the preview voice and for CosyVoice2 in a small size with seeded weights. Memory is
what all processes of the server take together, each shared page counted once.

    python -m bench.replicas [--seconds 10] [--clients 4] [--only preview]
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil

from bench.common.benchmark import Benchmark
from bench.common.results import Figure, Results, ms, ratio, seconds
from cosyserve.store.manifest import MODEL_FOLDER
from tests.cosyvoice.folder import make_model
from tests.running import Server, wait_until_warm

# Untrained weights speak for as long as they may, twenty speech tokens for each of the text.
_TEXTS = {"preview": "This is one sentence of some length. And here is another.", "CosyVoice2, small": "Hi."}
_FIRST_CHUNKS = 9
_KINDS = {"without Ray": (), "1 replica": ("--replicas", "1"), "2 replicas": ("--replicas", "2")}


@dataclass(frozen=True)
class Figures:
    start_up: float  # seconds to the first 200 of /readyz
    memory: float  # MiB
    first_chunk: float  # seconds, the median, one client
    throughput: float  # seconds of sound a second, several clients


@contextmanager
def server(arguments: tuple[str, ...], **settings: object) -> Iterator[tuple[Server, float]]:
    kind = type("Bench", (Server,), {"arguments": arguments})
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder, kind(Path(folder), **settings) as running:
        wait_until_warm(running.url)  # replicas say in the log that they stand before the server does
        yield running, time.perf_counter() - began
        running.stop()


def asked(text: str) -> dict[str, str]:
    return {"input": text, "response_format": "pcm"}


def first_chunk(client: httpx.Client, text: str) -> float:
    began = time.perf_counter()
    with client.stream("POST", "/v1/audio/speech", json=asked(text)) as response:
        pieces = response.iter_raw()
        next(pieces)
        took = time.perf_counter() - began
        for _ in pieces:
            pass
    return took


def throughput(client: httpx.Client, text: str, clients: int, lasting: float) -> float:
    began = time.perf_counter()

    def listen(_: int) -> int:
        heard = 0
        while time.perf_counter() - began < lasting:
            heard += len(client.post("/v1/audio/speech", json=asked(text)).raise_for_status().content)
        return heard

    with ThreadPoolExecutor(clients) as pool:
        heard = sum(pool.map(listen, range(clients)))
    return heard / 2 / 24_000 / (time.perf_counter() - began)


def measured(
    text: str, arguments: tuple[str, ...], clients: int, lasting: float, settings: dict[str, object]
) -> Figures:
    with (
        server(arguments, **settings) as (running, start_up),
        httpx.Client(base_url=running.url, timeout=300) as client,
    ):
        chunks = [first_chunk(client, text) for _ in range(_FIRST_CHUNKS)]
        spoken = throughput(client, text, clients, lasting)
        family = [running.process, *running.process.children(recursive=True)]
        return Figures(start_up, sum(map(pss, family)) / 2**20, statistics.median(chunks), spoken)


def pss(process: psutil.Process) -> float:
    try:
        return float(process.memory_full_info().pss)
    except psutil.Error:
        return 0.0


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--clients", type=int, default=4)
    parser.add_argument("--only", choices=_TEXTS)


def measure(options: argparse.Namespace, results: Results) -> None:
    """Ratios are to the server without Ray."""
    with tempfile.TemporaryDirectory() as folder:
        make_model(Path(folder) / MODEL_FOLDER)
        small: dict[str, object] = {"synthesizer": "cosyvoice2", "models_dir": folder, "dtype": "float32"}
        preview: dict[str, object] = {"synthesizer": "preview"}
        for name, settings in {"preview": preview, "CosyVoice2, small": small}.items():
            if options.only not in (None, name):
                continue
            load = (options.clients, options.seconds)
            found = {kind: measured(_TEXTS[name], way, *load, settings) for kind, way in _KINDS.items()}
            for kind, each in found.items():
                add(f"{name}, {kind}", each, found["without Ray"], results)


def add(case: str, found: Figures, base: Figures, results: Results) -> None:
    results.add(
        case,
        start_up=seconds(found.start_up),
        start_up_ratio=ratio(found.start_up / base.start_up),
        memory=Figure(found.memory, "MiB", ".0f"),
        memory_ratio=ratio(found.memory / base.memory),
        first_chunk=ms(found.first_chunk),
        first_chunk_added=ms(found.first_chunk - base.first_chunk),
        throughput=Figure(found.throughput, "s/s", ".1f"),
        throughput_ratio=ratio(found.throughput / base.throughput),
    )


BENCHMARK = Benchmark(measure, needs="Ray", arguments=arguments)


if __name__ == "__main__":
    BENCHMARK.run()
