"""The kernels that a server would use here."""

from typing import TYPE_CHECKING

import torch

from cosyserve.cosyvoice.model.config import Config, Sizes
from cosyserve.settings import load_settings
from cosyserve.speech.kernel_choice import choose

if TYPE_CHECKING:
    from cosyserve.cosyvoice.kernels.kernels import Kernels


def kernels_here(dtype: torch.dtype, config: Sizes | None = None) -> "Kernels | None":
    """None where these are PyTorch's."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    return choose(device, dtype, config or Config(), load_settings().state_dir).kernels
