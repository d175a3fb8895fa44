"""A model on a device: its weights, and the runtime that computes with them. Nothing else of it is on a card."""

import gc
import logging
import threading
import time
import traceback
from collections.abc import Callable
from concurrent.futures import CancelledError
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch

from cosyserve import errors
from cosyserve.cosyvoice.engine.batching import EngineGenerator
from cosyserve.cosyvoice.model.causal_hift import CausalHift
from cosyserve.cosyvoice.model.config import Sizes
from cosyserve.cosyvoice.model.flow import DitFlow, Flow
from cosyserve.cosyvoice.model.hift import Hift
from cosyserve.cosyvoice.model.int8 import quantised
from cosyserve.cosyvoice.model.loading import WeightsError, load_flow, load_hift, load_llm
from cosyserve.cosyvoice.model.qwen2 import Llm
from cosyserve.cosyvoice.runtime.generation import Generator
from cosyserve.cosyvoice.runtime.health import is_out_of_memory
from cosyserve.cosyvoice.runtime.memory import frames_behind, room, shared_out
from cosyserve.cosyvoice.runtime.runtime import Runtime
from cosyserve.errors import CosyError
from cosyserve.speech import host_memory
from cosyserve.speech.kernel_choice import KernelChoice
from cosyserve.speech.parts import MakeGenerator, Parts
from cosyserve.speech.runtime_config import RuntimeConfig

# Positions of a slot: 30 s of recording with its words, a segment, and the longest that a segment may become.
_POSITIONS = 2560
_LOOK_SECONDS = 2.0  # between two looks at whether a card has more room
_ROOM_AFTER = 10  # seconds after which it is worth asking again whether others have given memory back

log = logging.getLogger(__name__)


class Weights(NamedTuple):
    flow: Flow | DitFlow
    vocoder: Hift | CausalHift
    llm: Llm | None  # None where an engine takes its place

    def move(self, device: str) -> None:
        for module in self:
            if module is not None:
                module.to(device)


@dataclass(frozen=True)
class Model:
    """A model on disk, and how it is run here. `open_engine` is there where one takes the language model's place."""

    folder: Path
    sizes: Sizes
    config: RuntimeConfig
    chosen: KernelChoice
    open_engine: Callable[[], EngineGenerator] | None = None

    def read(self, device: str) -> Weights:
        """Raises `WeightsError` where the folder is not whole."""
        config = self.config
        flow = load_flow(self.folder, self.sizes, config.dtype, device)
        vocoder = load_hift(self.folder, self.sizes, device)
        vocoder.exact = config.dtype == torch.float32
        llm = None
        if self.open_engine is None:
            llm = load_llm(self.folder, self.sizes, torch.bfloat16 if config.int8 else config.dtype, device)
            llm = quantised(llm) if config.int8 else llm
        return Weights(flow, vocoder, llm)


class Loaded:
    """A runtime with all that it needs. Nothing of it is left after `close`."""

    def __init__(self, model: Model, weights: Weights) -> None:
        """Raises `CS-GPU-102` where a card has no room for it, `CS-ENGINE-002` where the engine cannot be loaded."""
        config = model.config
        generator, self.positions = _generator(model, weights)
        self._parts: Parts | None = Parts(
            generator, model.sizes, weights.flow, weights.vocoder, config, model.chosen.kernels
        )
        made, self.capacity = self._parts.made()
        self._runtime: Runtime | None = Runtime(*made, config.threads, config.device)
        self._closing, self._growing = threading.Event(), None
        if self._parts.shared and self.capacity.bound_by == "memory":
            self._growing = threading.Thread(
                target=self._wait_for_room, args=(self._parts, self._runtime), name="room", daemon=True
            )
            self._growing.start()

    @property
    def runtime(self) -> Runtime:
        assert self._runtime is not None  # noqa: S101 - nobody asks after the end
        return self._runtime

    @property
    def broken(self) -> str:
        return "" if (runtime := self._runtime) is None else runtime.broken

    @property
    def preparing(self) -> str:
        return "" if (runtime := self._runtime) is None else runtime.preparing

    def close(self) -> None:
        """Let go of the device's memory, once all that runs on it has ended."""
        self._closing.set()
        self.runtime.close()
        if self._growing is not None:
            self._growing.join()
        self._parts = self._runtime = self._growing = None
        free()

    def _wait_for_room(self, parts: Parts, runtime: Runtime) -> None:
        """As long as others, such as a server before this one, may give memory of the card back."""
        while not self._closing.wait(_LOOK_SECONDS):
            if parts.streams > self.capacity.streams and not self._grow(parts, runtime):
                return

    def _grow(self, parts: Parts, runtime: Runtime) -> bool:
        """Make room for one more stream, and wait until it is in use. True if that worked, or if there was no memory
        after all; False if it failed for another reason."""
        more = self.capacity.streams + 1
        try:
            self.capacity = runtime.grow(lambda: parts.made(more)).result()
        except (Exception, CancelledError) as problem:
            if isinstance(problem, CosyError) and problem.fault is errors.GPU_MEMORY:
                return True
            log.warning("No room for more streams could be made: %s", problem)
            return False
        log.info("There is room for %d streams now. %s", self.capacity.streams, self.capacity.why)
        return True


