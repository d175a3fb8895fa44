"""How CosyVoice2 runs on a machine: device, number type, and how much at once."""

import os
from dataclasses import dataclass
from pathlib import Path

import torch

from cosyserve import errors
from cosyserve.cosyvoice2.config import CHUNK_TOKENS, TOKENS_PER_SECOND
from cosyserve.errors import CosyError
from cosyserve.host.report import NOTHING, Text
from cosyserve.launch.beat import GPU_SHARE
from cosyserve.settings import Settings
from cosyserve.speech.capacity import Bound, by_processor, by_setting

# On a processor, streams share its cores: more at once would make all late, and each takes gigabytes.
_STREAMS_ON_CPU = 2
_CPUINFO = Path("/proc/cpuinfo")
_BFLOAT16 = frozenset(("avx512_bf16", "amx_bf16", "bf16"))  # instructions for it, the last one ARM's
# Those that make it faster than float32. With AVX-512's alone it is slower (docs/model.md); ARM's were not measured.
_FAST_BFLOAT16 = frozenset(("amx_bf16",))


@dataclass(frozen=True)
class Way:
    """What the settings come to here."""

    device: str
    dtype: torch.dtype
    int8: bool  # the language model's weights in eight bits, whatever the type of all else is
    threads: int
    bound: Bound  # of the streams that are spoken at the same time; more wait
    keep_tokens: int | None  # how far back the flow sees, see `Past`
    trim_silence: bool = False
    whole_attention: bool = True  # for what nobody listens to before its end
    gpu_share: float = 1.0  # of the card's memory
    recording_tokens: int | None = None  # of `keep_tokens`, how many may be a recording's
    why: Text = NOTHING  # it has that number type

    def __str__(self) -> str:
        name = str(self.dtype).removeprefix("torch.")
        return f"{name} + int8" if self.int8 else name


def processor_has_bfloat16() -> bool:
    """Whether it multiplies in bfloat16 at all; one that has to convert is not worth measuring."""
    return not _BFLOAT16.isdisjoint(_instructions())


def fast_dtype(device: str) -> tuple[torch.dtype, Text]:
    """The number type that is fast there, and why: what COSYSERVE_DTYPE=auto comes to."""
    if device != "cpu":
        return torch.bfloat16, Text("bfloat16 is for CUDA devices the default.", "CUDA 设备默认使用 bfloat16。")
    if _FAST_BFLOAT16.isdisjoint(_instructions()):
        return torch.float32, Text(
            "It is float32 as this processor has no AMX, without which bfloat16 is no faster.",
            "该处理器没有 AMX，bfloat16 不会更快，因此使用 float32。",
        )
    return torch.bfloat16, Text(
        "It is bfloat16 as this processor has AMX, which makes it fast.",
        "该处理器具有 AMX，bfloat16 更快，因此使用 bfloat16。",
    )


def _instructions() -> frozenset[str]:
    """What the processor says it has, among other words."""
    try:
        return frozenset(_CPUINFO.read_text(encoding="ascii", errors="replace").split())
    except OSError:
        return frozenset()


def way_of(settings: Settings, threads: int) -> Way:
    """Raises `CS-GPU-101` where a CUDA device is asked for and there is none."""
    cuda = torch.cuda.is_available()
    if settings.device == "cuda" and not cuda:
        raise CosyError(errors.NO_CUDA)
    on_gpu = cuda if settings.device == "auto" else settings.device == "cuda"
    int8 = settings.dtype == "int8"
    if int8 and on_gpu:
        raise CosyError(errors.INT8_ON_GPU)
    device = "cuda" if on_gpu else "cpu"
    dtype, why = fast_dtype(device)
    if settings.dtype not in ("auto", "int8"):
        dtype = getattr(torch, settings.dtype)
        why = Text("COSYSERVE_DTYPE asks for that.", "由 COSYSERVE_DTYPE 指定。")
    return Way(
        device=device,
        dtype=dtype,
        why=why,
        int8=int8,
        threads=threads,
        bound=by_setting(settings.max_streams)
        if on_gpu or settings.max_streams <= _STREAMS_ON_CPU
        else by_processor(_STREAMS_ON_CPU),
        keep_tokens=round(settings.past_seconds * TOKENS_PER_SECOND) or None,
        recording_tokens=_recording_tokens(settings),
        trim_silence=settings.trim_silence,
        whole_attention=settings.whole_attention,
        gpu_share=float(os.environ.get(GPU_SHARE, 1)),
    )


def _recording_tokens(settings: Settings) -> int | None:
    """Where the past is bounded, two chunks of it are left for what is spoken."""
    if not settings.past_seconds:
        return None
    tokens = min(settings.recording_seconds, settings.past_seconds) * TOKENS_PER_SECOND
    return max(2 * CHUNK_TOKENS, round(min(tokens, settings.past_seconds * TOKENS_PER_SECOND - 2 * CHUNK_TOKENS)))
