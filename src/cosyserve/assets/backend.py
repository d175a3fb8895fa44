"""Whether speech tokens come from an engine here, and from which."""

import logging
from importlib.util import find_spec

from cosyserve import errors
from cosyserve.assets.build import weights_of
from cosyserve.assets.engine_key import key_here
from cosyserve.command import command
from cosyserve.errors import CosyError
from cosyserve.host import gpu
from cosyserve.host.system import installed
from cosyserve.machine import IMAGE, Machine
from cosyserve.settings import Settings
from cosyserve.store.chosen import chosen_folder
from cosyserve.store.engines import Engine, Engines, Shape

log = logging.getLogger(__name__)

# Internal to a launch, hence no setting: the folder of the engine that the server is to load.
ENGINE = "_COSYSERVE_ENGINE"


def why_not_cosyvoice(settings: Settings, machine: Machine) -> str:
    """Why a server here would not speak with CosyVoice, even if the model were there; empty where it would."""
    if settings.synthesizer == "preview":
        return "COSYSERVE_SYNTHESIZER=preview asks for the preview voice"
    if find_spec("torch") is None:
        return f"{machine.environ[IMAGE]} has no PyTorch" if IMAGE in machine.environ else "PyTorch is not installed"
    if settings.insists or settings.device == "cpu" or gpu.cards(machine):
        return ""
    return "there is no graphics card (COSYSERVE_SYNTHESIZER=cosyvoice would use the processor)"


def engine_for(settings: Settings, machine: Machine) -> Engine | None:
    """The engine to serve with, None where PyTorch (or the preview) is to speak.

    Raises `CS-BUILD-…` or `CS-ENGINE-001` where `COSYSERVE_BACKEND=trtllm` asks for one and there can be or is none.
    """
    asked = settings.backend == "trtllm"
    if settings.backend == "torch" or settings.synthesizer == "preview" or settings.device == "cpu":
        return None
    if installed("tensorrt-llm") is None and not asked:
        return None
    folder = chosen_folder(settings)
    if not folder.usable and not asked:
        return None  # whoever chooses the synthesizer says so
    engines = Engines(settings.models_dir)
    try:
        key = key_here(weights_of(folder), Shape(max_batch=settings.max_streams), machine)
    except CosyError as error:
        if asked:
            raise
        log.warning("PyTorch is used instead of an engine: %s", error.cause)
        return None
    engine = engines.usable(key)
    if engine is None and asked:
        raise CosyError(errors.NO_ENGINE, folder=engines.root)
    if engine is None:
        log.warning("TensorRT-LLM is installed, but there is no engine for this card: `%s build` makes one", command())
    return engine
