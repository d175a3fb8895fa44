"""Models of the released layouts with small, seeded weights."""

from pathlib import Path

import pytest

from cosyserve.store.manifest import MODEL_FOLDER, model_of
from tests.cosyvoice.folder import make_model, make_model3


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as COSYSERVE_MODELS_DIR names it. Tests that spoil a model copy it first."""
    folder = tmp_path_factory.mktemp("models")
    make_model(folder / MODEL_FOLDER)
    return folder


@pytest.fixture(scope="session")
def models3(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with CosyVoice3 in it."""
    folder = tmp_path_factory.mktemp("models3")
    make_model3(folder / model_of("cosyvoice3-0.5b").folder)
    return folder
