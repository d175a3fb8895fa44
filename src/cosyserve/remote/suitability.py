"""Whether an instance can be used at all, and which flavour fits it. Pure."""

from cosyserve import errors
from cosyserve.errors import CosyError
from cosyserve.host.report import Text
from cosyserve.remote.bundle import Flavour
from cosyserve.remote.survey import Instance

_CLOCK_SECONDS = 86_400  # certificates are seldom so new or so old that a day matters
_AMPERE = 8.0  # TensorRT-LLM's oldest
_MODEL_MIB = 8 * 1024  # memory below which a machine without a card is AutoDL's no-GPU mode


def refuse(instance: Instance, folder: str, now: float) -> None:
    """Raise if the instance cannot be used as it is, before anything has been changed on it."""
    if instance.machine != "Linux x86_64":
        raise CosyError(errors.UNSUITABLE, reason=f"it is {instance.machine}")
    if not instance.root_user:
        raise CosyError(errors.UNSUITABLE, reason="the login is not root's")
    if instance.lacks:
        raise CosyError(errors.UNSUITABLE, reason=f"it lacks {', '.join(instance.lacks)}")
    if instance.free_mib is None:
        raise CosyError(errors.NO_DATA_DISK, folder=folder.rpartition("/")[0])
    if abs(instance.clock - now) > _CLOCK_SECONDS:
        raise CosyError(errors.CLOCK_OFF, difference=f"{abs(instance.clock - now) / 86_400:.0f} d")


def choose_flavour(instance: Instance) -> tuple[Flavour, Text]:
    """The flavour that fits, in the terms of docs/docker.md, and why."""
    if not instance.cards:
        return _without_card(instance)
    card, cuda = instance.cards[0], instance.cuda_major or 0
    if card.capability is not None and card.capability < _AMPERE:
        return "slim", Text(
            f"{card.name} is too old for TensorRT-LLM: PyTorch", f"{card.name} 不受 TensorRT-LLM 支持：使用 PyTorch"
        )
    if cuda < 12:
        return "slim", Text(
            f"{card.name}, whose driver is too old for TensorRT-LLM: PyTorch", f"{card.name}，驱动过旧：使用 PyTorch"
        )
    why = Text(f"{card.name}, driver for CUDA {instance.cuda}", f"{card.name}，驱动支持 CUDA {instance.cuda}")
    return ("cuda13" if cuda >= 13 else "cuda12"), why


def _without_card(instance: Instance) -> tuple[Flavour, Text]:
    if instance.memory_mib >= _MODEL_MIB:
        return "preview", Text(
            "no card (--flavour slim would have CosyVoice on the processor)",
            "无显卡（--flavour slim 可在 CPU 上运行 CosyVoice）",
        )
    return "cuda12", Text(
        "no card and little memory, as in AutoDL's no-GPU mode: installed for the next boot with a card (CUDA 12)",
        "无显卡且内存较小（AutoDL 无卡模式）：为下次有卡开机安装（CUDA 12）",
    )
