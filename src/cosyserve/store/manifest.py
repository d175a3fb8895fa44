"""Which files a model is made of: pinned revisions, sizes and digests, as data in the package."""

import json
import os
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from cosyserve import errors
from cosyserve.errors import CosyError

DEFAULT = "cosyvoice2-0.5b"
MODEL_FOLDER = "CosyVoice2-0.5B"
EXPORTED = "cosyvoice2-llm"

# Internal, for tests that bring small models of their own: a manifest instead of the package's.
_INSTEAD = "_COSYSERVE_MANIFEST"


class File(BaseModel):
    """`size` in bytes and `sha256` are None where they are not known here: whoever fetches the file takes them from
    the hub, holds the file to them and keeps them."""

    model_config = ConfigDict(frozen=True)

    path: str = Field(pattern=r"^[\w][\w./-]*$")
    part: str
    size: int | None
    sha256: str | None = Field(pattern=r"^[0-9a-f]{64}$")


class Hub(BaseModel):
    model_config = ConfigDict(frozen=True)

    repository: str
    revision: str


class Model(BaseModel):
    """`hubs` are named after the client that speaks to them: huggingface, modelscope."""

    model_config = ConfigDict(frozen=True)

    about: str
    folder: str
    hubs: Mapping[str, Hub]
    files: tuple[File, ...]

    @property
    def size(self) -> int:
        return sum(file.size or 0 for file in self.files)


@cache
def models() -> Mapping[str, Model]:
    text = Path(os.environ.get(_INSTEAD) or Path(__file__).with_name("models.json")).read_text(encoding="utf-8")
    return {name: Model.model_validate(model) for name, model in json.loads(text).items()}


def model_of(name: str) -> Model:
    """Raises `CS-FETCH-001` where there is no such model."""
    found = models().get(name)
    if found is None:
        raise CosyError(errors.MODEL_NOT_KNOWN, model=name, models=", ".join(models()))
    return found
