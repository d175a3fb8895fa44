"""The rungs of the ladder, for tests that hold on each of them."""

from typing import Any

import pytest

MPI_RUNGS = ["direct", "isolated", "mpirun"]
RUNGS = ["python", *(pytest.param(name, marks=pytest.mark.mpi) for name in MPI_RUNGS)]


def settings_of(rung: str) -> dict[str, Any]:
    return {"mpi": "auto"} if rung == "python" else {"launch": rung}
