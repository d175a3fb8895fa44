"""How much of a product one program of a kernel works on."""

from dataclasses import dataclass
from functools import cache

import torch

_LEAST_SHARED = 99 << 10  # bytes: CUDA's programming guide, compute capability 8.6 and 8.9


@dataclass(frozen=True)
class Tile:
    """`rows` by `columns` of the result, `depth` of the sum at a time, by `warps` warps. Sizes are powers of two, from
    16 on: that is what a tensor core multiplies."""

    rows: int
    columns: int
    depth: int = 64
    warps: int = 4
    stages: int = 3


def power_of_two(size: int) -> int:
    """The least one, from 16 on, that holds `size`."""
    return max(16, 1 << (size - 1).bit_length())


@cache
def shared_bytes(device: torch.device) -> int:
    """Shared memory that a program may have there."""
    if device.type != "cuda":
        return _LEAST_SHARED
    return int(getattr(torch.cuda.get_device_properties(device), "shared_memory_per_block_optin", _LEAST_SHARED))
