"""Which engine this machine needs, for which weights and settings; whether it can have one at all."""

import platform
import sys

from cosyserve import errors
from cosyserve.errors import CosyError
from cosyserve.host import gpu
from cosyserve.host.system import installed
from cosyserve.machine import Machine
from cosyserve.store.engines import Key, Shape

# The PyTorch that each TensorRT-LLM was released with, and the CUDA it has to be built for.
PYTORCH = {(1, 0): ("2.7.1", "12.8"), (1, 1): ("2.9.0", "13.0"), (1, 2): ("2.9.1", "13.0")}
EXPORT = 1  # raised when the export changes what an engine is made of


def key_here(weights: str, shape: Shape, machine: Machine) -> Key:
    """The key of the engine that this machine needs; raises `CS-BUILD-001…003` where it can have none."""
    card = gpu.first_card(machine)
    version = supported_version()
    if card is None or card.capability is None:
        raise CosyError(errors.BUILD_WITHOUT_CARD)
    return Key(
        weights=weights,
        shape=shape,
        export=EXPORT,
        tensorrt_llm=version,
        tensorrt=installed("tensorrt") or "?",
        cuda=gpu.cuda_of_packages() or 0,
        capability=card.capability,
        card=card.name,
        system=f"{sys.platform}-{platform.machine()}",
    )


def supported_version() -> str:
    """The TensorRT-LLM that is installed, by its metadata; raises `CS-BUILD-001` or `-002` where engines are not to
    be built with it."""
    version = installed("tensorrt-llm")
    if version is None:
        raise CosyError(errors.TRTLLM_MISSING)
    major, minor = (int(part) for part in version.split(".")[:2])
    if (major, minor) >= (1, 3):
        raise CosyError(errors.TRTLLM_VERSION, version=version, reason="versions from 1.3 on no longer have engines")
    if major < 1:
        raise CosyError(errors.TRTLLM_VERSION, version=version, reason="versions before 1.0 have another interface")
    return version
