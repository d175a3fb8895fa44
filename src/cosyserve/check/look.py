"""Looks at this process from inside, as one that was started for it:  python -m cosyserve.check.look WHAT

The last line of the output is what was seen. Whatever is looked at here may hang or end the process.
"""

import ctypes
import re
import sys
from pathlib import Path

from pydantic import BaseModel

from cosyserve.check.seen import Imported, Libraries, Pytorch
from cosyserve.host import libpython

MARK = "cosyserve-check|"
LIBNUMA, LIBMPI = "libnuma.so.1", "libmpi"
_CUDA = re.compile(r"/lib(?:cudart|cublas|cublasLt|nvrtc)\.so\.(\d+)")
_MPI = re.compile(r"/libmpi(?:ch)?\.so")


def libraries() -> Libraries:
    libpython.load()
    problems = {name: _problem(name) for name in (*libpython.NAMES, LIBNUMA)}
    return Libraries(problems={**problems, LIBMPI: _problem_of_mpi()})


def _problem(library: str) -> str:
    try:
        ctypes.CDLL(library)
    except OSError as error:
        return str(error)
    return ""


def _problem_of_mpi() -> str:
    """Loaded, and not initialised, which is what may hang."""
    try:
        import mpi4py

        mpi4py.rc.initialize = False
        from mpi4py import MPI

        MPI.Get_library_version()
    except Exception as error:  # mpi4py's wheels end with a RuntimeError
        return str(error).strip().splitlines()[0]
    return ""


def pytorch() -> Pytorch:
    import torch

    card = torch.cuda.get_device_name() if torch.cuda.is_available() else ""
    return Pytorch(version=torch.__version__, cuda=torch.version.cuda or "", card=card)


def imported() -> Imported:
    libpython.load()
    import tensorrt_llm
    from tensorrt_llm.bindings import executor  # noqa: F401 - what the server loads

    mapped = {line.split()[-1] for line in Path("/proc/self/maps").read_text(encoding="utf-8").splitlines()}
    libmpi = {str(Path(each).resolve()) for each in mapped if _MPI.search(each)}
    cuda = {int(found[1]) for found in map(_CUDA.search, mapped) if found}
    return Imported(version=str(tensorrt_llm.__version__), libmpi=sorted(libmpi), cuda=sorted(cuda))


_WHAT = {"libraries": libraries, "pytorch": pytorch, "import": imported}


def main() -> None:
    seen: BaseModel = _WHAT[sys.argv[1]]()
    print(f"\n{MARK}{seen.model_dump_json()}", flush=True)


if __name__ == "__main__":
    main()
