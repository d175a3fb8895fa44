"""How much memory of the host loading the model takes at its peak, for each number type, weights untrained.

python -m bench.load_memory
"""

import argparse
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from torch import nn

from bench.common.benchmark import Benchmark
from bench.common.results import Results, gib, ratio
from cosyserve.cosyvoice.model import loading
from cosyserve.cosyvoice.model.config import Config
from cosyserve.cosyvoice.model.flow import Flow
from cosyserve.cosyvoice.model.hift import Hift
from cosyserve.cosyvoice.model.qwen2 import Llm
from cosyserve.cosyvoice.model.untrained import untrained


def make(folder: Path) -> None:
    """Files of the released size."""
    config = Config()
    modules: dict[str, nn.Module] = {"llm": Llm(config.llm), "flow": Flow(config.flow), "hift": Hift(config.hift)}
    for name, module in modules.items():
        torch.save(untrained(module).state_dict(), folder / loading.FILES[name])


def load(folder: Path, dtype: torch.dtype) -> tuple[int, int]:
    """Bytes that loading took at its peak, and of the weights."""
    config, before = Config(), peak()
    models = [
        loading.load_llm(folder, config, dtype),
        loading.load_flow(folder, config, dtype),
        loading.load_hift(folder, config),
    ]
    tensors = {each.data_ptr(): each for model in models for each in (*model.parameters(), *model.buffers())}
    return peak() - before, sum(each.numel() * each.element_size() for each in tensors.values())


def peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def measure(options: argparse.Namespace, results: Results) -> None:
    with tempfile.TemporaryDirectory() as folder:
        make(Path(folder))
        for dtype in ("float32", "bfloat16"):
            # In a process of its own, because a process keeps its peak.
            code = "import pathlib, torch; from bench.load_memory import load; "
            code += f"print(*load(pathlib.Path({folder!r}), torch.{dtype}))"
            done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
            took, weights = map(int, done.stdout.split())
            results.add(dtype, peak=gib(took), weights=gib(weights), ratio=ratio(took / weights))


BENCHMARK = Benchmark(measure)


if __name__ == "__main__":
    BENCHMARK.run()
