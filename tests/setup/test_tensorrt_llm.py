"""The real scripts/setup-tensorrt-llm with stand-in indexes: PyTorch's for two CUDAs, NVIDIA's, and the usual one.

The wheels are empty, their names and what they ask for are the real ones' as far as it was read.
"""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.instance.test_install import index, wheel
from tests.running import ROOT

pytestmark = pytest.mark.slow  # it makes environments

SCRIPT = ROOT / "scripts/setup-tensorrt-llm"
# What each version asks for, and what of it the usual index has, as a name and a version.
ASKS = {
    "cuda12": (
        "1.0.0",
        ["torch<=2.8.0a0,>=2.7.1", "torchvision", "tensorrt~=10.11.0", "transformers==4.53.1", "cuda-python<13,>=12"]
        + ["fastapi==0.115.4", "triton==3.3.1", "numpy<2", "openai", "mpi4py", "datasets==3.1.0"],
    ),
    "cuda13": (
        "1.2.1",
        ["torch<=2.10.0a0,>=2.9.1", "torchvision", "tensorrt~=10.14.1", "transformers==4.57.3", "cuda-python>=13"]
        + ["fastapi<=0.121.3,>=0.120.1", "starlette>=0.49.1", "flashinfer-python==0.6.4", "protobuf>=6.33.5"]
        + ["nvidia-nccl-cu13", "numpy<2", "openai", "mpi4py", "datasets==3.1.0"],
    ),
}
USUAL = [
    *[("transformers", "4.53.1"), ("transformers", "4.57.3"), ("transformers", "5.5.4"), ("tensorrt", "10.11.0.33")],
    *[("tensorrt", "10.14.1.48"), ("cuda-python", "12.9.0"), ("cuda-python", "13.0.1"), ("fastapi", "0.115.4")],
    *[("fastapi", "0.121.3"), ("starlette", "0.49.3"), ("flashinfer-python", "0.6.4"), ("protobuf", "6.33.5")],
    *[
        ("nvidia-nccl-cu13", "2.27.7"),
        ("numpy", "1.26.4"),
        ("numpy", "2.4.0"),
        ("openai", "2.0.0"),
        ("mpi4py", "4.1.1"),
    ],
    *[("triton", "3.3.1"), ("triton", "3.5.1"), ("datasets", "3.1.0"), ("fsspec", "2024.9.0"), ("fsspec", "2026.9.0")],
    *[
        ("nvidia-cuda-runtime-cu12", "12.8.57"),
        ("nvidia-cuda-runtime", "13.0.48"),
        ("nvidia-cuda-runtime-cu12", "12.6.77"),
    ],
]
VISION = {"2.7.1": "0.22.1", "2.9.1": "0.24.1"}
WANTED = {"cuda12": ("2.7.1+cu128", "12.8"), "cuda13": ("2.9.1+cu130", "13.0")}


def pytorch(folder: Path, version: str, cuda: str, *requires: str) -> None:
    """PyTorch and torchvision of one build."""
    number, _, build = version.partition("+")
    told = {"torch/__init__.py": "from torch import version\n", "torch/version.py": f"cuda: str = {cuda!r}\n"}
    wheel(folder, "torch", version, "pytorch", *requires, files=told)
    vision = VISION[number] + (f"+{build}" if build else "")
    wheel(folder, "torchvision", vision, "pytorch", f"torch=={number}")


@dataclass(frozen=True)
class Indexes:
    usual: str
    nvidia: str
    cu128: str
    cu130: str


@pytest.fixture(scope="module")
def indexes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Indexes]:
    root = tmp_path_factory.mktemp("indexes")
    for name, version in USUAL:
        requires = {"datasets": ["fsspec<=2024.9.0"], "fastapi": ["starlette"]}.get(name, [])
        wheel(root / "usual", name, version, "usual", *requires)
    wheel(root / "usual", "starlette", "0.41.3", "usual")
    # The usual index has PyTorch too, under the same versions and for other CUDAs, and newer ones.
    pytorch(root / "usual", "2.7.1", "12.6", "nvidia-cuda-runtime-cu12==12.6.77", "triton==3.3.1")
    pytorch(root / "usual", "2.9.1", "12.8", "nvidia-cuda-runtime-cu12==12.8.57", "triton==3.5.1")
    wheel(root / "usual", "torchvision", "0.30.0", "usual", "torch==2.12.0")
    wheel(root / "usual", "torch", "2.12.0", "usual")
    pytorch(root / "cu128", "2.7.1+cu128", "12.8", "nvidia-cuda-runtime-cu12==12.8.57", "triton==3.3.1")
    pytorch(root / "cu128", "2.9.1+cu128", "12.8", "nvidia-cuda-runtime-cu12==12.8.57", "triton==3.5.1")
    pytorch(root / "cu130", "2.9.1+cu130", "13.0", "nvidia-cuda-runtime==13.0.48", "triton==3.5.1")
    for name in ("cu128", "cu130"):
        wheel(root / name, "numpy", "99.0", "pytorch")
    for flavour in ASKS:
        version, asks = ASKS[flavour]
        wheel(root / "nvidia", "tensorrt-llm", version, "nvidia", *asks)
    wheel(root / "nvidia", "torch", "2.9.9", "nvidia")
    with ExitStack() as running:
        yield Indexes(*(running.enter_context(index(root / name)) for name in ("usual", "nvidia", "cu128", "cu130")))


