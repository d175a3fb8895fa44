"""The commands for what must be on disk: models and engines."""

import json
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cosyserve.errors import CosyError
from cosyserve.host.report import Language, language
from cosyserve.settings import Settings, load_settings

if TYPE_CHECKING:
    from cosyserve.assets.fetch import Fetch

_SOURCES = ("auto", "huggingface", "hf-mirror", "modelscope")


@click.command()
@click.option("--model", "name", help="One of: cosyserve models list; COSYSERVE_MODEL by default.")
@click.option("--variant", help="Which of a model's variants; the one that is there by default, else base.")
@click.option("--source", type=click.Choice(_SOURCES), default="auto", show_default=True)
@click.option("--to", "folder", type=click.Path(path_type=Path), help="Folder to use instead of COSYSERVE_MODELS_DIR.")
@click.option("--plan", "only_plan", is_flag=True, help="Print what would be done, and do nothing.")
@click.option("--if-wanted", is_flag=True, help="Only if a server here would use it. Report failures, but do not fail.")
def fetch(
    name: str | None, variant: str | None, source: str, folder: Path | None, only_plan: bool, if_wanted: bool
) -> None:
    """Download a model, resuming and verifying it. Does nothing if it is complete."""
    settings = load_settings(models_dir=folder)
    name = name or _chosen(settings)
    at_work = fetcher(settings, name, source, variant)
    if only_plan:
        _print_plan(at_work)
        return
    if if_wanted and (reason := _not_wanted(settings)):
        click.echo(f"{name} is not fetched: {reason}", err=True)
        return
    with _forgiving(if_wanted and settings.synthesizer == "auto"):
        at_work.run()
        click.echo(f"{name} is complete in {at_work.folder.path}", err=True)


def _chosen(settings: Settings) -> str:
    from cosyserve.store.chosen import chosen

    return chosen(settings)


def _not_wanted(settings: Settings) -> str:
    from cosyserve.assets.backend import why_not_cosyvoice
    from cosyserve.machine import Machine

    return why_not_cosyvoice(settings, Machine())


@contextmanager
def _forgiving(forgives: bool) -> Iterator[None]:
    """Before a server that can speak anyway, an error is reported but does not stop the start."""
    try:
        yield
    except CosyError as error:
        if not forgives:
            raise
        click.echo(f"cosyserve: {error}", err=True)


def fetcher(settings: Settings, name: str, source: str = "auto", variant: str | None = None) -> "Fetch":
    from cosyserve.assets.fetch import Fetch
    from cosyserve.assets.progress import progress
    from cosyserve.machine import Machine

    return Fetch(
        settings.models_dir,
        Machine(),
        progress(),
        name=name,
        variant=variant,
        asked=None if source == "auto" else source,  # type: ignore[arg-type]
        mirror=settings.hf_mirror,
        stall_seconds=settings.fetch_stall_seconds,
    )


def _print_plan(at_work: "Fetch") -> None:
    from cosyserve.store.disk import human

    plan, folder = at_work.plan(), at_work.folder
    lacking = {file.path: state for file, state in plan.lacking}
    for file in folder.model.files:
        state = lacking[file.path].value if file.path in lacking else "whole"
        known = "size unknown" if not file.expected else f"{'about ' * (file.size is None)}{human(file.expected)}"
        named = file.path if file.at_hub is None else f"{file.path}, at the hub {file.at_hub}"
        click.echo(f"{state:10} {known:>12}  {named}  ({file.part})")
    for source in plan.order:
        click.echo(f"from {source.name}: {source.endpoint}, {folder.model.hubs[source.hub].repository}")
    verdict = "room enough" if plan.needed <= plan.free else f"{human(plan.needed - plan.free)} too little"
    click.echo(f"to download {human(plan.needed)} into {folder.path}, where {human(plan.free)} are free: {verdict}")


@click.group()
def models() -> None:
    """List, verify and remove models."""


