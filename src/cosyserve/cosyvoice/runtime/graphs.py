"""Work on a GPU that is launched once instead of kernel by kernel."""

import gc
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

_WARM_UPS = 1  # before a capture: what libraries make at their first use must not be made in it


Make = Callable[[], object]  # one graph


class Pool:
    """What graphs share which never run at the same time, and whose results are copied before the next runs: memory,
    and the stream on which they are captured.

    Graphs that may run beside each other need pools of their own: cuBLAS works in memory that belongs to the stream of
    the capture, and two graphs with the same would write over each other's sums.
    """

    def __init__(self, *, first: bool = False) -> None:
        self.handle = torch.cuda.graph_pool_handle()
        self.stream = torch.cuda.Stream(priority=-1 if first else 0)


def new_pool(*, first: bool = False) -> Pool | None:
    """None without a card. Where graphs run beside each other, the kernels of those that come `first` go first: a graph
    has the priority of the stream on which it was captured."""
    return Pool(first=first) if torch.cuda.is_available() else None


def captured(work: Callable[[], object], pool: Pool | None = None, warm_ups: int = _WARM_UPS) -> torch.cuda.CUDAGraph:
    """`work` as a graph. It runs a few times before that, on the pool's stream, as capturing demands."""
    pool = pool or Pool()
    pool.stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(pool.stream), torch.inference_mode():
        for _ in range(warm_ups):
            work()
    torch.cuda.current_stream().wait_stream(pool.stream)
    graph = torch.cuda.CUDAGraph()
    # What other threads do meanwhile is their business: in the global mode an event that TensorRT-LLM waits for would
    # spoil the capture, and the capture what TensorRT-LLM is at.
    with (
        _garbage_left(),
        torch.cuda.graph(graph, pool=pool.handle, stream=pool.stream, capture_error_mode="thread_local"),
        torch.inference_mode(),
    ):
        work()
    return graph


@contextmanager
def _garbage_left() -> Iterator[None]:
    """Without garbage collection: a graph that is out of use would be let go of, which spoils a capture."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def fetched(tensors: Sequence[Tensor]) -> list[Tensor]:
    """The same (n,) in the host's memory, by one copy.

    It goes to pinned memory: a copy to any other holds what the driver needs for those of other threads, and the
    language model would stand still until the device has come so far.
    """
    if not tensors:
        return []
    together = torch.cat(list(tensors)).to("cpu", non_blocking=True)
    if together.is_pinned():
        copied = torch.cuda.Event()
        copied.record()
        copied.synchronize()
    return [part.clone() for part in together.split([len(each) for each in tensors])]


class Graphed:
    """A function of tensors as a graph for one set of shapes, made when it is first called."""

    def __init__(self, work: Callable[..., Sequence[Tensor]], pool: Pool | None = None) -> None:
        self._work, self._pool = work, pool
        self._graph: torch.cuda.CUDAGraph | None = None
        self._inputs: list[Tensor] = []
        self._outputs: Sequence[Tensor] = ()

    def __call__(self, *inputs: Tensor) -> list[Tensor]:
        """The results, copied: the next call writes over the graph's own."""
        if self._graph is None:
            self._inputs = [each.clone() for each in inputs]
            self._graph = captured(self._run, self._pool)
        for mine, given in zip(self._inputs, inputs, strict=True):
            mine.copy_(given)
        self._graph.replay()
        return [each.clone() for each in self._outputs]

    def _run(self) -> None:
        self._outputs = self._work(*self._inputs)
