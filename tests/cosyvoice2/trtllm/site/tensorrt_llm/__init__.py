"""A stand-in for TensorRT-LLM, for tests: its interface is made from contract.json, its inside is ours.

It initialises MPI at import, as the real one does.
"""

import os

if os.environ.get("STANDIN_MPI") != "none":
    from mpi4py import MPI

    _world = MPI.COMM_WORLD

__version__ = "1.2.1"
