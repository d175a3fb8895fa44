"""The real autodl/install.sh for a card, with stand-in indexes: each package comes from the one it belongs to."""

import hashlib
import http.server
import os
import shutil
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest

from tests.running import ROOT

pytestmark = pytest.mark.slow  # it makes environments

VERSION = f"{sys.version_info.major}.{sys.version_info.minor}"


def wheel(
    folder: Path, name: str, version: str, origin: str, *requires: str, files: Mapping[str, str] | None = None
) -> Path:
    """A package whose one module tells where it came from, unless it has `files` of its own."""
    module, folder = name.replace("-", "_"), folder / name
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{module}-{version}-py3-none-any.whl"
    info = f"{module}-{version}.dist-info"
    needs = "".join(f"Requires-Dist: {each}\n" for each in requires)
    with zipfile.ZipFile(file, "w") as archive:
        for path, text in (files or {f"{module}.py": f"origin = {origin!r}\n"}).items():
            archive.writestr(path, text)
        archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{needs}")
        archive.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr(f"{info}/RECORD", "")
    return file


@contextmanager
def index(folder: Path) -> Iterator[str]:
    """A package index is a folder of folders."""
    handler = partial(http.server.SimpleHTTPRequestHandler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/"
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def release(tmp_path: Path) -> Path:
    """Unpacked, for a card, and with this Python in place of the one that TensorRT-LLM has wheels for."""
    release = tmp_path / "releases/one"
    shutil.copytree(ROOT / "autodl", release / "autodl")
    script = release / "autodl/install.sh"
    script.write_text(script.read_text().replace('"3.12 3.10"', f'"{VERSION}"'))
    (release / "release.json").write_text('{"flavour": "cuda12"}')
    (release / "scripts").mkdir()
    for name in ("get-uv", "requirements", "setup-tensorrt-llm"):
        shutil.copy(ROOT / "scripts" / name, release / "scripts")
    (release / "requirements").mkdir()
    wheel(tmp_path, "ours", "1.0", "here").parent.rename(release / "wheel")
    return release


@pytest.mark.parametrize("installer", ["uv", "pip"])
def test_neither_index_can_offer_what_belongs_to_the_other(release: Path, tmp_path: Path, installer: str) -> None:
    usual, nvidia, pytorch = tmp_path / "usual", tmp_path / "nvidia", tmp_path / "pytorch"
    (usual / "uv").mkdir(parents=True)  # the page by which indexes are measured
    for name, version in (
        ("beside", "1.0"),
        ("needed", "1.0"),
        ("tensorrt-llm", "1.0.0"),
        ("tensorrt-llm", "1.0.0.post9"),
        ("torch", "2.7.1"),
        ("torchvision", "0.22.1"),
    ):
        wheel(usual, name, version, "usual")
    told = {"torch/__init__.py": "origin = 'pytorch'\n", "torch/version.py": "cuda = '12.8'\n"}
    wheel(pytorch, "torch", "2.7.1+cu128", "pytorch", files=told)
    wheel(pytorch, "torchvision", "0.22.1+cu128", "pytorch")
    for name, version in (("beside", "99.0"), ("needed", "99.0")):
        wheel(nvidia, name, version, "nvidia")
        wheel(pytorch, name, version, "pytorch")
    wheel(nvidia, "tensorrt-llm", "1.0.0", "nvidia", "needed>=1.0", "beside", "torch>=2.7.1", "torchvision")
    digest = hashlib.sha256((usual / "beside/beside-1.0-py3-none-any.whl").read_bytes()).hexdigest()
    parts = f"# release\nbeside==1.0 --hash=sha256:{digest}\n# uv\nuv==0 --hash=sha256:{'0' * 64}\n"
    (release / "requirements/main.txt").write_text(parts)
    with index(usual) as usual_url, index(nvidia) as nvidia_url, index(pytorch) as pytorch_url:
        done = subprocess.run(
            [release / "autodl/install.sh", usual_url],
            env={
                "PATH": f"{folder_with(tmp_path / 'bin', installer)}:{sys.base_prefix}/bin:/usr/bin:/bin",
                "HOME": str(tmp_path),
                "PIP_CONFIG_FILE": os.devnull,
                "TRTLLM_INDEX": nvidia_url,
                "TORCH_INDEX": pytorch_url,
            },
            capture_output=True,
            text=True,
        )
    assert done.returncode == 0, done.stdout + done.stderr
    assert ("there is no uv" in done.stdout) == (installer == "pip")
    tell = "import beside, needed, ours, tensorrt_llm, torch, torchvision; "
    tell += "print(*(each.origin for each in (beside, needed, ours, tensorrt_llm, torch, torchvision)))"
    origins = subprocess.check_output([release / "venv/bin/python", "-c", tell], text=True).split()
    assert origins == ["usual", "usual", "here", "nvidia", "pytorch", "pytorch"]


def folder_with(folder: Path, installer: str) -> Path:
    folder.mkdir()
    if installer == "uv":
        (folder / "uv").symlink_to(Path(sys.executable).with_name("uv"))
    return folder


def test_no_step_asks_two_indexes() -> None:
    places = ["autodl", "deploy", "docker", "scripts", "src", "Makefile"]
    found = subprocess.run(["git", "grep", "-iE", "extra.index", *places], cwd=ROOT, capture_output=True, text=True)
    assert found.stdout == ""
