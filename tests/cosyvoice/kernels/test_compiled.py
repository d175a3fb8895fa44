"""Every kernel of the released size compiles for the cards that people rent, and fits them; none of them is here."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.running import HANGS, ROOT

# Shared memory that a program may have, in bytes: CUDA's programming guide, technical specifications by capability.
# What fits 8.6 fits 8.0 and 8.9, which are compiled for alike: `python -m tests.cosyvoice.kernels.compiled` shows all.
_STACK = 16  # bytes, which hold an address or two; what is spilled takes hundreds
SHARED = {86: 99 << 10, 90: 227 << 10}


@pytest.mark.slow
def test_it_fits_in_shared_memory_and_in_registers(tmp_path: Path) -> None:
    environ = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    done = subprocess.run(
        [sys.executable, "-m", "tests.cosyvoice.kernels.compiled", *map(str, SHARED)],
        cwd=ROOT,
        env={**environ, "TRITON_CACHE_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=HANGS,
    )
    assert done.returncode == 0, done.stderr
    kernels = [json.loads(line) for line in done.stdout.splitlines()]
    assert {each["capability"] for each in kernels} == set(SHARED)
    assert [each for each in kernels if each["shared"] > SHARED[each["capability"]] or each["stack"] > _STACK] == []
