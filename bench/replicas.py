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


def throughput(client: httpx.Client, text: str, clients: int, seconds: float) -> float:
    began = time.perf_counter()

    def listen(_: int) -> int:
        heard = 0
        while time.perf_counter() - began < seconds:
            heard += len(client.post("/v1/audio/speech", json=asked(text)).raise_for_status().content)
        return heard

    with ThreadPoolExecutor(clients) as pool:
        heard = sum(pool.map(listen, range(clients)))
    return heard / 2 / 24_000 / (time.perf_counter() - began)


def measured(
    text: str, arguments: tuple[str, ...], clients: int, seconds: float, settings: dict[str, object]
) -> Figures:
    with (
        server(arguments, **settings) as (running, start_up),
        httpx.Client(base_url=running.url, timeout=300) as client,
    ):
        chunks = [first_chunk(client, text) for _ in range(_FIRST_CHUNKS)]
        spoken = throughput(client, text, clients, seconds)
        family = [running.process, *running.process.children(recursive=True)]
        return Figures(start_up, sum(map(pss, family)) / 2**20, statistics.median(chunks), spoken)


def pss(process: psutil.Process) -> float:
    try:
        return float(process.memory_full_info().pss)
    except psutil.Error:
        return 0.0


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--clients", type=int, default=4)
    parser.add_argument("--only", choices=_TEXTS)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        make_model(Path(folder) / MODEL_FOLDER)
        small: dict[str, object] = {"synthesizer": "cosyvoice2", "models_dir": folder, "dtype": "float32"}
        preview: dict[str, object] = {"synthesizer": "preview"}
        for name, settings in {"preview": preview, "CosyVoice2, small": small}.items():
            if given.only not in (None, name):
                continue
            load = (given.clients, given.seconds)
            print_table(name, {kind: measured(_TEXTS[name], way, *load, settings) for kind, way in _KINDS.items()})


def print_table(name: str, found: dict[str, Figures]) -> None:
    base = found["without Ray"]
    print(f"\n{name}: ratios are to the server without Ray")
    print(f"{'':12} {'start-up':>14} {'memory':>18} {'first chunk':>22} {'throughput':>22}")
    for kind, each in found.items():
        print(
            f"{kind:12} {each.start_up:6.1f} s ({each.start_up / base.start_up:4.1f}) "
            f"{each.memory:7.0f} MiB ({each.memory / base.memory:4.1f}) "
            f"{1000 * each.first_chunk:7.1f} ms ({1000 * (each.first_chunk - base.first_chunk):+6.1f} ms) "
            f"{each.throughput:7.1f} s/s ({each.throughput / base.throughput:4.2f})",
            flush=True,
        )


if __name__ == "__main__":
    main()
