"""A machine with a card and TensorRT-LLM, both stand-ins: what a user's commands find there is found by PATH."""

import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parent.parent.parent


@pytest.fixture
def with_trtllm(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """In this process the stand-in is found."""
    monkeypatch.syspath_prepend(str(HERE / "site"))
    yield
    for name in [name for name in sys.modules if name.split(".")[0] == "tensorrt_llm"]:
        del sys.modules[name]


def environment() -> dict[str, str]:
    """Of a process that is to find the stand-ins."""
    return {
        "PYTHONPATH": os.pathsep.join(map(str, (HERE / "site", ROOT, ROOT / "src"))),
        "PATH": f"{HERE / 'bin'}{os.pathsep}{os.environ['PATH']}",
    }


@pytest.fixture
def models_with_room(models: Path, tmp_path: Path) -> Path:
    """A folder of models that engines may be built into."""
    folder = tmp_path / "models"
    shutil.copytree(models, folder)
    return folder
