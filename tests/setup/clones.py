"""A fresh clone on a machine with nothing but Python, and a small model that a stand-in hub has."""

import hashlib
import json
import os
import shutil
import site
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from tests.assets.hub import COMMIT, REPOSITORY
from tests.running import ROOT

TOOLS = ("bash", "make", "dirname", "cksum", "mkdir", "rm", "wc", "env", "cat")
# What a company's or a mirror's network needs; everything else of this environment stays outside.
NETWORK = (
    "PIP_",
    "UV_INDEX",
    "UV_DEFAULT",
    "SSL_CERT",
    "REQUESTS_CA",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "http_proxy",
    "https_proxy",
)
_PYTORCH = ("torch", "torchgen", "functorch", "networkx", "jinja2", "markupsafe")


def clone_into(folder: Path) -> Path:
    """The committed state and what is not committed yet, as a stranger would get it after the next push."""
    files = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    )
    for name in filter(None, files.stdout.decode().split("\0")):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    return folder


def bare_environment(folder: Path, *, uv: bool) -> dict[str, str]:
    """A home of its own and a PATH with the base tools, one Python and, where asked for, uv with this user's cache:
    what was downloaded once need not come again for a test."""
    tools, home = folder / "bin", folder / "home"
    tools.mkdir()
    home.mkdir()
    for name in TOOLS:
        (tools / name).symlink_to(str(shutil.which(name)))
    base_python = Path(sys.base_prefix) / "bin" / f"python3.{sys.version_info.minor}"
    (tools / "python3").symlink_to(base_python)
    if uv:
        (tools / "uv").symlink_to(Path(sys.executable).with_name("uv"))
    network = {name: value for name, value in os.environ.items() if name.startswith(NETWORK)}
    cache = os.environ.get("UV_CACHE_DIR") or str(Path("~/.cache/uv").expanduser())
    return {"PATH": str(tools), "HOME": str(home), "LANG": "C.UTF-8", "UV_CACHE_DIR": cache, **network}


def with_pytorch(folder: Path) -> dict[str, str]:
    """Stands in for the download of PyTorch, which takes a minute and more: the tests' own, found on the path."""
    folder.mkdir()
    for name in _PYTORCH:
        (folder / name).symlink_to(Path(site.getsitepackages()[0]) / name)
    return {"PYTHONPATH": str(folder)}


def manifest_of(files: Mapping[str, bytes], place: Path) -> dict[str, str]:
    """A manifest under which a hub with these files has CosyVoice2."""
    hubs = {hub: {"repository": REPOSITORY, "revision": COMMIT} for hub in ("huggingface", "modelscope")}
    listed = [
        {"path": path, "part": "test", "size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        for path, data in files.items()
    ]
    model = {"about": "a small model", "folder": "CosyVoice2-0.5B", "hubs": hubs, "files": listed}
    place.write_text(json.dumps({"cosyvoice2-0.5b": model}))
    return {"_COSYSERVE_MANIFEST": str(place)}
