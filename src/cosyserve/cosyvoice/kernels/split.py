"""Work that several programs share, each of which finds a part: the one that ends last puts the parts together.

Which one it is makes no difference, because the parts are added in the order of their numbers.
"""

from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor


@dataclass(frozen=True)
class Parts:
    """Where parts lie, for kernels that run one after the other: `found`, float32, and how many programs have ended,
    `arrived`, int32, which is zero between them."""

    found: Tensor
    arrived: Tensor

    @classmethod
    def of(cls, values: int, shared: int, device: torch.device) -> "Parts":
        """Room for that many values in all, and that many shared pieces of work."""
        return cls(
            torch.zeros(values, dtype=torch.float32, device=device),
            torch.zeros(shared, dtype=torch.int32, device=device),
        )


@triton.jit
def is_last(arrived_ptr, SPLITS: tl.constexpr):
    """Whether all others of SPLITS programs have stored their parts, which this one may read then."""
    tl.debug_barrier()  # all threads of this program have stored theirs
    last = tl.atomic_add(arrived_ptr, 1, sem="acq_rel") == SPLITS - 1
    if last:
        tl.store(arrived_ptr, 0)
    return last
