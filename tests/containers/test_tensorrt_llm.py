"""The image's installation of PyTorch and TensorRT-LLM, with stand-ins for both in indexes on this machine.

Slow: what stands beside them, half a gigabyte, is installed for real.
"""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.containers.conftest import build
from tests.instance.test_install import index, wheel
from tests.setup.test_tensorrt_llm import ASKS, WANTED, pytorch

pytestmark = pytest.mark.containers

_ASKS = ("torch", "torchvision", "numpy<2")  # of what it asks for, what the usual index need not be asked


@pytest.fixture(scope="module")
def options(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, list[str]]]:
    """For each flavour how the image is built from the stand-ins."""
    root = tmp_path_factory.mktemp("indexes")
    with ExitStack() as running:
        made = {}
        for flavour, (version, _) in ASKS.items():
            build_of_torch, cuda = WANTED[flavour]
            pytorch(root / cuda, build_of_torch, cuda)
            wheel(root / "nvidia", "tensorrt-llm", version, "nvidia", *_ASKS)
            torch_index = running.enter_context(index(root / cuda))
            made[flavour] = ["--build-arg", f"TORCH_INDEX={torch_index}"]
        nvidia = running.enter_context(index(root / "nvidia"))
        yield {flavour: [*each, "--build-arg", f"TRTLLM_INDEX={nvidia}"] for flavour, each in made.items()}


@pytest.mark.parametrize("flavour", ["cuda12", "cuda13"])
def test_the_image_holds_the_right_build(flavour: str, options: dict[str, list[str]]) -> None:
    """Slow: an image is built as far as its packages."""
    build(flavour, *options[flavour], target=f"packages-{flavour}")


def test_a_build_for_another_cuda_ends_the_image(options: dict[str, list[str]], tmp_path: Path) -> None:
    pytorch(tmp_path / "wrong", "2.7.1", "12.6")
    with index(tmp_path / "wrong") as wrong, pytest.raises(AssertionError, match=r"PyTorch is built for CUDA 12\.6"):
        build("cuda12", *options["cuda12"], "--build-arg", f"TORCH_INDEX={wrong}", target="packages-cuda12")
