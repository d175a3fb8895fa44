"""Captures a CUDA graph beside a thread that waits for events, as TensorRT-LLM's does:  python -m bench.capture

In the global mode both sides fail, though either would live without the other; in the thread-local one, in which the
server captures, both live. Each try has a process of its own, because a failed capture may leave the device
unusable. Needs a card and nothing but PyTorch; ends with status 0 where it was so each time.
"""

import argparse
import subprocess
import sys
import threading
import time
from collections.abc import Callable

import torch

from bench.common.benchmark import Benchmark
from bench.common.results import Results, words
from cosyserve.cosyvoice.model.config import Config
from cosyserve.cosyvoice.model.flow import Flow
from cosyserve.cosyvoice.model.hift import Hift
from cosyserve.cosyvoice.model.untrained import untrained
from cosyserve.cosyvoice.runtime.flow_batch import FlowBatch
from cosyserve.cosyvoice.runtime.graphs import captured
from cosyserve.cosyvoice.runtime.vocoder import VocoderBatch

ATTEMPTS = ("alone", "global", "thread-local", "server")
_TRIES = 3
_WAITS = 20  # events that the other thread has to get through within a capture
_SECONDS = 10
_SIZE = 1024


class Waiting:
    """A thread that launches work, records an event and waits for it, again and again, until it cannot."""

    def __init__(self) -> None:
        self.waits, self.problem = 0, ""
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        x = torch.randn(_SIZE, _SIZE, device="cuda")
        out, event = torch.empty_like(x), torch.cuda.Event()  # type: ignore[no-untyped-call]
        try:
            with torch.cuda.stream(torch.cuda.Stream()):  # type: ignore[no-untyped-call]
                while not self._stop.is_set():
                    torch.mm(x, x, out=out)
                    event.record()
                    event.synchronize()
                    self.waits += 1
        except RuntimeError as problem:
            self.problem = _first_line(problem)

    def has_gone_on(self) -> None:
        """Returns once it has waited for more events, or cannot."""
        begun, until = self.waits, time.monotonic() + _SECONDS
        while self._goes_on and self.waits < begun + _WAITS and time.monotonic() < until:
            time.sleep(0.001)

    @property
    def _goes_on(self) -> bool:
        return not self.problem and not self._stop.is_set()

    def close(self) -> None:
        self._stop.set()
        self._thread.join()


def _first_line(problem: BaseException) -> str:
    return str(problem).splitlines()[0]


def one_graph(waiting: Waiting, capture: Callable[[Callable[[], object]], object]) -> None:
    x = torch.randn(_SIZE, _SIZE, device="cuda")
    out = torch.mm(x, x)  # whatever the first call of a thread sets up is set up

    def work() -> None:
        torch.mm(x, x, out=out)
        waiting.has_gone_on()

    capture(work)


def in_global_mode(work: Callable[[], object]) -> None:
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, capture_error_mode="global"):
        work()


def all_graphs_of_a_server() -> None:
    config = Config()
    flow = untrained(Flow(config.flow)).to("cuda", torch.bfloat16)
    flow.noise = flow.noise.float()
    hift = untrained(Hift(config.hift)).to("cuda")
    batches = FlowBatch(flow, streams=4, pages=24, frames=300), VocoderBatch(hift, streams=4, first=20, later=50)
    for make in (make for batch in batches for make in batch.graphs()):
        make()


def attempt(what: str) -> str:
    """What came of it, both sides, in one line."""
    waiting = Waiting()
    waiting.has_gone_on()
    if what == "alone":
        waiting.close()
    mine = ""
    try:
        if what in ("alone", "global"):
            one_graph(waiting, in_global_mode)
        elif what == "thread-local":
            one_graph(waiting, captured)
        else:
            all_graphs_of_a_server()
        waiting.has_gone_on()
        torch.cuda.synchronize()
    except RuntimeError as problem:
        mine = _first_line(problem)
    waiting.close()
    return f"capture: {mine or 'ok'} | other thread: {waiting.problem or f'ok, {waiting.waits} events'}"


def measure(options: argparse.Namespace, results: Results) -> None:
    as_expected = True
    for what in ATTEMPTS:
        for number in range(_TRIES):
            command = [sys.executable, "-c", f"from bench.capture import attempt; print(attempt({what!r}), flush=True)"]
            done = subprocess.run(command, capture_output=True, text=True)
            said = (done.stdout or done.stderr).strip().splitlines()[-1]  # what follows may have aborted
            both = "capture: ok | other thread: ok" in said
            neither = "capture: ok" not in said and "other thread: ok" not in said
            as_expected &= neither if what == "global" else both
            results.add(f"{what}, {number + 1}", came_of_it=words(said))
    results.add("all", as_expected=words("yes" if as_expected else "NO"))
    sys.exit(not as_expected)


BENCHMARK = Benchmark(measure, needs="a card")


if __name__ == "__main__":
    BENCHMARK.run()
