"""The commands that measure CosyVoice2."""

import json
from collections.abc import Iterator
from importlib.util import find_spec
from itertools import chain
from typing import TextIO

import click

from cosyserve import errors
from cosyserve.assets.disk import Folder
from cosyserve.assets.manifest import DEFAULT, model_of
from cosyserve.cli.serving import threads
from cosyserve.errors import CosyError
from cosyserve.settings import load_settings


@click.group()
def bench() -> None:
    """Measure CosyVoice2 on this machine, at the released size, with weights that need no file."""


def _expect_torch() -> None:
    if find_spec("torch") is None:
        raise CosyError(errors.TORCH_MISSING)


@bench.command()
@click.option("--json", "as_json", is_flag=True, help="One object, once all is measured.")
def model(as_json: bool) -> None:
    """The speed of each part and of all together, for an utterance of 4.1 s. Takes about two minutes.

    In float32, in bfloat16 where the processor computes in it, and with the language model's weights in eight bits. It
    begins with what COSYSERVE_DTYPE=auto takes here, and why.
    """
    _expect_torch()
    import torch

    from cosyserve.measure import model as measured
    from cosyserve.speech import number_type

    types = [torch.bfloat16] if number_type.processor_has_bfloat16() else []
    _, why = number_type.fast("cpu", load_settings().state_dir)
    _print_measured(chain([("auto", why.en)], measured.model(types)), as_json)


@bench.command()
@click.option("--json", "as_json", is_flag=True, help="One object, once all is measured.")
@click.option("--keep", type=click.IntRange(min=1), default=5, show_default=True, help="Seconds of a bounded past.")
def streaming(as_json: bool, keep: int) -> None:
    """What a long utterance costs chunk by chunk. Takes about a quarter of an hour on two cores, and 16 GiB."""
    _expect_torch()
    from cosyserve.measure import model as measured

    _print_measured(measured.streaming(keep), as_json)


@bench.command("flow-steps")
@click.option("--json", "as_json", is_flag=True, help="One object, once all is measured.")
def flow_steps(as_json: bool) -> None:
    """What 8, 6 and 5 Euler steps of the flow (COSYSERVE_FLOW_STEPS) save and change, against ten.

    With the weights that were fetched; where there are none, with untrained ones, whose time is right and whose
    deviation says nothing of speech. Takes about two minutes on a processor.
    """
    _expect_torch()
    from cosyserve.measure import flow_steps as measured
    from cosyserve.speech.voices import BUNDLED

    folder = Folder(load_settings().models_dir, model_of(DEFAULT))
    _print_measured(measured.flow_steps(folder.path if folder.usable else None, next(BUNDLED.iterdir())), as_json)


@bench.command()
@click.option("--json", "as_json", is_flag=True, help="One object, once all is measured.")
@click.option("--dtype", type=click.Choice(["bfloat16", "float16", "float32"]), default="bfloat16", show_default=True)
def gpu(as_json: bool, dtype: str) -> None:
    """A CUDA device: each part, then 1, 4 and 16 streams side by side. Takes about two minutes."""
    _expect_torch()
    import torch

    from cosyserve.measure import gpu as measured

    if not torch.cuda.is_available():
        raise CosyError(errors.NO_CUDA)
    _print_measured(measured.gpu(getattr(torch, dtype)), as_json)


@bench.command()
@click.option("--streams", type=click.IntRange(min=1), required=True, help="How many are to be served at a time.")
@click.option("--first-chunk-ms", type=click.FloatRange(min=1), default=300, show_default=True, help="Limit for it.")
@click.option("--measured", type=click.File(), help="What `cosyserve bench gpu --json` printed on a card of yours.")
@click.option("--spare", type=click.IntRange(min=0), default=1, show_default=True, help="Cards for when one is lost.")
def capacity(streams: int, first_chunk_ms: float, measured: TextIO | None, spare: int) -> None:
    """How many cards a number of streams takes, with the figures that this rests on: nothing is measured here."""
    from cosyserve.scale.capacity import H100, figures_of
    from cosyserve.scale.capacity import capacity as capacity_of

    try:
        figures = figures_of(json.load(measured)) if measured else H100
    except (ValueError, KeyError, AttributeError) as error:
        raise CosyError(errors.NOT_MEASURED, reason=error) from None
    click.echo(f"{figures.device}, streams that begin at once:")
    for point in figures.points:
        click.echo(
            f"  {point.streams:3} streams: first chunk after {point.first_chunk_ms:.0f} ms, "
            f"{point.audio_seconds:g} s of sound in a second"
        )
    found = capacity_of(figures, streams, first_chunk_ms, spare)
    if not found.streams:
        click.echo(f"None begins within {first_chunk_ms:g} ms on it: one alone takes {found.first_chunk_ms:.0f} ms.")
        return
    limit = f"first chunk after {found.first_chunk_ms:.0f} ms if all start at once"
    click.echo(f"{found.streams} streams per card, limited by {found.bound_by}: {limit}.")
    click.echo(f"{streams} streams: {found.cards} cards, {spare} of them to spare.")


def _print_measured(measured: Iterator[tuple[str, object]], as_json: bool) -> None:
    import torch

    torch.set_num_threads(threads())
    values = {}
    for name, value in measured:
        values[name] = value
        if not as_json:
            click.echo(f"{name}: {value}")
    if as_json:
        click.echo(json.dumps(values))
