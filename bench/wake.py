"""How long the model takes to leave a card while nobody speaks and to come back, and what the card has free meanwhile.

    python -m bench.wake                      # small seeded weights, on whatever device is there
    python -m bench.wake --untrained          # weights of the released size, which are written to a temporary folder
    python -m bench.wake --folder pretrained_models/CosyVoice2-0.5B

What a server does with COSYSERVE_UNLOAD_SECONDS: the runtime ends, and all that refers to the card's memory is let go
of; then the weights come from the host's memory or from disk, the room is worked out again and the graphs are made
again. `cold` is from a disk whose files the system has been asked to forget. Where the device is a processor, the
memory is this process's own.
"""

import argparse
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Literal

import torch
from torch import nn

from bench.common.benchmark import Benchmark
from bench.common.results import Results, count, gib, seconds
from cosyserve.cosyvoice.model.config import Config, with_steps
from cosyserve.cosyvoice.model.flow import Flow
from cosyserve.cosyvoice.model.hift import Hift
from cosyserve.cosyvoice.model.loading import FILES, load_sizes
from cosyserve.cosyvoice.model.qwen2 import Llm
from cosyserve.cosyvoice.model.untrained import untrained
from cosyserve.settings import load_settings
from cosyserve.speech.kernel_choice import choose
from cosyserve.speech.loaded import Loader, Model
from cosyserve.speech.runtime_config import RuntimeConfig, config_for

_TIMES = 3
Place = Literal["memory", "disk"]


def write_untrained(folder: Path) -> None:
    """Files of the released size. As they are loaded, weight norm is still to be worked out."""
    config = Config()
    modules: dict[str, nn.Module] = {"llm": Llm(config.llm), "flow": Flow(config.flow)}
    for name, module in modules.items():
        torch.save(untrained(module).state_dict(), folder / FILES[name])
    torch.save(Hift(config.hift).state_dict(), folder / FILES["hift"])


@contextmanager
def model_folder(options: argparse.Namespace) -> Iterator[Path]:
    if options.folder is not None:
        yield options.folder
        return
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "model"
        if options.untrained:
            folder.mkdir()
            write_untrained(folder)
        else:
            from tests.cosyvoice.folder import make_model  # which needs more packages

            make_model(folder)
        yield folder


def forget(folder: Path) -> None:
    """Ask the system to read the weights from the disk the next time."""
    for name in FILES.values():
        with (folder / name).open("rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def in_use(device: str) -> int:
    """Bytes: of the card by whomever, else of this process."""
    if not device.startswith("cuda"):
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    free, whole = torch.cuda.mem_get_info(device)
    return int(whole - free)


def cycles(model: Model, place: Place, results: Results, *, cold: bool = False) -> None:
    """To sleep and back, a few times."""
    device = model.config.device
    loader = Loader(replace(model, config=replace(model.config, unload_to=place)))
    loaded = loader.first()
    loaded.runtime.wait_until_prepared()
    for _ in range(_TIMES):
        awake, began = in_use(device), time.perf_counter()
        loader.let_go(loaded)
        asleep, slept = in_use(device), time.perf_counter()
        if cold:
            forget(model.folder)
        waking = time.perf_counter()
        loaded = loader.again()
        results.add(
            f"{place}, cold" if cold else place,
            sleep=seconds(slept - began),
            wake=seconds(time.perf_counter() - waking),
            streams=count(loaded.capacity.streams),
            awake=gib(awake),
            asleep=gib(asleep),
            back=gib(in_use(device)),
        )
    loaded.close()


def config_here() -> RuntimeConfig:
    return config_for(load_settings(), len(os.sched_getaffinity(0)))


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--untrained", action="store_true", help="weights of the released size, without a model")
    parser.add_argument("--folder", type=Path, metavar="FOLDER", help="a model's folder")


def measure(options: argparse.Namespace, results: Results) -> None:
    with model_folder(options) as folder:
        config = config_here()
        sizes = with_steps(load_sizes(folder), config.flow_steps)
        before = in_use(config.device)
        chosen = choose(config.device, config.dtype, sizes, config.state_dir)
        model = Model(folder, sizes, config, chosen)
        results.add("no model", before=gib(before), with_context=gib(in_use(config.device)))
        cycles(model, "memory", results)
        cycles(model, "disk", results)
        cycles(model, "disk", results, cold=True)


BENCHMARK = Benchmark(measure, needs="a card, or nothing: then small weights on the processor", arguments=arguments)

if __name__ == "__main__":
    BENCHMARK.run()
