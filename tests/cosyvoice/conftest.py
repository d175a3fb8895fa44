"""A model of the released layout with small, seeded weights."""

from pathlib import Path

import pytest

from cosyserve.store.manifest import MODEL_FOLDER
from tests.cosyvoice.folder import make_model


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as COSYSERVE_MODELS_DIR names it. Tests that spoil a model copy it first."""
    folder = tmp_path_factory.mktemp("models")
    make_model(folder / MODEL_FOLDER)
    return folder
