"""The commands that measure CosyVoice."""

import json
from collections.abc import Iterator
from importlib.util import find_spec
from itertools import chain
from typing import TYPE_CHECKING, TextIO

import click

from cosyserve import errors
from cosyserve.cli.shared import threads
from cosyserve.errors import CosyError
from cosyserve.settings import load_settings
from cosyserve.store.chosen import chosen
from cosyserve.store.disk import Folder
from cosyserve.store.manifest import SPEAKING, model_of

if TYPE_CHECKING:
    from cosyserve.cosyvoice.frontend.edition import Edition


@click.group()
def bench() -> None:
    """Measure CosyVoice on this machine, in its released size. No model is needed: the weights are untrained."""


def _expect_torch() -> None:
    if find_spec("torch") is None:
        raise CosyError(errors.TORCH_MISSING)


_of_model = click.option(
    "--model",
    "name",
    type=click.Choice([*SPEAKING, *(name.partition("-")[0] for name in SPEAKING)]),
    help="Which model; COSYSERVE_MODEL by default.",
)


def _edition(name: str | None) -> "Edition":
    """What is to be measured; a name may lack its size."""
    from cosyserve.cosyvoice.frontend.edition import EDITIONS

    whole = chosen(load_settings()) if name is None else next(each for each in SPEAKING if each.startswith(name))
    return EDITIONS[whole]


@bench.command()
@_of_model
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object at the end.")
def model(name: str | None, as_json: bool) -> None:
    """Measure each part and the whole on the processor, for 4.1 s of speech. Takes about two minutes.

    It measures float32, bfloat16 if the processor supports it, and the language model's weights in eight bits. The
    first line says what COSYSERVE_DTYPE=auto uses here, and why.
    """
    _expect_torch()
    import torch

    from cosyserve.measure import model as measured
    from cosyserve.speech import number_type

    types = [torch.bfloat16] if number_type.processor_has_bfloat16() else []
    _, why = number_type.fast("cpu", load_settings().state_dir)
    _print_measured(chain([("auto", why.en)], measured.model(types, _edition(name).sizes())), as_json)


@bench.command()
@_of_model
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object at the end.")
@click.option(
    "--keep", type=click.IntRange(min=1), default=5, show_default=True, help="Length of the bounded past, in seconds."
)
def streaming(name: str | None, as_json: bool, keep: int) -> None:
    """Measure each chunk of a long utterance. Takes about 15 minutes on two cores, and 16 GiB of memory."""
    _expect_torch()
    from cosyserve.measure import model as measured

    _print_measured(measured.streaming(keep, _edition(name).sizes()), as_json)


@bench.command("flow-steps")
@_of_model
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object at the end.")
def flow_steps(name: str | None, as_json: bool) -> None:
    """Compare 8, 6 and 5 Euler steps of the flow (COSYSERVE_FLOW_STEPS) with ten.

    Uses the fetched model. Without one it uses untrained weights: the times hold, but the deviations say nothing about
    speech. Takes about a minute on a processor.
    """
    _expect_torch()
    from cosyserve.measure import flow_steps as measured
    from cosyserve.speech.voices import BUNDLED

    edition = _edition(name)
    folder = Folder(load_settings().models_dir, model_of(edition.model))
    found = folder.path if folder.usable else None
    _print_measured(measured.flow_steps(found, next(BUNDLED.iterdir()), edition), as_json)


@bench.command()
@_of_model
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object at the end.")
@click.option("--dtype", type=click.Choice(["bfloat16", "float16", "float32"]), default="bfloat16", show_default=True)
@click.option(
    "--compare", is_flag=True, help="Measure PyTorch's kernels as well, beside those that a server uses here."
)
def gpu(name: str | None, as_json: bool, dtype: str, compare: bool) -> None:
    """Measure a CUDA device: each part, then up to 32 streams side by side. Takes about two minutes."""
    _expect_torch()
    import torch

    from cosyserve.measure import gpu as measured
    from cosyserve.speech.kernel_choice import choose

    if not torch.cuda.is_available():
        raise CosyError(errors.NO_CUDA)
    number_type, sizes = getattr(torch, dtype), _edition(name).sizes()
    in_use = choose("cuda", number_type, sizes, load_settings().state_dir)
    _print_measured(measured.gpu(number_type, in_use.kernels, compare=compare, sizes=sizes), as_json)


@bench.command()
@click.option("--streams", type=click.IntRange(min=1), required=True, help="Streams to serve at a time.")
@click.option(
    "--first-chunk-ms",
    type=click.FloatRange(min=1),
    default=300,
    show_default=True,
    help="Longest first-chunk latency, in milliseconds.",
)
@click.option("--measured", type=click.File(), help="Output of `cosyserve bench gpu --json` from your card.")
@click.option(
    "--spare", type=click.IntRange(min=0), default=1, show_default=True, help="Spare cards, in case one fails."
)
def capacity(streams: int, first_chunk_ms: float, measured: TextIO | None, spare: int) -> None:
    """Calculate how many cards a number of streams needs, from measured figures. Measures nothing itself."""
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
