"""The commands for what must be on disk: models and engines."""

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cosyserve.settings import Settings, load_settings

if TYPE_CHECKING:
    from cosyserve.assets.fetch import Fetch

_SOURCES = ("auto", "huggingface", "hf-mirror", "modelscope")


@click.command()
@click.option("--model", "name", default="cosyvoice2-0.5b", show_default=True, help="One of: cosyserve models list.")
@click.option("--source", type=click.Choice(_SOURCES), default="auto", show_default=True)
@click.option("--to", "folder", type=click.Path(path_type=Path), help="Folder instead of COSYSERVE_MODELS_DIR.")
@click.option("--plan", "only_plan", is_flag=True, help="Say what would be done, and do nothing.")
def fetch(name: str, source: str, folder: Path | None, only_plan: bool) -> None:
    """Bring a model to disk: resumed, verified, whole or not at all. Does nothing where it is there."""
    at_work = fetcher(load_settings(models_dir=folder), name, source)
    if only_plan:
        _print_plan(at_work)
    else:
        at_work.run()
        click.echo(f"{name} is whole in {at_work.folder.path}", err=True)


def fetcher(settings: Settings, name: str, source: str = "auto") -> "Fetch":
    from cosyserve.assets.fetch import Fetch
    from cosyserve.assets.progress import progress
    from cosyserve.host.machine import Machine

    return Fetch(
        settings.models_dir,
        Machine(),
        progress(),
        name=name,
        asked=None if source == "auto" else source,  # type: ignore[arg-type]
        mirror=settings.hf_mirror,
        stall_seconds=settings.fetch_stall_seconds,
    )


def _print_plan(at_work: "Fetch") -> None:
    from cosyserve.assets.disk import human

    plan, folder = at_work.plan(), at_work.folder
    lacking = {file.path: state for file, state in plan.lacking}
    for file in folder.model.files:
        state = lacking[file.path].value if file.path in lacking else "whole"
        size = "size unknown" if file.size is None else human(file.size)
        click.echo(f"{state:10} {size:>12}  {file.path}  ({file.part})")
    for source in plan.order:
        click.echo(f"from {source.name}: {source.endpoint}, {folder.model.hubs[source.hub].repository}")
    verdict = "room enough" if plan.needed <= plan.free else f"{human(plan.needed - plan.free)} too little"
    click.echo(f"to download {human(plan.needed)} into {folder.path}, where {human(plan.free)} are free: {verdict}")


@click.group()
def models() -> None:
    """The models on disk."""


@models.command("list")
def list_models() -> None:
    """Every model there is, and how much of it is here."""
    from cosyserve.assets.disk import Folder, human
    from cosyserve.assets.manifest import models as known

    for name, model in known().items():
        lacking = Folder(load_settings().models_dir, model).lacking()
        state = f"{len(model.files) - len(lacking)} of {len(model.files)} files" if lacking else "whole"
        click.echo(f"{name}\t{human(model.size)}\t{state}\t{model.about}")


@models.command()
@click.argument("name", default="cosyvoice2-0.5b")
def verify(name: str) -> None:
    """Read every file of model NAME again. What is damaged is named, put away and fetched anew."""
    from cosyserve.assets.disk import State

    at_work = fetcher(load_settings(), name)
    folder = at_work.folder
    for file in folder.model.files:
        if folder.state(file) is State.MISSING:
            click.echo(f"missing\t{file.path}")
            continue
        with at_work.reading(file) as tell:
            right = folder.verify(file, tell)
        click.echo(f"{'whole' if right else 'damaged'}\t{file.path}")
        if not right:
            folder.quarantine(file)
    at_work.run()


@models.command()
@click.argument("name")
@click.option("--yes", is_flag=True, help="Do not ask.")
def remove(name: str, yes: bool) -> None:
    """Delete the files of model NAME."""
    from cosyserve.assets.disk import Folder, human
    from cosyserve.assets.manifest import model_of

    folder = Folder(load_settings().models_dir, model_of(name))
    if not folder.path.is_dir():
        return
    if not yes:
        click.confirm(f"Delete {folder.path} ({human(folder.model.size)})?", abort=True)
    shutil.rmtree(folder.path)
