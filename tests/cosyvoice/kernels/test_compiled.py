"""Every kernel of the released size compiles for the cards that people rent, and fits them; none of them is here."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.running import HANGS, ROOT

# The least that there is: what fits 8.6 fits 8.0, 8.9 and 9.0, for which `python -m tests.cosyvoice.kernels.compiled`
# compiles as well. Shared memory of a program in bytes: CUDA's programming guide, specifications by compute capability.
_CAPABILITY, _SHARED = 86, 99 << 10
_STACK = 64  # bytes, for what the sine does with large numbers, or a dozen registers; more spilled takes hundreds


def test_a_step_is_the_same_program_for_any_number_of_slots() -> None:
    """Else a seed would be rounded otherwise in company than alone, and draw other tokens."""
    steps = subprocess.run(
        [sys.executable, "-m", "tests.cosyvoice.kernels.sizes"],
        cwd=ROOT,
        env={name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"},
        capture_output=True,
        text=True,
        timeout=HANGS,
    )
    assert steps.returncode == 0, steps.stderr
    assert len(steps.stdout.splitlines()) == 7  # one for each product of a layer and the head, attention, the draw


@pytest.mark.slow
def test_it_fits_in_shared_memory_and_in_registers(tmp_path: Path) -> None:
    environ = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    done = subprocess.run(
        [sys.executable, "-m", "tests.cosyvoice.kernels.compiled", str(_CAPABILITY)],
        cwd=ROOT,
        env={**environ, "TRITON_CACHE_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=HANGS,
    )
    assert done.returncode == 0, done.stderr
    kernels = [json.loads(line) for line in done.stdout.splitlines()]
    assert len({each["kernel"] for each in kernels}) == 16
    assert [each for each in kernels if each["shared"] > _SHARED or each["stack"] > _STACK] == []
