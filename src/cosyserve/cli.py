"""The commands."""

import asyncio
import faulthandler
import json
import locale
import logging
import os
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cosyserve import __version__, errors, logs
from cosyserve.errors import CosyError
from cosyserve.host import cure, system
from cosyserve.host.machine import Machine, platform_of
from cosyserve.host.report import Language
from cosyserve.launch import ladder, memory, mpi
from cosyserve.launch.beat import STACKS_SIGNAL, to_supervisor
from cosyserve.launch.supervisor import Supervisor
from cosyserve.settings import Settings, load_settings, unknown_keys

if TYPE_CHECKING:
    from cosyserve.speech.voices import Library

log = logging.getLogger(__name__)


class _Group(click.Group):
    """Ends with the error's text and status 2 where a command raises a CosyError."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except CosyError as error:
            if to_supervisor() is None:
                click.echo(f"cosyserve: {error}", err=True)
            else:
                log.error("%s", error)
            ctx.exit(2)


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__)
def main() -> None:
    """CosyVoice2 text-to-speech on a GPU of your own: up with one command, and staying up.

    Every setting can be given as COSYSERVE_… in the environment or in .env: see docs/settings.md.
    """


@main.command()
@click.option("--host", help="Address to listen on.")
@click.option("--port", type=int, help="Port to listen on.")
@click.option("--launch", type=click.Choice(["auto", "direct", "isolated", "mpirun"]), help="How to start MPI.")
@click.pass_context
def serve(context: click.Context, host: str | None, port: int | None, launch: str | None) -> None:
    """Serve the page and the API until SIGTERM or Ctrl-C."""
    settings = load_settings(host=host, port=port, launch=launch)
    supervisor = to_supervisor()
    if supervisor is None:
        logs.start(settings)
        _warn_of_unknown_keys()
        context.exit(_supervise(settings))
    logs.start_in_server(settings)
    faulthandler.register(STACKS_SIGNAL, all_threads=True)
    mpi.initialise(settings)
    supervisor.tell("mpi")
    from cosyserve.server import run
    from cosyserve.speech.choice import choose

    run.serve(settings, choose(settings, _threads()))


def _supervise(settings: Settings) -> int:
    """The same command again, as a child on the rungs of the ladder."""
    if settings.mpi == "always" and find_spec("mpi4py") is None:
        raise CosyError(errors.MPI4PY_MISSING)
    machine = Machine()
    around = cure.look_around(machine.environ, system.usable_cores(machine))
    server = [sys.executable, "-m", "cosyserve", "serve", "--host", settings.host, "--port", str(settings.port)]
    remembered = memory.recall(settings.state_dir)
    rungs = ladder.plan(settings, platform_of(machine), server, machine.environ, around, remembered)
    return Supervisor(settings, rungs, around.tmpdir).run()


@main.command()
@click.argument("text")
@click.option("-o", "--output", help="File to write (.wav, .mp3, .opus, .aac, .flac, .pcm); - is standard output.")
@click.option("--voice", default="", help="One of the synthesizer's voices.")
@click.option("--speed", type=click.FloatRange(0.25, 4.0), default=1.0, show_default=True)
def say(text: str, output: str | None, voice: str, speed: float) -> None:
    """Speak TEXT without a server. Without -o it is played."""
    from cosyserve import saying
    from cosyserve.speech.choice import choose

    settings = load_settings()
    logs.start(settings, unasked="text")
    _warn_of_unknown_keys()
    asyncio.run(saying.say(settings, choose(settings, _threads()), text, voice, speed, output))


@main.command()
@click.option("--json", "as_json", is_flag=True, help="For scripts; docs/doctor.schema.json describes it.")
@click.option("--lang", type=click.Choice(["en", "zh"]), help="Language of the page; by default the terminal's.")
@click.option("--deep", is_flag=True, help="Import TensorRT-LLM itself where it is installed.")
@click.pass_context
def doctor(context: click.Context, as_json: bool, lang: Language | None, deep: bool) -> None:
    """Look at everything a start depends on, and change nothing.

    Ends within a minute with status 0 (all is well), 1 (warnings) or 2 (cannot serve).
    """
    from cosyserve.host.doctor import examine
    from cosyserve.host.report import page

    settings = load_settings()
    report = examine(settings, settings.models_dir, deep=deep)
    if as_json:
        click.echo(report.model_dump_json(indent=2))
    else:
        chinese = locale.getlocale()[0] or os.environ.get("LANG", "")
        click.echo(page(report, lang or ("zh" if chinese.startswith("zh") else "en"), colour=sys.stdout.isatty()))
    context.exit(report.exit_status)


@main.group()
def voices() -> None:
    """The voices of COSYSERVE_VOICES_DIR. A running server sees a change at once."""


@voices.command("list")
def list_voices() -> None:
    """Every voice, and the words of its recording."""
    for entry in _library().entries.values():
        click.echo(f"{entry.name}\t{entry.transcript}")


@voices.command("add")
@click.argument("name")
@click.argument("recording", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--transcript", default="", help="The words of the recording.")
@click.option("--consent", default="", help="Who agreed to the use of this voice, and when.")
def add_voice(name: str, recording: Path, transcript: str, consent: str) -> None:
    """Add the voice NAME from RECORDING: 1 to 30 seconds, in any common format."""
    click.echo(_library().add(name, transcript, consent, recording.read_bytes()).file)


@voices.command("remove")
@click.argument("name")
def remove_voice(name: str) -> None:
    """Remove a voice that was added, its recording included."""
    _library().remove(name)


@voices.command("import")
@click.argument("table", type=click.Path(exists=True, dir_okay=False, path_type=Path))
def import_voices(table: Path) -> None:
    """Add the voices of a spk2info.pt of CosyVoice2 or async_cosyvoice. Nothing in it is executed."""
    if find_spec("torch") is None:
        raise CosyError(errors.TORCH_MISSING)
    from cosyserve.speech import spk2info

    for name, features in spk2info.voices(table):
        click.echo(_library().adopt(name, features).name)


def _library() -> "Library":
    from cosyserve.speech.voices import Library

    return Library(load_settings().voices_dir)


@main.group()
def bench() -> None:
    """Measure CosyVoice2 on this machine, at the released size, with weights that need no file."""
    if find_spec("torch") is None:
        raise CosyError(errors.TORCH_MISSING)


@bench.command()
@click.option("--json", "as_json", is_flag=True, help="One object, once all is measured.")
def model(as_json: bool) -> None:
    """The speed of each part and of all together, for an utterance of 4.1 s. Takes about two minutes.

    In float32, in bfloat16 where the processor computes in it, and with the language model's weights in eight bits.
    """
    import torch

    from cosyserve.cosyvoice2 import measure
    from cosyserve.speech.way import processor_has_bfloat16

    _print_measured(measure.model([torch.bfloat16] if processor_has_bfloat16() else []), as_json)


@bench.command()
@click.option("--json", "as_json", is_flag=True, help="One object, once all is measured.")
@click.option("--keep", type=click.IntRange(min=1), default=5, show_default=True, help="Seconds of a bounded past.")
def streaming(as_json: bool, keep: int) -> None:
    """What a long utterance costs chunk by chunk. Takes about a quarter of an hour on two cores, and 16 GiB."""
    from cosyserve.cosyvoice2 import measure

    _print_measured(measure.streaming(keep), as_json)


@bench.command()
@click.option("--json", "as_json", is_flag=True, help="One object, once all is measured.")
@click.option("--dtype", type=click.Choice(["bfloat16", "float16", "float32"]), default="bfloat16", show_default=True)
def gpu(as_json: bool, dtype: str) -> None:
    """A CUDA device: each part, then 1, 4 and 16 streams side by side. Takes about two minutes."""
    import torch

    from cosyserve.cosyvoice2 import measure_gpu

    if not torch.cuda.is_available():
        raise CosyError(errors.NO_CUDA)
    _print_measured(measure_gpu.gpu(getattr(torch, dtype)), as_json)


def _print_measured(measured: Iterator[tuple[str, object]], as_json: bool) -> None:
    import torch

    torch.set_num_threads(_threads())
    values = {}
    for name, value in measured:
        values[name] = value
        if not as_json:
            click.echo(f"{name}: {value}")
    if as_json:
        click.echo(json.dumps(values))


def _threads() -> int:
    return max(1, int(system.usable_cores(Machine())))


def _warn_of_unknown_keys() -> None:
    for name, nearest in unknown_keys().items():
        hint = f"; did you mean {nearest}?" if nearest else ""
        log.warning("%s is not a setting%s / 没有这个配置项", name, hint)
