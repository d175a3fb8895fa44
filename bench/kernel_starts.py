"""How long a card takes from the start of the process until it can speak: kernels not compiled, compiled, PyTorch's.

    python -m bench.kernel_starts

Each case is a process of its own: it imports what a server does, makes the model (untrained weights of the released
size, so nothing is read from a disk), chooses and tests the kernels, and makes the graphs for 16 streams. Cold, the
folder of compiled kernels is empty; warm, it is as the cold start left it.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator

from bench.common.benchmark import Benchmark
from bench.common.results import Results, ratio, seconds

_STREAMS, _FRAMES, _POSITIONS = 16, 750, 1024
_COLD, _WARM, _TORCH = "cold", "warm", "PyTorch"


def _child(which: str) -> Iterator[tuple[str, float]]:
    """The moments by when each part was done."""
    import torch

    from bench.common.chosen import kernels_here
    from bench.load import of_released_size
    from cosyserve.cosyvoice.model.config import Config
    from cosyserve.cosyvoice.runtime.batched import BatchedToken2Wav
    from cosyserve.cosyvoice.runtime.generation import Generator
    from cosyserve.cosyvoice.runtime.hops import Hops
    from cosyserve.cosyvoice.runtime.memory import pages_behind

    yield "imports", time.time()
    _, model = of_released_size("cuda", torch.bfloat16, Config())
    torch.cuda.synchronize()
    yield "model", time.time()
    kernels = None if which == _TORCH else kernels_here(torch.bfloat16)
    if which != _TORCH and kernels is None:
        sys.exit("Triton's kernels are not used here: cosyserve doctor says why.")
    yield "kernels", time.time()
    pages = (_STREAMS + 1) * pages_behind(_FRAMES)
    token2wav = BatchedToken2Wav(model.flow, model.vocoder, Hops(), _STREAMS, pages, _FRAMES, kernels=kernels)
    generator = Generator(model.llm, _STREAMS, _POSITIONS, kernels=kernels)
    for make in (*generator.graphs(), *token2wav.graphs()):
        make()
    torch.cuda.synchronize()
    yield "graphs", time.time()


def start(which: str, folder: str) -> dict[str, float]:
    """Seconds of each part."""
    environ = {**os.environ, "COSYSERVE_STATE_DIR": folder}
    environ.pop("TRITON_CACHE_DIR", None)  # the server's own folder is the subject
    began = time.time()
    done = subprocess.run(
        [sys.executable, "-m", "bench.kernel_starts", "--child", which],
        env=environ,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    moments = json.loads(done.stdout.splitlines()[-1])
    starts = [began, *(at for _, at in moments)]
    return {name: at - before for (name, at), before in zip(moments, starts, strict=False)}


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--child", choices=(_COLD, _WARM, _TORCH), help=argparse.SUPPRESS)


def measure(options: argparse.Namespace, results: Results) -> None:
    if options.child:
        print(json.dumps(list(_child(options.child))))
        return
    whole: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        for which in (_COLD, _WARM, _TORCH):
            parts = start(which, folder)
            whole[which] = sum(parts.values())
            results.add(which, **{name: seconds(took) for name, took in parts.items()}, whole=seconds(whole[which]))
    results.add("warm by PyTorch's", ratio=ratio(whole[_WARM] / whole[_TORCH]))


BENCHMARK = Benchmark(measure, needs="a card", arguments=arguments)

if __name__ == "__main__":
    BENCHMARK.run()
