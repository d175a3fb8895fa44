"""Which files a model is made of: pinned revisions, sizes and digests, as data in the package."""

import json
import os
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from cosyserve import errors
from cosyserve.errors import CosyError

BASE = "base"  # what a model is without a variant
DEFAULT = "cosyvoice2-0.5b"
# The models that speak, in the order in which `auto` prefers them, as people call them.
SPEAKING = {"cosyvoice3-0.5b": "CosyVoice3", DEFAULT: "CosyVoice2"}
MODEL_FOLDER = "CosyVoice2-0.5B"
EXPORTED = "cosyvoice2-llm"

# Internal, for tests that bring small models of their own: a manifest instead of the package's.
_INSTEAD = "_COSYSERVE_MANIFEST"


_PATH = r"^[\w][\w./-]*$"


class File(BaseModel):
    """`size` in bytes and `sha256` are None where they are not known here: whoever fetches the file takes them from
    the hub, holds the file to them and keeps them. `about` is what it takes then, for a plan alone; `at_hub` its path
    at the hub where it has another one there."""

    model_config = ConfigDict(frozen=True)

    path: str = Field(pattern=_PATH)
    part: str
    size: int | None
    sha256: str | None = Field(pattern=r"^[0-9a-f]{64}$")
    about: int | None = None
    at_hub: str | None = Field(None, pattern=_PATH)

    @property
    def source(self) -> str:
        """Its path at the hub."""
        return self.at_hub or self.path

    @property
    def expected(self) -> int:
        """Bytes to plan with."""
        return self.size or self.about or 0


class Hub(BaseModel):
    model_config = ConfigDict(frozen=True)

    repository: str
    revision: str


class Model(BaseModel):
    """`hubs` are named after the client that speaks to them: huggingface, modelscope. In each of the `variants` some
    files, by their paths here, are others at the hub."""

    model_config = ConfigDict(frozen=True)

    about: str
    title: str  # what people call it
    folder: str
    hubs: Mapping[str, Hub]
    files: tuple[File, ...]
    variants: Mapping[str, Mapping[str, str]] = {}

    @property
    def size(self) -> int:
        return sum(file.expected for file in self.files)

    def varied(self, variant: str) -> tuple[File, ...]:
        """Its files as a variant has them."""
        others = self.variants.get(variant, {})
        return tuple(
            file.model_copy(update={"at_hub": others[file.path], "size": None, "sha256": None})
            if file.path in others
            else file
            for file in self.files
        )


@cache
def models() -> Mapping[str, Model]:
    text = Path(os.environ.get(_INSTEAD) or Path(__file__).with_name("models.json")).read_text(encoding="utf-8")
    return {
        name: Model.model_validate({"title": SPEAKING.get(name, name), **model})
        for name, model in json.loads(text).items()
    }


def model_of(name: str, variant: str | None = None) -> Model:
    """Raises `CS-FETCH-001` where there is no such model, `CS-FETCH-008` where it has no such variant."""
    found = models().get(name)
    if found is None:
        raise CosyError(errors.MODEL_NOT_KNOWN, model=name, models=", ".join(models()))
    if variant not in (None, BASE, *found.variants):
        variants = ", ".join((BASE, *found.variants))
        raise CosyError(errors.VARIANT_NOT_KNOWN, model=name, variant=variant, variants=variants)
    return found
