"""Opens an engine of TensorRT-LLM as the language model of CosyVoice2."""

from pathlib import Path

from safetensors.torch import load_file

from cosyserve import errors
from cosyserve.cosyvoice.engine.batching import EngineGenerator
from cosyserve.cosyvoice.engine.vocabulary import Vocabulary
from cosyserve.errors import CosyError
from cosyserve.host import libpython
from cosyserve.speech.runtime_config import RuntimeConfig
from cosyserve.store.engines import BIAS, Engine, Engines


def open_engine(folder: Path, config: RuntimeConfig, text: int) -> EngineGenerator:
    """The engine of `folder`; `text` is the number of text ids. Raises `CS-ENGINE-002` where it cannot be loaded."""
    engines = Engines(folder.parent.parent)
    engine = engines.read(folder)
    try:
        if engine is None:
            raise FileNotFoundError(f"there is no whole engine in {folder}")
        generator = _opened(engine, config, text)
    except Exception as error:  # whatever TensorRT-LLM raises
        raise CosyError(errors.ENGINE_UNUSABLE, engine=folder, reason=" ".join(str(error).split())[:300]) from error
    engines.use(engine)
    return generator


def _opened(engine: Engine, config: RuntimeConfig, text: int) -> EngineGenerator:
    libpython.load()
    from cosyserve.cosyvoice.engine.trtllm import TrtllmExecutor

    shape, vocabulary = engine.key.shape, Vocabulary(text)
    slots = min(config.bound.streams, shape.max_batch)
    bias = vocabulary.with_one_stop(load_file(engine.folder / BIAS)["bias"])
    executor = TrtllmExecutor(engine.folder, bias, slots, slots * shape.max_seq)
    return EngineGenerator(executor, vocabulary, slots, shape.max_seq)
