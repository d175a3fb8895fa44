"""How long a CUDA device takes for a piece of work, the host's part included."""

import time
from collections.abc import Callable

import torch


def seconds_of(work: Callable[[], object], calls: int) -> list[float]:
    """Of each of so many calls, the quickest first."""
    took = []
    for _ in range(calls):
        torch.cuda.synchronize()
        began = time.perf_counter()
        work()
        torch.cuda.synchronize()
        took.append(time.perf_counter() - began)
    return sorted(took)
