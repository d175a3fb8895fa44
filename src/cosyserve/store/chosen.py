"""Which model speaks: the one that a setting names, else the newest that is there."""

from cosyserve.settings import Settings
from cosyserve.store.disk import Folder
from cosyserve.store.manifest import DEFAULT, SPEAKING, model_of, models


def chosen(settings: Settings) -> str:
    """Its name. Of those that `auto` finds, one that is whole goes before one that is not."""
    if settings.named_model:
        return settings.named_model
    folders = {name: Folder(settings.models_dir, model_of(name)) for name in SPEAKING if name in models()}
    whole = [name for name, folder in folders.items() if folder.exists and folder.usable]
    begun = [name for name, folder in folders.items() if folder.exists]
    return next(iter(whole + begun), DEFAULT)


def chosen_folder(settings: Settings) -> Folder:
    return Folder(settings.models_dir, model_of(chosen(settings)))
