"""A thousand short requests one after another, then sixteen at a time for minutes, to CosyVoice2 with a small model.

Prints the server's memory as it goes, and whether a fixed seed still gives the very same samples, also in the middle of
the crowd:  python -m bench.endurance [MINUTES]
"""

import argparse
import hashlib
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import psutil

from bench.common.benchmark import Benchmark
from bench.common.results import Results, count, mib, words
from cosyserve.store.manifest import MODEL_FOLDER
from tests.cosyvoice.folder import make_model
from tests.running import Server

_REQUESTS, _AT_ONCE, _LOOKS = 1000, 16, 8

Look = Callable[[str, int], None]  # at the server, after so many requests


def speak(client: httpx.Client, text: str, seed: int) -> str:
    """The digest of the samples."""
    response = client.post("/v1/audio/speech", json={"input": text, "seed": seed, "response_format": "pcm"})
    response.raise_for_status()
    return hashlib.sha256(response.content).hexdigest()


def memory(server: Server) -> int:
    """Bytes of the server and its supervisor."""
    family = [server.process, *server.process.children(recursive=True)]
    return sum(each.memory_info().rss for each in family)


def crowd(url: str, until: float, counts: list[int], problems: list[BaseException]) -> None:
    try:
        with httpx.Client(base_url=url, timeout=300) as client:
            while time.monotonic() < until:
                speak(client, "Hi.", seed=len(counts))
                counts.append(1)
    except BaseException as problem:
        problems.append(problem)


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("minutes", type=float, nargs="?", default=5, help="of sixteen at a time")


def measure(options: argparse.Namespace, results: Results) -> None:
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        make_model(folder / "models" / MODEL_FOLDER)
        serving = Server(folder, synthesizer="cosyvoice2", models_dir=folder / "models")
        with serving as server, httpx.Client(base_url=server.url, timeout=300) as client:
            expected = speak(client, "Hello.", seed=1)

            def look(case: str, requests: int) -> None:
                same = "identical" if speak(client, "Hello.", seed=1) == expected else "DIFFERENT"
                results.add(case, requests=count(requests), memory=mib(memory(server), ".0f"), same_seed=words(same))

            one_after_another(client, look)
            in_a_crowd(server.url, 60 * options.minutes, look, results)
            files = sum(each.num_fds() for each in psutil.Process().children(recursive=True))
            results.add("at the end", open_files=count(files))


def one_after_another(client: httpx.Client, look: Look) -> None:
    began = time.monotonic()
    for number in range(_REQUESTS):
        if number % (_REQUESTS // _LOOKS) == 0:
            look("one after another", number)
        speak(client, "Hi.", seed=number)
    look(f"after {time.monotonic() - began:.0f} s", _REQUESTS)


def in_a_crowd(url: str, seconds: float, look: Look, results: Results) -> None:
    counts, problems = list[int](), list[BaseException]()
    until = time.monotonic() + seconds
    threads = [threading.Thread(target=crowd, args=(url, until, counts, problems)) for _ in range(_AT_ONCE)]
    for thread in threads:
        thread.start()
    for _ in range(_LOOKS):
        look(f"{_AT_ONCE} at a time", len(counts))
        time.sleep(seconds / _LOOKS)
    for thread in threads:
        thread.join()
    look("then", len(counts))
    results.add("of them", failed=count(len(problems)))


BENCHMARK = Benchmark(measure, arguments=arguments)


if __name__ == "__main__":
    BENCHMARK.run()
