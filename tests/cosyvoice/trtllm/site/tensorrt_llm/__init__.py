"""A stand-in for TensorRT-LLM, for tests: its interface is made from contract.json, its inside is ours.

It initialises MPI at import and loads Python's own library by both its names, as the real one does. Where a test
says so (`STANDIN_CUDA_HOME`), it asks for a CUDA toolkit too, as the real one's deep_gemm does.
"""

import ctypes
import os
import shutil

if _version := os.environ.get("STANDIN_LIBPYTHON"):
    for _name in (f"libpython{_version}.so.1.0", f"libpython{_version}.so"):
        ctypes.cdll.LoadLibrary(_name)
if "STANDIN_CUDA_HOME" in os.environ:
    assert os.environ.get("CUDA_HOME") or shutil.which("nvcc"), "CUDA_HOME is not set and there is no nvcc"
if os.environ.get("STANDIN_MPI") != "none":
    from mpi4py import MPI

    _world = MPI.COMM_WORLD

__version__ = "1.2.1"
