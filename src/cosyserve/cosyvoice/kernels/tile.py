"""How much of a product one program of a kernel works on."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Tile:
    """`rows` by `columns` of the result, `depth` of the sum at a time, by so many warps. Sizes are powers of two, from
    16 on: that is what a tensor core multiplies."""

    rows: int
    columns: int
    depth: int = 64
    warps: int = 4
    stages: int = 3


def power_of_two(size: int) -> int:
    """The least one, from 16 on, that holds `size`."""
    return max(16, 1 << (size - 1).bit_length())
