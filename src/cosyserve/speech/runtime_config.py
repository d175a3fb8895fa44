"""How CosyVoice runs on a machine: device, number type, and how much at once."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from cosyserve import errors
from cosyserve.cosyvoice.model.config import CHUNK_TOKENS, TOKENS_PER_SECOND, FlowConfig
from cosyserve.errors import CosyError
from cosyserve.host.report import NOTHING, Text
from cosyserve.launch.heartbeat import GPU_SHARE
from cosyserve.settings import Settings
from cosyserve.speech import number_type
from cosyserve.speech.capacity import Bound, by_processor, by_setting

# On a processor, streams share its cores: more at once would make all late, and each takes gigabytes.
_STREAMS_ON_CPU = 2


@dataclass(frozen=True)
class RuntimeConfig:
    """What the settings come to here."""

    device: str
    dtype: torch.dtype
    int8: bool  # the language model's weights in eight bits, whatever the type of all else is
    threads: int
    bound: Bound  # of the streams that are spoken at the same time; more wait
    state_dir: Path  # where compiled kernels are kept
    keep_tokens: int | None  # how far back the flow sees, see `Past`
    flow_steps: int = FlowConfig.steps
    trim_silence: bool = False
    whole_attention: bool = True  # for what nobody listens to before its end
    gpu_share: float = 1.0  # of the card's memory
    recording_tokens: int | None = None  # of `keep_tokens`, how many may be a recording's
    unload_to: Literal["memory", "disk"] = "memory"  # where the weights are while nobody speaks
    wake_seconds: float = 60  # that who wakes it waits at most
    why: Text = NOTHING  # it has that number type

    def __str__(self) -> str:
        name = str(self.dtype).removeprefix("torch.")
        return f"{name} + int8" if self.int8 else name


def config_for(settings: Settings, threads: int) -> RuntimeConfig:
    """Raises `CS-GPU-101` where a CUDA device is asked for and there is none."""
    cuda = torch.cuda.is_available()
    if settings.device == "cuda" and not cuda:
        raise CosyError(errors.NO_CUDA)
    on_gpu = cuda if settings.device == "auto" else settings.device == "cuda"
    int8 = settings.dtype == "int8"
    if int8 and on_gpu:
        raise CosyError(errors.INT8_ON_GPU)
    device = "cuda" if on_gpu else "cpu"
    if settings.dtype in ("auto", "int8"):
        dtype, why = number_type.fast(device, settings.state_dir)
    else:
        dtype = getattr(torch, settings.dtype)
        why = Text("COSYSERVE_DTYPE asks for that.", "由 COSYSERVE_DTYPE 指定。")
    return RuntimeConfig(
        device=device,
        dtype=dtype,
        why=why,
        int8=int8,
        threads=threads,
        bound=by_setting(settings.max_streams)
        if on_gpu or settings.max_streams <= _STREAMS_ON_CPU
        else by_processor(_STREAMS_ON_CPU),
        state_dir=settings.state_dir,
        keep_tokens=round(settings.past_seconds * TOKENS_PER_SECOND) or None,
        flow_steps=settings.flow_steps,
        recording_tokens=_recording_tokens(settings),
        trim_silence=settings.trim_silence,
        whole_attention=settings.whole_attention,
        unload_to=settings.unload_to,
        wake_seconds=settings.wake_seconds,
        gpu_share=float(os.environ.get(GPU_SHARE, 1)),
    )


def _recording_tokens(settings: Settings) -> int | None:
    """Where the past is bounded, two chunks of it are left for what is spoken."""
    if not settings.past_seconds:
        return None
    tokens = min(settings.recording_seconds, settings.past_seconds) * TOKENS_PER_SECOND
    return max(2 * CHUNK_TOKENS, round(min(tokens, settings.past_seconds * TOKENS_PER_SECOND - 2 * CHUNK_TOKENS)))
