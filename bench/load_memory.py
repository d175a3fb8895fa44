"""How much memory of the host loading the model takes at its peak, for each number type, weights untrained.

python -m bench.load_memory
"""

import resource
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from torch import nn

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


def load(folder: Path, dtype: torch.dtype) -> None:
    config, before = Config(), peak()
    models = [
        loading.load_llm(folder, config, dtype),
        loading.load_flow(folder, config, dtype),
        loading.load_hift(folder, config),
    ]
    tensors = {each.data_ptr(): each for model in models for each in (*model.parameters(), *model.buffers())}
    weights = sum(each.numel() * each.element_size() for each in tensors.values())
    took = peak() - before
    print(f"{dtype}: peak {took / 2**30:.2f} GiB, {took / weights:.2f} of the weights' {weights / 2**30:.2f} GiB")


def peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def main() -> None:
    if sys.argv[1:]:
        load(Path(sys.argv[1]), getattr(torch, sys.argv[2]))
        return
    with tempfile.TemporaryDirectory() as folder:
        make(Path(folder))
        for dtype in ("float32", "bfloat16"):
            subprocess.run([sys.executable, "-m", "bench.load_memory", folder, dtype], check=True)


if __name__ == "__main__":
    main()
