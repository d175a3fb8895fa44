"""Which kernels the model computes with, and why: Triton's where card and machine have what they need, else PyTorch's.

Nobody sets that. Triton is imported where a card can use it, and only then; torch by the process of the model alone, so
that who reports needs neither.
"""

import atexit
import logging
import os
import shutil
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from cosyserve.cosyvoice.model.config import Sizes
from cosyserve.host import gpu
from cosyserve.host.gpu import Card
from cosyserve.host.kernels import PROCESSOR, Lack, Reason, but_for, key, lack, untested, without_triton
from cosyserve.host.report import NOTHING, Text
from cosyserve.machine import Machine
from cosyserve.store.kernel_tests import Trial, trial
from cosyserve.store.kernels import folder_of, open_folder

if TYPE_CHECKING:
    import torch

    from cosyserve.cosyvoice.kernels.kernels import Kernels

log = logging.getLogger(__name__)

_CACHE = "TRITON_CACHE_DIR"  # Triton's own; whoever has set it keeps it

_TESTED = Text("Triton's, compiled for this card and tested on it", "使用 Triton 内核，已针对此显卡编译并通过自检")


@dataclass(frozen=True)
class KernelsInUse:
    """What is told of them. `replaced` are those of Triton's whose place PyTorch takes, each with the reason."""

    by: Literal["triton", "torch"]
    reason: Reason
    why: str
    why_zh: str
    replaced: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class KernelChoice:
    kernels: "Kernels | None"
    """None where PyTorch's speak."""
    in_use: KernelsInUse


def choose(device: str, dtype: "torch.dtype", sizes: Sizes, state_dir: Path) -> KernelChoice:
    """Compile and test the kernels where they can be used, at the sizes of the model; what is compiled is kept for the
    next start. Raises `RuntimeError` where one of them has spoilt the card for this process: the next one leaves it."""
    if not device.startswith("cuda"):
        return _by_torch(PROCESSOR)
    chosen = _chosen(device, dtype, sizes, state_dir)
    log.info("%s", chosen.in_use.why)
    return chosen


def _chosen(device: str, dtype: "torch.dtype", sizes: Sizes, state_dir: Path) -> KernelChoice:
    import torch

    capability = float("{}.{}".format(*torch.cuda.get_device_capability(device)))
    lacks = lack(Machine(), capability, str(dtype).removeprefix("torch."))
    if lacks is not None:
        return _by_torch(lacks)
    card = gpu.first_card(Machine()) or Card(torch.cuda.get_device_name(device), "unknown", capability, None, None)
    with trial(_kept_in(state_dir, card)) as under_way:
        lacks = _lack_of_triton()
        if lacks is not None:
            under_way.ends(lacks.cause.en, {})
            return _by_torch(lacks)
        return _tested(sizes, torch.empty(0, dtype=dtype, device=device), under_way)


def _lack_of_triton() -> Lack | None:
    try:
        import triton  # noqa: F401
    except Exception as problem:  # of a build for another PyTorch it may be anything
        return without_triton(_said(problem))
    return None


def _kept_in(state_dir: Path, card: Card) -> Path | None:
    """Have Triton keep what it compiles in the state folder; None where that is not possible, and it is compiled at
    every start."""
    try:
        folder = folder_of(state_dir, key(card))
        open_folder(folder)
    except (OSError, RuntimeError) as problem:  # the second where there is no home
        log.warning("Compiled kernels cannot be kept in %s, so that every start compiles them: %s", state_dir, problem)
        _keep_until_the_end()
        return None
    os.environ.setdefault(_CACHE, str(folder.absolute()))
    return folder


def _keep_until_the_end() -> None:
    if _CACHE in os.environ:
        return
    with suppress(OSError):  # there is no room anywhere, and nothing is compiled
        os.environ[_CACHE] = tempfile.mkdtemp(prefix="cosyserve-kernels-")
        atexit.register(shutil.rmtree, os.environ[_CACHE], ignore_errors=True)


def _tested(sizes: Sizes, like: "torch.Tensor", under_way: Trial) -> KernelChoice:
    """Those that passed. Where there is none, PyTorch's own path is faster than the references of all are."""
    import torch

    try:
        from cosyserve.cosyvoice.kernels.self_test import self_tested

        kernels, replaced = self_tested(sizes, like, under_way.broken, under_way.begins)
    except Exception as problem:  # speech goes on by PyTorch
        log.warning("Triton's kernels could not be tested", exc_info=True)
        kernels, replaced = None, {under_way.trying: _said(problem)}
    try:
        torch.cuda.synchronize()
    except RuntimeError:  # an error that stays, for all that this process asks of the card
        known = under_way.broken
        under_way.blame(next((name for name in replaced if name not in known), under_way.trying))
        raise
    torch.cuda.empty_cache()  # what the test took is room for streams
    if kernels is None or len(replaced) == len(fields(kernels)):
        first = next(iter(replaced.values()))
        under_way.ends(first, {})
        return _by_torch(untested(first))
    under_way.ends("", replaced)
    return _by_triton(kernels, replaced)


def _by_torch(lacks: Lack) -> KernelChoice:
    why, why_zh = f"Its kernels are PyTorch's, because {lacks.cause.en}.", f"使用 PyTorch 内核：{lacks.cause.zh}。"
    if lacks.remedy is not NOTHING:
        why, why_zh = f"{why} To change that: {lacks.remedy.en}.", f"{why_zh}如需 Triton 内核：{lacks.remedy.zh}。"
    return KernelChoice(None, KernelsInUse("torch", lacks.reason, why, why_zh))


def _by_triton(kernels: "Kernels", replaced: Mapping[str, str]) -> KernelChoice:
    told = but_for(replaced) if replaced else _TESTED
    in_use = KernelsInUse("triton", "available", f"Its kernels are {told.en}.", f"{told.zh}。", replaced)
    return KernelChoice(kernels, in_use)


def _said(problem: Exception) -> str:
    return (str(problem).strip().splitlines() or [type(problem).__name__])[0][:160]