@models.command("list")
def list_models() -> None:
    """List every known model and how much of it is on disk."""
    from cosyserve.store.disk import Folder, human
    from cosyserve.store.manifest import models as known

    for name, model in known().items():
        lacking = Folder(load_settings().models_dir, model).lacking()
        state = f"{len(model.files) - len(lacking)} of {len(model.files)} files" if lacking else "whole"
        click.echo(f"{name}\t{human(model.size)}\t{state}\t{model.about}")


@models.command()
@click.argument("name", required=False)
@click.option("--fetch", "fetches", is_flag=True, help="Fetch what is missing or damaged, without asking.")
@click.pass_context
def verify(context: click.Context, name: str | None, fetches: bool) -> None:
    """Read every file of model NAME (COSYSERVE_MODEL by default) and name what is missing or damaged.

    In a terminal it offers to fetch those files again. Ends with status 1 if files stay missing or damaged.
    """
    from cosyserve.store.disk import FileState, human

    settings = load_settings()
    at_work = fetcher(settings, name or _chosen(settings))
    folder, wrong = at_work.folder, []
    for file in folder.model.files:
        if folder.state(file) is FileState.MISSING:
            click.echo(f"missing\t{file.path}")
            wrong.append(file)
            continue
        with at_work.reading(file) as tell:
            right = folder.verify(file, tell)
        click.echo(f"{'whole' if right else 'damaged'}\t{file.path}")
        if not right:
            wrong.append(file)
    if not wrong:
        return
    size = human(sum(file.expected for file in wrong))
    asks = sys.stdin is not None and sys.stdin.isatty()
    if not fetches and not (asks and click.confirm(f"Fetch {len(wrong)} files ({size}) again?")):
        context.exit(1)
    for file in wrong:
        if folder.state(file) is not FileState.MISSING:
            folder.quarantine(file)
    at_work.run()


@models.command()
@click.argument("name")
@click.option("--yes", is_flag=True, help="Do not ask.")
def remove(name: str, yes: bool) -> None:
    """Delete the files of model NAME."""
    from cosyserve.store.disk import Folder, human
    from cosyserve.store.manifest import model_of

    folder = Folder(load_settings().models_dir, model_of(name))
    if not folder.exists:
        return
    if not yes:
        click.confirm(f"Delete {folder.path} ({human(folder.model.size)})?", abort=True)
    shutil.rmtree(folder.path)


@click.command()
@click.option("--dtype", type=click.Choice(["bfloat16", "float16"]), default="bfloat16", show_default=True)
@click.option(
    "--max-batch", type=click.IntRange(1, 256), help="Most requests at a time; COSYSERVE_MAX_STREAMS by default."
)
@click.option(
    "--max-seq", type=click.IntRange(256, 32768), default=2560, show_default=True, help="Positions of each request."
)
@click.option("--from-hub", is_flag=True, help="Download a public export of the model, 1.3 GB more.")
@click.option("--force", is_flag=True, help="Build even if the engine exists.")
@click.option("--plan", "only_plan", is_flag=True, help="Print what would be done, and do nothing.")
@click.option(
    "--if-possible", is_flag=True, help="Only if it can be built and used here. Report failures, but do not fail."
)
def build(
    dtype: str, max_batch: int | None, max_seq: int, from_hub: bool, force: bool, only_plan: bool, if_possible: bool
) -> None:
    """Build the TensorRT-LLM engine for this card. Does nothing if it exists."""
    from cosyserve import logs
    from cosyserve.assets.build import Build
    from cosyserve.machine import Machine
    from cosyserve.store.engines import Shape
    from cosyserve.store.manifest import EXPORTED

    settings = load_settings()
    logs.start(settings, unasked="text")
    shape = Shape(dtype=dtype, max_batch=max_batch or settings.max_streams, max_seq=max_seq)
    work = Build(settings, Machine(), shape, lambda text: click.echo(text, err=True), from_hub=from_hub)
    if only_plan:
        plan = work.plan()
        click.echo(f"engine {plan.key.digest}: {'there' if plan.there else 'to be built'}")
        for step in plan.steps:
            click.echo(f"  {step}")
        return
    if if_possible and (reason := _not_buildable(settings)):
        click.echo(f"no engine is built: {reason}", err=True)
        return
    with _forgiving(if_possible and settings.backend == "auto"):
        if from_hub:
            fetcher(settings, EXPORTED).run()
        engine = work.run(force=force)
        click.echo(f"the engine is in {engine.folder}", err=True)


