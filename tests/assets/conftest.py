"""A small model with a manifest of its own, and `cosyserve` run as a user runs it."""

import hashlib
import json
import os
import random
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.assets.hub import COMMIT, REPOSITORY, Hub
from tests.running import HANGS

FOLDER = "Model"
# Larger than the block of ten megabytes in which huggingface_hub writes, or nothing could be resumed.
FILES: dict[str, bytes] = {
    "text/vocab.json": random.Random(1).randbytes(2_000),
    "flow.pt": random.Random(2).randbytes(1_500_000),
    "llm.pt": random.Random(3).randbytes(24_000_000),
}
UNKNOWN = "text/vocab.json"  # whose size and digest the manifest does not have
TOTAL = sum(map(len, FILES.values()))


@pytest.fixture(scope="session")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("manifest") / "models.json"
    model = {
        "about": "a model of tests",
        "folder": FOLDER,
        "hubs": {
            "huggingface": {"repository": REPOSITORY, "revision": COMMIT},
            "modelscope": {"repository": REPOSITORY, "revision": "master"},
        },
        "files": [
            {
                "path": path,
                "part": "test",
                "size": None if path == UNKNOWN else len(data),
                "sha256": None if path == UNKNOWN else hashlib.sha256(data).hexdigest(),
            }
            for path, data in FILES.items()
        ],
    }
    file.write_text(json.dumps({"cosyvoice2-0.5b": model}))
    return file


class User:
    """Somebody with a folder, a shell and the addresses of hubs."""

    def __init__(self, manifest: Path, folder: Path, home: Path) -> None:
        self.folder, self.model = folder, folder / FOLDER
        self.environ = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("HF_", "MODELSCOPE_"))},
            "_COSYSERVE_MANIFEST": str(manifest),
            "COSYSERVE_MODELS_DIR": str(folder),
            "HOME": str(home),
            **dict.fromkeys(("HF_ENDPOINT", "MODELSCOPE_ENDPOINT", "COSYSERVE_HF_MIRROR"), "http://127.0.0.1:9"),
        }

    def asks(self, **hubs: Hub) -> None:
        names = {"huggingface": "HF_ENDPOINT", "mirror": "COSYSERVE_HF_MIRROR", "modelscope": "MODELSCOPE_ENDPOINT"}
        self.environ |= {names[name]: hub.url for name, hub in hubs.items()}

    def starts(self, *command: str, before: tuple[str, ...] = (), **variables: str) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            [*before, sys.executable, "-m", "cosyserve", *command],
            env={**self.environ, **variables},
            cwd=self.folder.parent,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def runs(self, *command: str, before: tuple[str, ...] = (), **variables: str) -> "subprocess.CompletedProcess[str]":
        process = self.starts(*command, before=before, **variables)
        out, err = process.communicate(timeout=HANGS)
        return subprocess.CompletedProcess(command, process.returncode, out, err)

    def has(self) -> Mapping[str, bytes]:
        """Everything in the model's folder that a synthesizer could read."""
        return {
            str(path.relative_to(self.model)): path.read_bytes()
            for path in self.model.rglob("*")
            if path.is_file() and not path.name.startswith(".")
        }

    def source_of(self, path: str) -> str:
        return str(json.loads((self.model / ".cosyserve.json").read_text())[path]["source"])


@pytest.fixture
def user(manifest: Path, tmp_path: Path) -> User:
    (tmp_path / "home").mkdir()
    return User(manifest, tmp_path / "models", tmp_path / "home")
