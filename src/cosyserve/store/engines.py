"""The engines on disk: whether the one is there that a machine, its weights and its settings need.

An engine runs on the card, the TensorRT and the TensorRT-LLM it was built with, and on no other; its own config.json
names neither. So each lies in a folder named after the digest of all it depends on, whole or not at all.
"""

import contextlib
import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from cosyserve import errors
from cosyserve.errors import CosyError
from cosyserve.files import move, sync, write_atomically
from cosyserve.store.disk import alone

PLAN, CONFIG, BIAS = "rank0.engine", "config.json", "head_bias.safetensors"
_KEY = "key.json"
_BUILDING = ".building-"
_FAILED = ".failed"
_SHORT = 16  # digits of a digest that name a folder


class Shape(BaseModel):
    """What an engine can take: requests at once, positions of each, positions that one step may read."""

    model_config = ConfigDict(frozen=True)

    dtype: str = "bfloat16"
    max_batch: int = 16
    max_seq: int = 2560

    @property
    def max_tokens(self) -> int:
        """Two whole prompts, so that one that is read does not keep the other waiting."""
        return 2 * self.max_seq


class Key(BaseModel):
    """Everything an engine depends on."""

    model_config = ConfigDict(frozen=True)

    weights: str  # SHA-256 of llm.pt
    shape: Shape
    export: int
    tensorrt_llm: str
    tensorrt: str
    cuda: int
    capability: float
    card: str
    system: str

    @property
    def digest(self) -> str:
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()[:_SHORT]


@dataclass(frozen=True)
class Engine:
    folder: Path
    key: Key
    used: float  # when it was last loaded, or built

    @property
    def size(self) -> int:
        return sum(path.stat().st_size for path in self.folder.iterdir())


class Engines:
    """The engines in a folder of models."""

    def __init__(self, models_dir: Path) -> None:
        self.root = models_dir / "engines"

    def all(self) -> list[Engine]:
        """Those that are whole, the last used first."""
        found = [self.read(folder) for folder in self.root.glob("[0-9a-f]*") if folder.is_dir()]
        return sorted((engine for engine in found if engine is not None), key=lambda engine: -engine.used)

    def find(self, key: Key) -> Engine | None:
        """The engine for exactly this key."""
        engine = self.read(self.root / key.digest)
        return engine if engine is not None and engine.key == key else None

    def usable(self, key: Key) -> Engine | None:
        """One that this machine and these weights can use, in whatever shape: `key`'s own, or the last used."""
        in_other_shapes = (each for each in self.all() if each.key.model_copy(update={"shape": key.shape}) == key)
        return self.find(key) or next(in_other_shapes, None)

    def build(
        self,
        key: Key,
        builder: Callable[[Path], None],
        waiting: Callable[[], None] = lambda: None,
        *,
        anew: bool = False,
        parts: Sequence[str] = (PLAN, CONFIG, BIAS),
    ) -> Engine:
        """The engine for `key`, made by `builder` in a new folder unless it is there. Two builders build once.

        `anew` makes another one all the same; the old one stays until that is whole. `parts` are the files that have to
        be there then.
        """
        with alone(self.root / f".{key.digest}.lock", waiting):
            self._sweep(key)
            if not anew and (engine := self.find(key)):
                return engine
            place, building = self.root / key.digest, self.root / f"{_BUILDING}{key.digest}"
            building.mkdir()
            try:
                builder(building)
                missing = [name for name in parts if not (building / name).is_file()]
                if missing:
                    raise CosyError(errors.BUILD_FAILED, reason=f"it left no {', '.join(missing)}")
                write_atomically(building / _KEY, key.model_dump_json(indent=1))
                for path in building.iterdir():
                    sync(path)
                shutil.rmtree(place, ignore_errors=True)
                move(building, place)
            except BaseException:
                shutil.rmtree(building, ignore_errors=True)
                raise
        engine = self.find(key)
        if engine is None:
            raise CosyError(errors.BUILD_FAILED, reason=f"{place} is gone")
        return engine

    def use(self, engine: Engine) -> None:
        """It has been loaded, and works: it is the last to be pruned, and may be rebuilt again one day."""
        with contextlib.suppress(OSError):  # a read-only folder keeps no account
            os.utime(engine.folder / _KEY)
            self._mark(engine.key).unlink(missing_ok=True)

    def give_up(self, engine: Engine) -> bool:
        """It cannot be loaded: it is removed. Whether it is worth building once more, which it is the first time."""
        mark = self._mark(engine.key)
        first = not mark.exists()
        with contextlib.suppress(OSError):
            mark.write_text(time.strftime("%Y-%m-%d %H:%M:%S"), encoding="ascii")
            shutil.rmtree(engine.folder)
        return first

    def prune(self, keep: int) -> list[Engine]:
        """Remove all but the `keep` that were used last; those that were removed."""
        removed = self.all()[keep:]
        for engine in removed:
            shutil.rmtree(engine.folder)
        return removed

    def _mark(self, key: Key) -> Path:
        return self.root / f".{key.digest}{_FAILED}"

    def _sweep(self, key: Key) -> None:
        """What a builder of this key left that was killed. Nobody else builds it now."""
        for left in self.root.glob(f"{_BUILDING}{key.digest}*"):
            shutil.rmtree(left, ignore_errors=True)

    def read(self, folder: Path) -> Engine | None:
        """The engine in a folder, None where it is not whole."""
        try:
            key = Key.model_validate_json((folder / _KEY).read_bytes())
            used = (folder / _KEY).stat().st_mtime
        except (OSError, ValidationError, json.JSONDecodeError):
            return None
        return Engine(folder, key, used) if (folder / PLAN).is_file() else None
