"""What `cosyserve fetch` takes where everything is there, over a bare start of the interpreter; ten pairs in one run.

python -m bench.fetch_again
"""

import argparse
import hashlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bench.common.benchmark import Benchmark
from bench.common.results import Results, seconds

_PAIRS = 10


def pairs_in(folder: Path) -> list[tuple[float, float]]:
    data = b"weights" * 100_000
    file = {"path": "llm.pt", "part": "all", "size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    model = {"about": "", "folder": "Model", "hubs": {}, "files": [file]}
    (folder / "manifest.json").write_text(json.dumps({"cosyvoice2-0.5b": model}))
    (folder / "Model").mkdir()
    (folder / "Model" / "llm.pt").write_bytes(data)
    environ = {**os.environ, "_COSYSERVE_MANIFEST": str(folder / "manifest.json"), "COSYSERVE_MODELS_DIR": str(folder)}
    bare, fetch = ["-c", "pass"], ["-m", "cosyserve", "fetch"]
    _seconds(fetch, environ)  # verifies, and remembers
    return [(_seconds(bare, environ), _seconds(fetch, environ)) for _ in range(_PAIRS)]


def _seconds(command: list[str], environ: dict[str, str]) -> float:
    began = time.monotonic()
    subprocess.run([sys.executable, *command], env=environ, check=True, capture_output=True)
    return time.monotonic() - began


def measure(options: argparse.Namespace, results: Results) -> None:
    with tempfile.TemporaryDirectory() as made:
        pairs = pairs_in(Path(made))
    bare = statistics.median(first for first, _ in pairs)
    added = statistics.median(second - first for first, second in pairs)
    results.add(f"medians of {_PAIRS} pairs", bare_interpreter=seconds(bare, ".3f"), a_fetch_adds=seconds(added, ".3f"))


BENCHMARK = Benchmark(measure)


if __name__ == "__main__":
    BENCHMARK.run()
