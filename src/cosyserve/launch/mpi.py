"""Initialises MPI in this process exactly as `import tensorrt_llm` would, so that a host can be tested without it."""

import os

from cosyserve.launch.ladder import PLAIN, RUNG, WITHOUT_MPI

# Kept alive as TensorRT-LLM's module keeps its own: a communicator that is collected is freed.
_communicators: list[object] = []


def initialise() -> None:
    """The calls of TensorRT-LLM's `_utils` module, on a rung with MPI. May hang forever."""
    if WITHOUT_MPI in os.environ or os.environ.get(RUNG, PLAIN) == PLAIN:
        return
    from mpi4py import MPI

    world = MPI.COMM_WORLD
    _communicators.extend((world, world.Split_type(MPI.COMM_TYPE_SHARED)))
