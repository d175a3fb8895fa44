"""How CosyVoice2 runs on a machine: device, number type, and how much at once."""

from dataclasses import dataclass

import torch

from cosyserve import errors
from cosyserve.cosyvoice2.config import TOKENS_PER_SECOND
from cosyserve.errors import CosyError
from cosyserve.settings import Settings

# On a processor, streams share its cores: more at once would make all late, and each takes gigabytes.
_STREAMS_ON_CPU = 2
_VOICES_ON_CPU, _VOICES_ON_GPU = 1, 4


@dataclass(frozen=True)
class Way:
    """What the settings come to here."""

    device: str
    dtype: torch.dtype
    threads: int
    streams: int  # spoken at the same time; more wait
    keep_tokens: int | None  # how far back the flow sees, see `Past`
    voices: int  # whose recordings are kept as they are after the flow, some hundred megabytes each
    trim_silence: bool = False

    def __str__(self) -> str:
        return str(self.dtype).removeprefix("torch.")


def way_of(settings: Settings, threads: int) -> Way:
    """Raises `CS-GPU-101` where a CUDA device is asked for and there is none."""
    cuda = torch.cuda.is_available()
    if settings.device == "cuda" and not cuda:
        raise CosyError(errors.NO_CUDA)
    on_gpu = cuda if settings.device == "auto" else settings.device == "cuda"
    dtype = ("bfloat16" if on_gpu else "float32") if settings.dtype == "auto" else settings.dtype
    return Way(
        device="cuda" if on_gpu else "cpu",
        dtype=getattr(torch, dtype),
        threads=threads,
        streams=settings.max_streams if on_gpu else min(settings.max_streams, _STREAMS_ON_CPU),
        keep_tokens=round(settings.past_seconds * TOKENS_PER_SECOND) or None,
        voices=_VOICES_ON_GPU if on_gpu else _VOICES_ON_CPU,
        trim_silence=settings.trim_silence,
    )
