"""Reads the released files: `llm.pt`, `flow.pt`, `hift.pt`. Nothing in them is ever executed.

Each file is mapped, not read; a model takes its tensors as they lie there, or casts them once, one at a time.
"""

import ctypes
import hashlib
import mmap
import pickle
from pathlib import Path
from typing import TypeVar

import torch
from pydantic import TypeAdapter, ValidationError
from torch import Tensor, nn
from torch.nn.utils import parametrize

from cosyserve.cosyvoice.model.config import Config
from cosyserve.cosyvoice.model.flow import Flow
from cosyserve.cosyvoice.model.hift import Hift
from cosyserve.cosyvoice.model.qwen2 import Llm

_SIZES = "sizes.json"
FILES = {"llm": "llm.pt", "flow": "flow.pt", "hift": "hift.pt"}

M = TypeVar("M", bound=nn.Module)


class WeightsError(ValueError):
    """A file is missing, damaged, or not of this model. Says which file and what is wrong with it."""


def load_config(folder: Path) -> Config:
    """The released sizes, unless the folder has a `sizes.json` with those of a model of another size."""
    file = folder / _SIZES
    try:
        return TypeAdapter(Config).validate_json(file.read_bytes()) if file.exists() else Config()
    except (OSError, ValidationError) as error:
        raise WeightsError(f"{file} does not say the sizes of a model: {error}") from error


def load_llm(folder: Path, config: Config, dtype: torch.dtype = torch.float32, device: str = "cpu") -> Llm:
    with torch.device("meta"):
        llm = Llm(config.llm)
    llm = _filled(llm, folder / FILES["llm"], dtype, device)
    llm.tie()
    return llm


def load_flow(folder: Path, config: Config, dtype: torch.dtype = torch.float32, device: str = "cpu") -> Flow:
    with torch.device("meta"):
        flow = Flow(config.flow)
    return _filled(flow, folder / FILES["flow"], dtype, device)


def load_hift(folder: Path, config: Config, device: str = "cpu") -> Hift:
    """Always in float32, its pitch in float64: phases are sums, and a vocoder is small. Weight norm is worked out
    once."""
    with torch.device("meta"):
        hift = Hift(config.hift)
    hift = _filled(hift, folder / FILES["hift"], torch.float32, device)
    fold_weight_norm(hift)
    hift.f0_predictor.double()
    return hift


def fold_weight_norm(module: nn.Module) -> None:
    """Work out once what weight norm makes of the weights."""
    for each in list(module.modules()):
        if parametrize.is_parametrized(each):
            parametrize.remove_parametrizations(each, "weight")


def _filled(module: M, path: Path, dtype: torch.dtype, device: str) -> M:
    state = read_table(path)
    check(module, state, path)
    cast: dict[tuple[int, torch.Size], Tensor] = {}  # a tied tensor is cast once
    for key in module.state_dict():
        source = state.pop(key)
        place = (source.data_ptr(), source.shape)
        if place not in cast:
            cast[place] = source.to(device=device, dtype=dtype)
            if cast[place] is not source:
                forget(source)
        module.load_state_dict({key: cast[place]}, strict=False, assign=True)
    return module.to(device).requires_grad_(False).eval()


def forget(tensor: Tensor) -> None:
    """Give the memory of a tensor in a mapped file back at once: a whole file beside its cast would be too much.

    Nothing is lost, since the pages can be read again; those shared with a neighbour stay.
    """
    page = mmap.PAGESIZE
    begin = -(-tensor.data_ptr() // page) * page
    end = (tensor.data_ptr() + tensor.numel() * tensor.element_size()) // page * page
    if end > begin:
        ctypes.CDLL(None).madvise(ctypes.c_void_p(begin), ctypes.c_size_t(end - begin), mmap.MADV_DONTNEED)


def read_table(path: Path) -> dict[str, Tensor]:
    """The tensors of a released file, mapped; raises `WeightsError`."""
    if not path.is_file():
        raise WeightsError(f"{path} is missing")
    try:
        state = torch.load(path, map_location="cpu", mmap=True, weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, OSError, EOFError, ValueError) as error:
        what = "is damaged, cut short, or holds more than tensors; nothing of it was run"
        raise WeightsError(f"{path} {what} ({_size(path)})") from error
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise WeightsError(f"{path} is not a table of tensors")
    return state


def check(module: nn.Module, state: dict[str, Tensor], path: Path) -> None:
    """Raise at the first key that is missing, of another shape, or too many."""
    wanted = module.state_dict()
    for key, like in wanted.items():
        if key not in state:
            raise WeightsError(f"{path} has no '{key}' ({_size(path)}, sha256 {_digest(path)})")
        if state[key].shape != like.shape:
            found, expected = list(state[key].shape), list(like.shape)
            raise WeightsError(f"{path}: '{key}' is {found}, not {expected} ({_size(path)}, sha256 {_digest(path)})")
    for key in state:
        if key not in wanted:
            raise WeightsError(f"{path} has '{key}', which this model has not (sha256 {_digest(path)})")


def _size(path: Path) -> str:
    return f"{path.stat().st_size} bytes"


def _digest(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
