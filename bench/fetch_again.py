"""What `cosyserve fetch` takes where everything is there, over a bare start of the interpreter; ten pairs in one run.

python -m bench.fetch_again
"""

import hashlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

_PAIRS = 10


def main(folder: Path) -> None:
    data = b"weights" * 100_000
    file = {"path": "llm.pt", "part": "all", "size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    model = {"about": "", "folder": "Model", "hubs": {}, "files": [file]}
    (folder / "manifest.json").write_text(json.dumps({"cosyvoice2-0.5b": model}))
    (folder / "Model").mkdir()
    (folder / "Model" / "llm.pt").write_bytes(data)
    environ = {**os.environ, "_COSYSERVE_MANIFEST": str(folder / "manifest.json"), "COSYSERVE_MODELS_DIR": str(folder)}
    bare, fetch = ["-c", "pass"], ["-m", "cosyserve", "fetch"]
    _seconds(fetch, environ)  # verifies, and remembers
    pairs = [(_seconds(bare, environ), _seconds(fetch, environ)) for _ in range(_PAIRS)]
    added = statistics.median(second - first for first, second in pairs)
    print(
        f"bare interpreter {statistics.median(first for first, _ in pairs):.3f} s, a complete fetch {added:.3f} s more"
    )


def _seconds(command: list[str], environ: dict[str, str]) -> float:
    began = time.monotonic()
    subprocess.run([sys.executable, *command], env=environ, check=True, capture_output=True)
    return time.monotonic() - began


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as made:
        main(Path(made))
