"""Print what a step of the language model compiles, for any number of its slots.

    python -m tests.cosyvoice.kernels.sizes

Numbers of rows that Triton would compile for by themselves are one, multiples of 16, and others.
"""

import torch

from tests.cosyvoice.kernels.compiled import Launch, generator_of, launches

_SLOTS = 32

if __name__ == "__main__":
    steps = generator_of(_SLOTS)._steps
    found: dict[Launch, None] = {}
    with torch.inference_mode():
        for size in steps.sizes:
            found |= dict.fromkeys(launches(lambda size=size: steps.step(size)))  # type: ignore[misc]
    for each in found:
        print(each.kernel.__name__, dict(each.constants))
