"""The number type that is fast on a machine: what COSYSERVE_DTYPE=auto comes to, and why.

Whether bfloat16 is faster on a processor cannot be told from its instructions: with AVX-512's it was faster on some and
slower on others. So it is timed once, and what was found is kept: with another type a seed would speak differently.
"""

import json
import logging
from dataclasses import asdict
from pathlib import Path

import torch
from pydantic import TypeAdapter, ValidationError

from cosyserve.cosyvoice.model.rounding import Comparison, compare
from cosyserve.files import write_atomically
from cosyserve.host.report import Text

log = logging.getLogger(__name__)

_CPUINFO = Path("/proc/cpuinfo")
_BFLOAT16 = frozenset(("avx512_bf16", "amx_bf16", "bf16"))  # the last one is ARM's
_FILE = "number-type.json"
_WORTH_IT = 0.95  # of float32's time: what is no faster than that is not worth the rounding


def processor_has_bfloat16() -> bool:
    """Whether it multiplies in bfloat16; one that has to convert is no faster for it."""
    return not _BFLOAT16.isdisjoint(_described("flags", "Features").split())


def fast(device: str, state: Path) -> tuple[torch.dtype, Text]:
    """The type, and a sentence that says why. On a processor it may take two seconds, the first time."""
    if device != "cpu":
        return torch.bfloat16, Text("bfloat16 is what auto takes on a CUDA device.", "CUDA 设备上 auto 使用 bfloat16。")
    if not processor_has_bfloat16():
        return torch.float32, Text(
            "It is float32, because this processor does not multiply in bfloat16.",
            "该处理器不支持 bfloat16 乘法，因此使用 float32。",
        )
    found = _compared(state.expanduser() / _FILE)
    taken = torch.bfloat16 if max(found.token, found.flow) <= _WORTH_IT else torch.float32
    name = str(taken).removeprefix("torch.")
    return taken, Text(
        f"It is {name}, because bfloat16 takes {found.token:.2f} of float32's time for a token on this processor, and "
        f"{found.flow:.2f} for the flow.",
        f"在该处理器上，bfloat16 生成一个 token 的耗时是 float32 的 {found.token:.2f} 倍，flow 是 {found.flow:.2f} 倍，"
        f"因此使用 {name}。",
    )


def _compared(file: Path) -> Comparison:
    """What was found on this processor, now or by an earlier start."""
    key = {
        "processor": _described("model name"),
        "instructions": _described("flags", "Features"),
        "torch": torch.__version__,
    }
    try:
        kept = json.loads(file.read_bytes())
        if kept["key"] == key:
            return TypeAdapter(Comparison).validate_python(kept["found"])
    except (OSError, ValueError, KeyError, TypeError, ValidationError):
        pass  # not there yet, or damaged: it is timed again
    found = compare()
    try:
        write_atomically(file, json.dumps({"key": key, "found": asdict(found)}))
    except OSError as error:  # it costs the next start a second
        log.warning("How fast the processor is in bfloat16 could not be kept in %s: %s", file, error)
    return found


def _described(*names: str) -> str:
    """What the kernel says of the first processor under one of these names; ARM has its own."""
    try:
        lines = _CPUINFO.read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return ""
    fields = (line.partition(":") for line in lines)
    return next((value.strip() for name, _, value in fields if name.strip() in names), "")
