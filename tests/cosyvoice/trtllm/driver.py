"""What CUDA's driver holds against a capture: the stand-in's executor and the stand-in for `torch.cuda` share it.

While a thread captures a graph in the global mode, a synchronisation in any other thread fails (900) and spoils the
capture (901); in the thread-local mode both go on. So it was measured (docs/assets.md names the benchmark).
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch

_lock = threading.Lock()
_mode: str | None = None  # of the capture that runs
_spoiled = False
captures = 0


def synchronise() -> None:
    """As cudaEventSynchronize; raises where another thread's capture does not allow it."""
    global _spoiled
    with _lock:
        if _mode == "global":
            _spoiled = True
            raise RuntimeError("CUDA runtime error: operation not permitted when stream is capturing")


@contextmanager
def capture(graph: Any, *, pool: Any = None, stream: Any = None, capture_error_mode: str = "global") -> Iterator[None]:
    """In place of `torch.cuda.graph`."""
    global _mode, _spoiled, captures
    with _lock:
        _mode, _spoiled, captures = capture_error_mode, False, captures + 1
    try:
        yield
    finally:
        with _lock:
            _mode, spoiled = None, _spoiled
    if spoiled:
        raise RuntimeError("CUDA error: operation failed due to a previous error during capture")


class Nothing:
    """In place of a stream or a graph: whatever is asked of it, it does nothing."""

    def __init__(self, *args: Any, **kwargs: Any) -> None: ...

    def __enter__(self) -> None: ...

    def __exit__(self, *args: object) -> None: ...

    def wait_stream(self, stream: Any) -> None: ...

    def replay(self) -> None: ...


def install(monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on graphs are captured, in the stand-in's way, on a machine without a card."""
    for name in ("Stream", "stream", "current_stream", "graph_pool_handle", "CUDAGraph"):
        monkeypatch.setattr(torch.cuda, name, Nothing)
    monkeypatch.setattr(torch.cuda, "graph", capture)
