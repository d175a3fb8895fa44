"""What the cures need to know about this machine, looked up once for every process that is started here."""

import sysconfig
from pathlib import Path

from cosyserve.host import cure, libpython, wsl
from cosyserve.host.cure import Surroundings
from cosyserve.host.system import installed, usable_cores
from cosyserve.machine import Machine

_CUDA = "/usr/local/cuda"
# Where NVIDIA's wheels unpack a toolkit's parts, CUDA 13's and 12's.
_CUDA_OF_WHEELS = ("nvidia/cu13", "nvidia/cuda_nvcc", "nvidia/cuda_runtime")


def surroundings_of(machine: Machine) -> Surroundings:
    driver = wsl.driver_folder(machine)
    if installed("tensorrt-llm") is None:
        return cure.look_around(machine.environ, usable_cores(machine), (driver,) if driver else ())
    named = tuple(filter(None, (driver, libpython.folder_to_name())))
    return cure.look_around(machine.environ, usable_cores(machine), named, _cuda_home(machine))


def _cuda_home(machine: Machine) -> str:
    """TensorRT-LLM 1.1 and later exit at import if nothing names a CUDA toolkit, which the server never uses."""
    if machine.exists(_CUDA):
        return _CUDA
    packages = Path(sysconfig.get_path("purelib"))
    return next((str(packages / part) for part in _CUDA_OF_WHEELS if (packages / part).is_dir()), "")
