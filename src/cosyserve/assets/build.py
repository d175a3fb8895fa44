"""From the weights to an engine for this card: checked, exported, built under the launch ladder, kept whole or not."""

import shutil
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psutil

from cosyserve import errors
from cosyserve.assets.compile import Work
from cosyserve.assets.engine_key import key_here
from cosyserve.errors import CosyError
from cosyserve.host import system
from cosyserve.host.surroundings import surroundings_of
from cosyserve.launch import job, ladder
from cosyserve.launch.flag import Flag
from cosyserve.machine import Machine, platform_of
from cosyserve.settings import Settings
from cosyserve.store.chosen import chosen, chosen_folder
from cosyserve.store.disk import FileState, Folder, human
from cosyserve.store.engines import BIAS, CONFIG, PLAN, Engine, Engines, Key, Shape
from cosyserve.store.manifest import DEFAULT, EXPORTED, model_of

LLM = "llm.pt"
_MEMORY = 6 << 30  # the model twice, as tensors and as TensorRT's constants, and the libraries
_ROOM = 3 << 30  # the export and the engine, 1.3 GB each

Say = Callable[[str], None]


@dataclass(frozen=True)
class BuildPlan:
    key: Key
    there: Engine | None
    exported: Path | None  # what somebody else has exported, None where we do
    steps: tuple[str, ...]


class Build:
    """`stopping` ends a build that is at work, once somebody sets it."""

    def __init__(
        self,
        settings: Settings,
        machine: Machine,
        shape: Shape,
        say: Say,
        *,
        from_hub: bool = False,
        stopping: Flag | None = None,
    ) -> None:
        self._stopping = stopping or Flag()
        self._settings, self._machine, self._shape, self._say = settings, machine, shape, say
        self._engines = Engines(settings.models_dir)
        self._folder = chosen_folder(settings)
        self._model = chosen(settings)
        if from_hub and self._model != DEFAULT:
            raise CosyError(errors.NOT_EXPORTED, model=self._folder.model.title)
        self._from_hub = Folder(settings.models_dir, model_of(EXPORTED)) if from_hub else None

    def plan(self) -> BuildPlan:
        """What would be done; raises as `run` would before it begins."""
        key = key_here(weights_of(self._folder), self._shape, self._machine)
        there = self._engines.find(key)
        exported = self._from_hub.path if self._from_hub else None
        source = f"read {exported}" if exported else f"export {self._folder.path / LLM} in {self._shape.dtype}"
        rungs = ", ".join(rung.name for rung in self._rungs(Path("EXPORT"), Path("ENGINE")))
        shape = self._shape
        steps = (
            f"{source} ({human(1.3e9)})",
            f"build with TensorRT-LLM {key.tensorrt_llm} for {key.card}: max_batch_size {shape.max_batch}, max_seq_len "
            f"{shape.max_seq}, max_num_tokens {shape.max_tokens}, paged cache of keys and values, started by: {rungs}",
            f"keep it as {self._engines.root / key.digest}",
        )
        return BuildPlan(key, there, exported, steps)

    def run(self, *, force: bool = False) -> Engine:
        """The engine for this machine, which is there already or is built now; raises `CS-BUILD-…`."""
        key = self.plan().key
        if not force and (there := self._engines.find(key)):
            return there
        self._check_machine()
        waiting = "another build is running; waiting for it"
        engine = self._engines.build(key, self._make, lambda: self._say(waiting), anew=force, parts=(PLAN, CONFIG))
        for old in self._engines.prune(self._settings.keep_engines):
            self._say(f"removed the engine {old.folder.name}, which was used longest ago")
        return engine

    def _check_machine(self) -> None:
        memory = psutil.virtual_memory().available
        memory = min(memory, system.memory_limit(self._machine) or memory)
        if memory < _MEMORY:
            raise CosyError(errors.BUILD_RESOURCES, what="memory", needed=human(_MEMORY), free=human(memory))
        self._engines.root.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(self._engines.root).free
        if free < _ROOM:
            raise CosyError(errors.BUILD_RESOURCES, what="disk", needed=human(_ROOM), free=human(free))

    def _make(self, into: Path) -> None:
        import torch
        from safetensors.torch import save_file

        from cosyserve.assets.export import export, saved_bias
        from cosyserve.cosyvoice.frontend.edition import EDITIONS

        edition = EDITIONS[self._model]
        with tempfile.TemporaryDirectory(dir=into, prefix="export-") as made:
            exported = self._from_hub.path if self._from_hub else Path(made) / "model"
            if self._from_hub is None:
                self._say(f"exporting {self._folder.path / LLM} …")
                export(self._folder.path, exported, getattr(torch, self._shape.dtype), edition)
            self._say("building the engine; this takes minutes …")
            tmpdir = surroundings_of(self._machine).tmpdir
            failure = job.run(self._rungs(exported, into), tmpdir, self._settings.build_seconds, self._stopping)
            if failure is not None:
                raise CosyError(errors.BUILD_FAILED, reason=failure)
        bias = saved_bias(self._folder.path, edition)
        if bias is not None:
            save_file({"bias": bias}, into / BIAS)

    def _rungs(self, exported: Path, into: Path) -> list[ladder.Rung]:
        """The ladder without its last rung: no engine is built without MPI."""
        settings = self._settings.model_copy(update={"mpi": "always"})
        work = Work(exported=exported, into=into, shape=self._shape)
        argv = [sys.executable, "-m", "cosyserve.assets.compile", work.model_dump_json()]
        machine = self._machine
        rungs = ladder.plan(settings, platform_of(machine), argv, machine.environ, surroundings_of(machine))
        return [rung for rung in rungs if rung.name != ladder.WITHOUT]


def weights_of(folder: Folder) -> str:
    """The digest of the language model's weights, read now where nobody has; raises `CS-FETCH-006`."""
    missing = [file.path for file in folder.model.files if folder.state(file) is FileState.MISSING]
    if missing:
        raise CosyError(errors.NOT_FETCHED, model=folder.model.folder, folder=folder.path, files=", ".join(missing))
    file = next(file for file in folder.model.files if file.path == LLM)
    return folder.digest_of(file)
