"""Exports a language model of the released size, with seeded weights: seconds, and the most memory it took.

python -m bench.export [FOLDER]
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

from bench.common.benchmark import Benchmark
from bench.common.results import Figure, Results, mib, seconds

_MAKE = """
import sys
from pathlib import Path
import torch
from cosyserve.cosyvoice.model.config import Config
from cosyserve.cosyvoice.model.qwen2 import Llm
folder = Path(sys.argv[1])
generator = torch.Generator().manual_seed(1)
state = Llm(Config().llm).state_dict()
for key, value in state.items():
    value.copy_(torch.empty_like(value).uniform_(-0.05, 0.05, generator=generator))
torch.save(state, folder / "llm.pt")
"""
_EXPORT = """
import sys
from pathlib import Path
from cosyserve.assets.export import export
export(Path(sys.argv[1]), Path(sys.argv[1]) / "exported")
"""
_TEXT_IDS = 151_643


def exported(folder: Path, results: Results) -> None:
    place = folder / "CosyVoice-BlankEN"
    place.mkdir()
    vocabulary = {chr(0x20000 + number): number for number in range(_TEXT_IDS)}  # as many as the released one has
    (place / "vocab.json").write_text(json.dumps(vocabulary), encoding="utf-8")
    (place / "merges.txt").write_text("#version: 0.2\n", encoding="utf-8")
    subprocess.run([sys.executable, "-c", _MAKE, str(folder)], check=True)
    began, peak = time.monotonic(), 0
    process = psutil.Popen([sys.executable, "-c", _EXPORT, str(folder)])
    while process.poll() is None:
        peak = max(peak, _resident(process))
        time.sleep(0.01)
    if process.returncode:
        raise SystemExit(process.returncode)
    written = (folder / "exported" / "model.safetensors").stat().st_size
    took = seconds(time.monotonic() - began, ".1f")
    results.add("released size", took=took, peak=mib(peak, ".0f"), written=Figure(written, "bytes", "d"))


def _resident(process: psutil.Popen) -> int:
    try:
        return int(process.memory_info().rss)
    except psutil.Error:
        return 0


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", type=Path, nargs="?", help="where the files are kept; default: nowhere")


def measure(options: argparse.Namespace, results: Results) -> None:
    if options.folder is not None:
        exported(options.folder, results)
        return
    with tempfile.TemporaryDirectory() as made:
        exported(Path(made), results)


BENCHMARK = Benchmark(measure, arguments=arguments)


if __name__ == "__main__":
    BENCHMARK.run()
