"""The commands for the folder of voices."""

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cosyserve import errors
from cosyserve.errors import CosyError
from cosyserve.settings import load_settings

if TYPE_CHECKING:
    from cosyserve.cosyvoice.frontend.edition import Edition
    from cosyserve.speech.voices import Library


@click.group()
def voices() -> None:
    """List, add and remove voices in COSYSERVE_VOICES_DIR. A running server sees changes at once."""


@voices.command("list")
def list_voices() -> None:
    """List every voice and the words of its recording."""
    for entry in _library().entries.values():
        click.echo(f"{entry.name}\t{entry.transcript}")


@voices.command("add")
@click.argument("name")
@click.argument("recording", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--transcript", default="", help="Exact words of the recording.")
@click.option("--consent", default="", help="Who agreed to the use of this voice, and when.")
def add_voice(name: str, recording: Path, transcript: str, consent: str) -> None:
    """Add the voice NAME from RECORDING: 1 to 30 seconds, in any common format."""
    click.echo(_library().add(name, transcript, consent, recording.read_bytes()).file)


@voices.command("remove")
@click.argument("name")
def remove_voice(name: str) -> None:
    """Remove an added voice and its recording."""
    _library().remove(name)


@voices.command("import")
@click.argument("table", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--model", "name", help="Model that the table was made with; COSYSERVE_MODEL by default.")
def import_voices(table: Path, name: str | None) -> None:
    """Add the voices of a spk2info.pt from CosyVoice or async_cosyvoice. Nothing in it is executed.

    They can be used with the model that the table was made with.
    """
    if find_spec("torch") is None:
        raise CosyError(errors.TORCH_MISSING)
    from cosyserve.cosyvoice.frontend.edition import EDITIONS
    from cosyserve.speech import spk2info
    from cosyserve.store.chosen import chosen

    model = name or chosen(load_settings())
    if model not in EDITIONS:
        raise CosyError(errors.MODEL_NOT_KNOWN, model=model, models=", ".join(EDITIONS))
    edition = EDITIONS[model]
    for voice, features in spk2info.voices(table, _text_ids(edition), edition):
        click.echo(_library().adopt(voice, features).name)


def _text_ids(edition: "Edition") -> int:
    """Sizes of the model that is here, or of the released one if there is none yet."""
    from cosyserve.cosyvoice.frontend.tokenizer import TextTokenizer
    from cosyserve.cosyvoice.model.config import LlmConfig
    from cosyserve.cosyvoice.model.loading import WeightsError
    from cosyserve.store.manifest import model_of

    try:
        folder = load_settings().models_dir / model_of(edition.model).folder
        return TextTokenizer(folder, edition.added).size
    except WeightsError:
        return LlmConfig().vocabulary


def _library() -> "Library":
    from cosyserve.speech.voices import Library

    return Library(load_settings().voices_dir)
