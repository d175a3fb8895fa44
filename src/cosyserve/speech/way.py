"""How CosyVoice2 runs on a machine: device, number type, and how much at once."""

import os
from dataclasses import dataclass
from pathlib import Path

import torch

from cosyserve import errors
from cosyserve.cosyvoice2.config import CHUNK_TOKENS, TOKENS_PER_SECOND
from cosyserve.errors import CosyError
from cosyserve.launch.beat import GPU_SHARE
from cosyserve.settings import Settings
from cosyserve.speech.capacity import Bound, by_processor, by_setting

# On a processor, streams share its cores: more at once would make all late, and each takes gigabytes.
_STREAMS_ON_CPU = 2
_CPUINFO, _BFLOAT16_FLAGS = Path("/proc/cpuinfo"), frozenset(("avx512_bf16", "amx_bf16", "bf16"))  # bf16: on ARM


@dataclass(frozen=True)
class Way:
    """What the settings come to here."""

    device: str
    dtype: torch.dtype
    int8: bool  # the language model's weights in eight bits
    threads: int
    bound: Bound  # of the streams that are spoken at the same time; more wait
    keep_tokens: int | None  # how far back the flow sees, see `Past`
    trim_silence: bool = False
    whole_attention: bool = True  # for what nobody listens to before its end
    gpu_share: float = 1.0  # of the card's memory
    recording_tokens: int | None = None  # of `keep_tokens`, how many may be a recording's

    def __str__(self) -> str:
        return "int8" if self.int8 else str(self.dtype).removeprefix("torch.")


def processor_has_bfloat16() -> bool:
    """Whether it multiplies in bfloat16; one that has to convert is no faster for it."""
    try:
        flags = _CPUINFO.read_text(encoding="ascii", errors="replace").split()
    except OSError:
        return False
    return not _BFLOAT16_FLAGS.isdisjoint(flags)


def way_of(settings: Settings, threads: int) -> Way:
    """Raises `CS-GPU-101` where a CUDA device is asked for and there is none."""
    cuda = torch.cuda.is_available()
    if settings.device == "cuda" and not cuda:
        raise CosyError(errors.NO_CUDA)
    on_gpu = cuda if settings.device == "auto" else settings.device == "cuda"
    int8 = settings.dtype == "int8"
    if int8 and on_gpu:
        raise CosyError(errors.INT8_ON_GPU)
    dtype = settings.dtype
    if dtype in ("auto", "int8"):
        dtype = "bfloat16" if int8 or on_gpu or processor_has_bfloat16() else "float32"
    return Way(
        device="cuda" if on_gpu else "cpu",
        dtype=getattr(torch, dtype),
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
