"""Reads the released files: `llm.pt`, `flow.pt`, `hift.pt`. Nothing in them is ever executed.

Each file is mapped, not read; a model takes its tensors as they lie there, or casts them once, one at a time.
"""

import ctypes
import hashlib
import mmap
import pickle
from pathlib import Path
from typing import TypeVar, overload

import torch
from pydantic import TypeAdapter, ValidationError
from torch import Tensor, nn
from torch.nn.utils import parametrize

from cosyserve.cosyvoice.model.causal_hift import CausalHift
from cosyserve.cosyvoice.model.config import Config, Config3, Sizes
from cosyserve.cosyvoice.model.flow import DitFlow, Flow
from cosyserve.cosyvoice.model.hift import Hift
from cosyserve.cosyvoice.model.qwen2 import Llm

_SIZES = "sizes.json"
FILES = {"llm": "llm.pt", "flow": "flow.pt", "hift": "hift.pt"}
_OF_COSYVOICE3 = ("cosyvoice3.yaml", "speech_tokenizer_v3.onnx")  # files that no other model's folder has

M = TypeVar("M", bound=nn.Module)
C = TypeVar("C", Config, Config3)


class WeightsError(ValueError):
    """A file is missing, damaged, or not of this model. Says which file and what is wrong with it."""


def load_config(folder: Path) -> Config:
    """CosyVoice2's released sizes, unless the folder has a `sizes.json` with those of a model of another size."""
    return _sizes(folder, Config)


def load_sizes(folder: Path) -> Sizes:
    """The same of the edition that the folder has."""
    return _sizes(folder, Config3) if is_cosyvoice3(folder) else _sizes(folder, Config)


def _sizes(folder: Path, kind: type[C]) -> C:
    file = folder / _SIZES
    try:
        return TypeAdapter(kind).validate_json(file.read_bytes()) if file.exists() else kind()
    except (OSError, ValidationError) as error:
        raise WeightsError(f"{file} does not say the sizes of a model: {error}") from error


def is_cosyvoice3(folder: Path) -> bool:
    """Whether the model in a folder is of that generation, by the files that are there."""
    return any((folder / name).exists() for name in _OF_COSYVOICE3)


def load_llm(folder: Path, config: Sizes, dtype: torch.dtype = torch.float32, device: str = "cpu") -> Llm:
    with torch.device("meta"):
        llm = Llm(config.llm)
    llm = _filled(llm, folder / FILES["llm"], dtype, device)
    llm.tie()
    return llm


@overload
def load_flow(folder: Path, config: Config, dtype: torch.dtype = ..., device: str = ...) -> Flow: ...
@overload
def load_flow(folder: Path, config: Config3, dtype: torch.dtype = ..., device: str = ...) -> DitFlow: ...
def load_flow(folder: Path, config: Sizes, dtype: torch.dtype = torch.float32, device: str = "cpu") -> Flow | DitFlow:
    with torch.device("meta"):
        flow = flow_of(config)
    return _filled(flow, folder / FILES["flow"], dtype, device)


@overload
def load_hift(folder: Path, config: Config, device: str = ...) -> Hift: ...
@overload
def load_hift(folder: Path, config: Config3, device: str = ...) -> CausalHift: ...
def load_hift(folder: Path, config: Sizes, device: str = "cpu") -> Hift | CausalHift:
    """Always in float32, its pitch in float64: phases are sums, and a vocoder is small. Weight norm is worked out
    once, by the processor, so that they are the same on every device."""
    with torch.device("meta"):
        hift = vocoder_of(config)
    hift = _filled(hift, folder / FILES["hift"], torch.float32, "cpu")
    hift.f0_predictor.double()  # before its weights are worked out, which would round them
    fold_weight_norm(hift)
    return hift.to(device)


def flow_of(config: Sizes) -> Flow | DitFlow:
    """The flow of a generation, without its weights."""
    return DitFlow(config.flow) if isinstance(config, Config3) else Flow(config.flow)


def vocoder_of(config: Sizes) -> Hift | CausalHift:
    """The vocoder of a generation, without its weights."""
    return CausalHift(config.hift, config.flow.speaker) if isinstance(config, Config3) else Hift(config.hift)


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