def set_up(
    environment: Path, flavour: str, installer: str, indexes: Indexes, torch_index: str
) -> "subprocess.CompletedProcess[str]":
    """The script, in an environment of its own, with what the image or an instance installs by."""
    uv = str(Path(sys.executable).with_name("uv"))
    subprocess.run([uv, "venv", "--quiet", "--seed", "--python", sys.executable, environment], check=True)
    python = environment / "bin/python"
    install = [uv, "pip", "install", "--python"] if installer == "uv" else []
    install += [str(python)] if installer == "uv" else [str(python), "-m", "pip", "install"]
    return subprocess.run(
        [SCRIPT, flavour, python, *install],
        env={
            "PATH": os.environ["PATH"],
            "HOME": str(environment),
            "PIP_CONFIG_FILE": os.devnull,
            "PIP_DISABLE_PIP_VERSION_CHECK": "1",
            "PIP_INDEX_URL": indexes.usual,
            "UV_DEFAULT_INDEX": indexes.usual,
            "UV_CACHE_DIR": str(environment / "cache"),
            "PIP_NO_CACHE_DIR": "1",
            "TORCH_INDEX": torch_index,
            "TRTLLM_INDEX": indexes.nvidia,
        },
        capture_output=True,
        text=True,
    )


@pytest.mark.parametrize("installer", ["uv", "pip"])
@pytest.mark.parametrize("flavour", ["cuda12", "cuda13"])
def test_the_right_build_survives_the_rest(tmp_path: Path, indexes: Indexes, flavour: str, installer: str) -> None:
    torch_index = {"cuda12": indexes.cu128, "cuda13": indexes.cu130}[flavour]
    done = set_up(tmp_path / "venv", flavour, installer, indexes, torch_index)
    assert done.returncode == 0, done.stdout + done.stderr
    tell = (
        "from importlib.metadata import version as v; import torch.version, numpy, tensorrt_llm as t; "
        "print(v('torch'), torch.version.cuda, v('torchvision'), v('numpy'), t.origin, v('fsspec'), v('tensorrt-llm'))"
    )
    said = subprocess.check_output([tmp_path / "venv/bin/python", "-c", tell], text=True).split()
    version, cuda = WANTED[flavour]
    number, build = version.split("+")
    vision = f"{VISION[number]}+{build}"
    assert said == [version, cuda, vision, "1.26.4", "nvidia", "2024.9.0", ASKS[flavour][0]]


@pytest.mark.parametrize("flavour", ["cuda12", "cuda13"])
def test_a_build_for_another_cuda_ends_it(tmp_path: Path, indexes: Indexes, flavour: str) -> None:
    """What a mirror of the usual index gives: the same version, for another CUDA."""
    done = set_up(tmp_path / "venv", flavour, "uv", indexes, indexes.usual)
    assert done.returncode == 1
    other = {"cuda12": "12.6", "cuda13": "12.8"}[flavour]
    assert f"PyTorch is built for CUDA {other}" in done.stderr
    assert "TORCH_INDEX=URL" in done.stderr
    assert "请用 TORCH_INDEX=地址" in done.stderr
    assert not list((tmp_path / "venv/lib").glob("*/site-packages/tensorrt_llm*"))


def test_a_rest_that_replaces_the_right_build_ends_it(tmp_path: Path, indexes: Indexes) -> None:
    """Whatever comes after it: the last look is at what is there in the end."""
    environment, uv = tmp_path / "venv", Path(sys.executable).with_name("uv")
    other = tmp_path / "installer"
    spoils = f'echo "cuda = None" >"$(ls -d {environment}/lib/*/site-packages/torch)/version.py"'
    other.write_text(
        f'#!/bin/sh\n{uv} pip install --python {environment}/bin/python "$@" || exit\n'
        f'case "$*" in *--constraint*) {spoils} ;; esac\n'
    )
    other.chmod(0o755)
    subprocess.run([uv, "venv", "--quiet", "--python", sys.executable, environment], check=True)
    done = subprocess.run(
        [SCRIPT, "cuda13", environment / "bin/python", other],
        env={
            "PATH": os.environ["PATH"],
            "HOME": str(tmp_path),
            "UV_DEFAULT_INDEX": indexes.usual,
            "UV_CACHE_DIR": str(tmp_path / "cache"),
            "TORCH_INDEX": indexes.cu130,
            "TRTLLM_INDEX": indexes.nvidia,
        },
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert "PyTorch is built for CUDA None" in done.stderr


def test_what_it_holds_to_is_what_the_check_looks_for() -> None:
    """`cosyserve engines check` and the script name the same builds, and the image's files the same versions."""
    from cosyserve.assets.engine_key import PYTORCH

    script, dockerfile = SCRIPT.read_text(), (ROOT / "docker/Dockerfile").read_text()
    for flavour, (version, _) in ASKS.items():
        torch, cuda = PYTORCH[tuple(map(int, version.split(".")[:2]))]  # type: ignore[index]
        assert f"{flavour}) tensorrt_llm={version} torch={torch} " in script
        assert f"cuda={cuda} ;;" in script
        assert f"setup-tensorrt-llm {flavour} python pip install" in dockerfile
