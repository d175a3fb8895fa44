"""Opens an engine of TensorRT-LLM as the language model of CosyVoice2."""

from pathlib import Path

import torch
from safetensors.torch import load_file

from cosyserve import errors
from cosyserve.assets.engines import BIAS, Engine, Engines
from cosyserve.cosyvoice2.batching import EngineGenerator
from cosyserve.cosyvoice2.config import LlmConfig
from cosyserve.cosyvoice2.vocabulary import Vocabulary
from cosyserve.errors import CosyError
from cosyserve.speech.way import Way

_MOST = 0.9  # of the memory that is free: the cache of keys and values never gets more
_SPARE = 1.1  # blocks are whole, and the runtime has buffers of its own
_HALF = 2  # bytes of a number in bfloat16 or float16


def open_engine(folder: Path, way: Way, config: LlmConfig, text: int) -> EngineGenerator:
    """The engine of `folder`; `text` is the number of text ids. Raises `CS-ENGINE-002` where it cannot be loaded."""
    engines = Engines(folder.parent.parent)
    engine = engines.read(folder)
    try:
        if engine is None:
            raise FileNotFoundError(f"there is no whole engine in {folder}")
        generator = _opened(engine, way, config, text)
    except Exception as error:  # whatever TensorRT-LLM raises
        raise CosyError(errors.ENGINE_UNUSABLE, engine=folder, reason=" ".join(str(error).split())[:300]) from error
    engines.use(engine)
    return generator


def _opened(engine: Engine, way: Way, config: LlmConfig, text: int) -> EngineGenerator:
    from cosyserve.cosyvoice2.trtllm import TrtllmExecutor

    shape = engine.key.shape
    slots = min(way.streams, shape.max_batch)
    tokens = slots * shape.max_seq
    free = torch.cuda.mem_get_info()[0] if torch.cuda.is_available() else 0
    bias = load_file(engine.folder / BIAS)["bias"]
    executor = TrtllmExecutor(engine.folder, bias, slots, tokens, cache_fraction(tokens, config, free))
    return EngineGenerator(executor, Vocabulary(text), slots, shape.max_seq)


def cache_fraction(tokens: int, config: LlmConfig, free: int) -> float:
    """The share of `free` bytes that keys and values of `tokens` positions take: what is left is the flow's, whose
    streams need far more. Flow and vocoder are loaded before, so their weights are not free any more."""
    needed = _SPARE * tokens * config.layers * 2 * config.kv_heads * config.head_dim * _HALF
    return min(_MOST, needed / free) if free else _MOST