class Loader:
    """Loads a model, again and again. In between, its weights are in the host's memory, or on disk alone."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self._kept: Weights | None = None
        self._bytes = 0  # that the weights take on a card

    def first(self) -> Loaded:
        """Raises what reading a model and making a `Loaded` raise."""
        before = _free_bytes(self._model.config.device)
        weights = self._model.read(self._model.config.device)
        self._bytes = max(0, before - _free_bytes(self._model.config.device))
        return Loaded(self._model, weights)

    def again(self) -> Loaded:
        """Raises `CS-SLEEP-001` if others have taken the memory; then none of it is held here."""
        began = time.monotonic()
        self._expect_room()
        try:
            loaded = self._made()
        except Exception as problem:
            traceback.clear_frames(problem.__traceback__)  # which hold the weights
            free()
            if is_out_of_memory(problem) or (isinstance(problem, CosyError) and problem.fault is errors.GPU_MEMORY):
                raise self._no_room() from None
            if isinstance(problem, WeightsError):
                raise CosyError(errors.MODEL_UNUSABLE, reason=problem) from None
            raise
        log.info("Awake: the model is back after %.1f s", time.monotonic() - began)
        return loaded

    def let_go(self, loaded: Loaded) -> None:
        """Close it, and keep its weights where they are to wait."""
        began, before = time.monotonic(), _free_bytes(self._model.config.device)
        loaded.close()
        freed = _free_bytes(self._model.config.device) - before
        if self._model.config.unload_to == "memory":
            self._keep()
        log.info(
            "Asleep: the model was let go of in %.1f s, and %.2f GiB more are free",
            *(time.monotonic() - began, freed / 2**30),
        )

    def _keep(self) -> None:
        """Read the weights from disk, as at the start, because those on the card have been rearranged for it."""
        try:
            self._kept = self._model.read("cpu")
        except Exception as problem:  # waking reads them again, and succeeds or says why not
            log.warning("The weights cannot be kept in memory: %s", problem)

    def _made(self) -> Loaded:
        device = self._model.config.device
        weights, self._kept = self._kept, None  # if moving them fails halfway, the next time reads them from disk
        if weights is None:
            weights = self._model.read(device)
        else:
            weights.move(device)
        loaded = Loaded(self._model, weights)
        loaded.runtime.wait_until_prepared()
        if reason := loaded.broken:
            loaded.close()
            raise RuntimeError(reason)
        return loaded

    def _expect_room(self) -> None:
        """Raises `CS-SLEEP-001` before any memory is taken that others may be about to use."""
        device = self._model.config.device
        if device.startswith("cuda") and not streams_beside(_free_bytes(device), self._bytes, self._model):
            raise self._no_room()

    def _no_room(self) -> CosyError:
        gib = f"{_free_bytes(self._model.config.device) / 2**30:.1f}"
        return CosyError(errors.NO_ROOM_TO_WAKE, retry_after=_ROOM_AFTER, gib=gib)


def streams_beside(free: int, weights: int, model: Model) -> int:
    """The streams that a card with `free` bytes has room for, beside weights of so many bytes."""
    config = model.config
    frames = frames_behind(config.keep_tokens)
    return shared_out(room(free - weights), model.sizes.flow, frames, config.dtype.itemsize).streams


def free() -> None:
    """Give back memory that is no longer used. A runtime's objects refer to each other in circles, so collect first."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
        torch._C._cuda_clearCublasWorkspaces()  # PyTorch keeps one for each CUDA stream that there was
        torch.cuda.empty_cache()
    host_memory.give_memory_back()


def _free_bytes(device: str) -> int:
    return torch.cuda.mem_get_info(device)[0] if device.startswith("cuda") else host_memory.free_bytes()


def _generator(model: Model, weights: Weights) -> tuple[MakeGenerator, int]:
    """What makes the generator, once it is known for how many streams there is room, and the positions of a slot."""
    if model.open_engine is not None:
        opened = model.open_engine()
        return lambda streams: opened, opened.length
    llm, kernels = weights.llm, model.chosen.kernels
    assert llm is not None  # noqa: S101 - without an engine it was read
    return lambda streams: Generator(llm, streams, _POSITIONS, kernels=kernels), _POSITIONS
