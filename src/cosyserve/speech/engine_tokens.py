"""Opens an engine of TensorRT-LLM as the language model of CosyVoice."""

from pathlib import Path

from safetensors.torch import load_file
from torch import Tensor

from cosyserve import errors
from cosyserve.cosyvoice.engine.batching import EngineGenerator
from cosyserve.cosyvoice.engine.vocabulary import Vocabulary
from cosyserve.errors import CosyError
from cosyserve.host import libpython
from cosyserve.speech.runtime_config import RuntimeConfig
from cosyserve.store.engines import BIAS, Engine, Engines


def open_engine(folder: Path, config: RuntimeConfig, vocabulary: Vocabulary) -> EngineGenerator:
    """The engine of `folder`, of that vocabulary. Raises `CS-ENGINE-002` where it cannot be loaded."""
    engines = Engines(folder.parent.parent)
    engine = engines.read(folder)
    try:
        if engine is None:
            raise FileNotFoundError(f"there is no whole engine in {folder}")
        generator = _opened(engine, config, vocabulary)
    except Exception as error:  # whatever TensorRT-LLM raises
        raise CosyError(errors.ENGINE_UNUSABLE, engine=folder, reason=" ".join(str(error).split())[:300]) from error
    engines.use(engine)
    return generator


def bias_of(engine: Engine, vocabulary: Vocabulary) -> Tensor:
    """What is added to its scores (vocabulary,). What the head has of its own lies beside the engine."""
    saved = load_file(engine.folder / BIAS)["bias"] if vocabulary.rows.biased else vocabulary.bias()
    return vocabulary.with_one_stop(saved)


def _opened(engine: Engine, config: RuntimeConfig, vocabulary: Vocabulary) -> EngineGenerator:
    libpython.load()
    from cosyserve.cosyvoice.engine.trtllm import TrtllmExecutor

    shape = engine.key.shape
    slots = min(config.bound.streams, shape.max_batch)
    executor = TrtllmExecutor(engine.folder, bias_of(engine, vocabulary), slots, slots * shape.max_seq)
    return EngineGenerator(executor, vocabulary, slots, shape.max_seq)