def _not_buildable(settings: Settings) -> str:
    from cosyserve.host.system import installed

    if reason := _not_wanted(settings):
        return reason
    if settings.backend == "torch":
        return "COSYSERVE_BACKEND=torch asks for PyTorch"
    if settings.backend == "auto" and installed("tensorrt-llm") is None:
        return "TensorRT-LLM is not installed, so PyTorch is used"
    return ""


@click.group()
def engines() -> None:
    """List, check and remove engines."""


@engines.command("list")
def list_engines() -> None:
    """List the engines, the last used first."""
    from cosyserve.store.disk import human
    from cosyserve.store.engines import Engines

    for engine in Engines(load_settings().models_dir).all():
        key = engine.key
        shape = f"{key.shape.dtype}, {key.shape.max_batch} × {key.shape.max_seq}"
        click.echo(f"{key.digest}\t{human(engine.size)}\t{key.card}\tTensorRT-LLM {key.tensorrt_llm}\t{shape}")


@engines.command()
@click.option("--lang", type=click.Choice(["en", "zh"]), help="Language of the output; the terminal's by default.")
@click.option(
    "--report",
    "file",
    type=click.Path(path_type=Path),
    help="Write a JSON report to attach to an issue; it contains no keys or paths.",
)
@click.option(
    "--streams",
    type=click.IntRange(1, 256),
    default=16,
    show_default=True,
    help="Number of streams to speak at a time.",
)
@click.pass_context
def check(context: click.Context, lang: Language | None, file: Path | None, streams: int) -> None:
    """Build an engine, use it in every way, and compare it with PyTorch. Takes about ten minutes and keeps nothing.

    Ends with status 0 (all is well), 1 (warnings) or 2 (the engine does not do what it should).
    """
    from cosyserve import errors, logs
    from cosyserve.files import write_atomically
    from cosyserve.machine import Machine

    settings = load_settings()
    if find_spec("torch") is None:
        raise CosyError(errors.TORCH_MISSING)
    logs.start(settings, unasked="text")
    from cosyserve.check import lines
    from cosyserve.check.check import Check

    chosen = lang or language()
    checking = Check(settings, Machine(), streams, lambda text: click.echo(text, err=True))
    found = []
    for line in checking.lines():
        click.echo(lines.lines_of(line, chosen))
        found.append(line)
    click.echo(f"\n{lines.summary(found, chosen)}")
    if file is not None:
        write_atomically(file, lines.report(found, checking.machine()))
    context.exit(lines.exit_status(found))


@engines.command()
@click.option("--keep", type=click.IntRange(0), help="Number of engines to keep; COSYSERVE_KEEP_ENGINES by default.")
def prune(keep: int | None) -> None:
    """Remove the engines that have not been used lately."""
    from cosyserve.store.engines import Engines

    settings = load_settings()
    for engine in Engines(settings.models_dir).prune(settings.keep_engines if keep is None else keep):
        click.echo(f"removed {engine.folder}")


@engines.command()
def key() -> None:
    """Print what the engine for this machine depends on, as JSON with its digest."""
    from cosyserve.assets.build import weights_of
    from cosyserve.assets.engine_key import key_here
    from cosyserve.machine import Machine
    from cosyserve.store.chosen import chosen_folder
    from cosyserve.store.engines import Shape

    settings = load_settings()
    weights = weights_of(chosen_folder(settings))
    found = key_here(weights, Shape(max_batch=settings.max_streams), Machine())
    click.echo(json.dumps({"digest": found.digest, **found.model_dump()}, indent=2))
