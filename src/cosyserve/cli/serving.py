"""The commands that speak, and the one that looks."""

import asyncio
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cosyserve import errors, logs
from cosyserve.assets.backend import ENGINE, engine_for
from cosyserve.assets.build import Build
from cosyserve.cli.assets import build
from cosyserve.errors import CosyError
from cosyserve.host import system
from cosyserve.host.ownership import expect_ours
from cosyserve.host.report import Language
from cosyserve.host.surroundings import surroundings_of
from cosyserve.keys import made_key, makes_key
from cosyserve.launch import ladder, memory, mpi, stacks
from cosyserve.launch.flag import Flag
from cosyserve.launch.heartbeat import Sender, folder_of_start, to_supervisor
from cosyserve.launch.supervisor import ENGINE_UNUSABLE, Supervisor
from cosyserve.machine import Machine, platform_of
from cosyserve.scale.ray_env import ray_env
from cosyserve.server.listening import expect_free
from cosyserve.settings import Settings, load_settings, unknown_keys
from cosyserve.store.engines import Engine, Engines

if TYPE_CHECKING:
    from cosyserve.speech.choice import Choice

log = logging.getLogger(__name__)


def listens(command: Callable[..., None]) -> Callable[..., None]:
    """The options that say where a server listens."""
    port = click.option("--port", type=int, help="Port to listen on.")
    return click.option("--host", help="Address to listen on.")(port(command))


@click.command()
@listens
@click.option("--launch", type=click.Choice(["auto", "direct", "isolated", "mpirun"]), help="How to start MPI.")
@click.option("--replicas", type=int, help="Number of replicas, each on a card or an equal share of one (Ray Serve).")
@click.option("--take-over", is_flag=True, help="Replace the server that runs there without cutting off its streams.")
@click.pass_context
def serve(
    context: click.Context,
    host: str | None,
    port: int | None,
    launch: str | None,
    replicas: int | None,
    take_over: bool,
) -> None:
    """Serve the page and the API until SIGTERM or Ctrl-C."""
    settings = load_settings(host=host, port=port, launch=launch, replicas=replicas)
    settings.check_paths()
    supervisor = to_supervisor()
    if supervisor is None:
        expect_ours(settings)
        logs.start(settings)
        _warn_of_unknown_keys()
        if not take_over:
            expect_free(settings.host, settings.port)  # now, and not once a model is loaded
        if makes_key(settings):
            made_key(settings)  # before anything is started that it would be wrong for
        if settings.replicas and find_spec("ray") is None:
            raise CosyError(errors.RAY_MISSING)
        server = ["serve", "--host", settings.host, "--port", str(settings.port)]
        server += ["--replicas", str(settings.replicas)] if settings.replicas else []
        server += ["--take-over"] if take_over else []
        context.exit(_supervise(settings, server, ray_env() if settings.replicas else None))
    _start_as_child(settings, supervisor)
    from cosyserve.server import run
    from cosyserve.server.handover import has_predecessor

    if settings.replicas:
        from cosyserve.scale import local

        with local.replicas(settings, threads()) as (choice, fleet):
            run.serve(settings, choice, take_over=take_over, fleet=fleet)
    else:
        relieves = take_over and has_predecessor(settings.state_dir, settings.host, settings.port)
        run.serve(settings, _chosen(context, settings, relieves=relieves), take_over=take_over)


@click.command(hidden=True)
@click.argument("place", type=click.Path(path_type=Path))
@click.pass_context
def replica(context: click.Context, place: Path) -> None:
    """What an actor of Ray Serve starts: a launch like any, whose server speaks over the Unix socket PLACE.

    It ends with its input, and when its server does: to begin again is Serve's business.
    """
    settings = load_settings().model_copy(update={"log_file": None, "idle_shutdown_minutes": 0})
    settings.check_paths()
    supervisor = to_supervisor()
    if supervisor is None:
        expect_ours(settings)
        logs.start(settings)
        _end_with_input()
        context.invoke(build, if_possible=True)
        context.exit(_supervise(settings, ["replica", str(place)], keeps_up=False))
    _start_as_child(settings, supervisor)
    from cosyserve.scale import worker

    worker.serve(settings, _chosen(context, settings), place, supervisor)


def _start_as_child(settings: Settings, supervisor: Sender) -> None:
    """MPI first: nothing that was loaded before may be what hangs."""
    logs.start_in_server(settings)
    stacks.offer(folder_of_start())
    mpi.initialise()
    supervisor.send("mpi")


def _chosen(context: click.Context, settings: Settings, *, relieves: bool = False) -> "Choice":
    from cosyserve.speech.choice import choose

    try:
        return choose(settings, threads(), relieves=relieves)
    except CosyError as error:
        if error.fault is not errors.ENGINE_UNUSABLE:
            raise
        log.error("%s", error)
        context.exit(ENGINE_UNUSABLE)


def _end_with_input() -> None:
    """Whoever started us holds the other end, so that we are told to stop however he ends."""

    def wait() -> None:
        while os.read(0, 1024):
            pass
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=wait, daemon=True).start()


def _supervise(
    settings: Settings, command: list[str], for_ray: Mapping[str, str] | None = None, *, keeps_up: bool = True
) -> int:
    """The same command again, as a child on the rungs of the ladder.

    One that has others speak, for whose Ray there is an environment, needs no MPI.
    """
    speaks = for_ray is None
    if settings.mpi == "always" and find_spec("mpi4py") is None:
        raise CosyError(errors.MPI4PY_MISSING)
    machine = Machine()
    around = surroundings_of(machine)
    server = [sys.executable, "-m", "cosyserve", *command]
    remembered = memory.recall(settings.state_dir)
    engine = engine_for(settings, machine) if speaks else None
    environ = {**machine.environ, **({ENGINE: str(engine.folder)} if engine else {}), **(for_ray or {})}
    mpi_is = "always" if engine else settings.mpi if speaks else "auto"
    needs = settings.model_copy(update={"mpi": mpi_is})
    rungs = ladder.plan(needs, platform_of(machine), server, environ, around, remembered)

    def mend(stopping: Flag) -> bool:
        return engine is not None and _rebuilt(settings, engine, stopping)

    return Supervisor(settings, rungs, around.tmpdir, mend, keeps_up=keeps_up).run()


def _rebuilt(settings: Settings, engine: Engine, stopping: Flag) -> bool:
    """Make an engine anew that cannot be loaded, unless that has been done before; whether there is one now."""
    if not Engines(settings.models_dir).give_up(engine):
        return False
    try:
        Build(settings, Machine(), engine.key.shape, log.info, stopping=stopping).run()
    except CosyError as error:
        log.error("%s", error)
        return False
    return True


@click.command()
@click.argument("text")
@click.option(
    "-o", "--output", help="File to write (.wav, .mp3, .opus, .aac, .flac, .pcm); - writes to standard output."
)
@click.option("--voice", default="", help="One of the synthesizer's voices.")
@click.option("--speed", type=click.FloatRange(0.25, 4.0), default=1.0, show_default=True)
@click.option(
    "--normalize/--no-normalize",
    default=True,
    help="Whether to write out numbers and signs, or to pass the text on unchanged.",
)
def say(text: str, output: str | None, voice: str, speed: float, normalize: bool) -> None:
    """Speak TEXT without a server. TEXT may be - for standard input. Without -o the audio is played."""
    from cosyserve.say import read
    from cosyserve.say import say as speak
    from cosyserve.speech.choice import choose

    settings = load_settings()
    settings.check_paths()
    expect_ours(settings)
    logs.start(settings, unasked="text")
    _warn_of_unknown_keys()
    if text == "-":
        text = read(sys.stdin.buffer, settings.max_text_chars)
    asyncio.run(speak(settings, choose(settings, threads()), text, voice, speed, output, normalize=normalize))


@click.command()
@listens
@click.option("--json", "as_json", is_flag=True, help="Print JSON, as docs/doctor.schema.json describes it.")
@click.option("--lang", type=click.Choice(["en", "zh"]), help="Language of the output; the terminal's by default.")
@click.option("--deep", is_flag=True, help="Import TensorRT-LLM itself if it is installed.")
@click.option("--quick", is_flag=True, help="Skip starting MPI and the network.")
@click.argument("serve_arguments", nargs=-1, type=click.UNPROCESSED)
@click.pass_context
def doctor(
    context: click.Context,
    host: str | None,
    port: int | None,
    as_json: bool,
    lang: Language | None,
    deep: bool,
    quick: bool,
    serve_arguments: tuple[str, ...],
) -> None:
    """Check everything that a start depends on, without changing anything. `-- serve …` gives the start's arguments.

    Ends within a minute with status 0 (all is well), 1 (warnings) or 2 (cannot serve).
    """
    from cosyserve.host.doctor import examine
    from cosyserve.host.report import language, page

    given = serve.make_context("serve", list(serve_arguments[1:]), resilient_parsing=True).params
    settings = load_settings(host=host or given["host"], port=port if port is not None else given["port"])
    report = examine(settings, settings.models_dir, key_is_made=makes_key(settings), deep=deep, quick=quick)
    if as_json:
        click.echo(report.model_dump_json(indent=2))
    else:
        click.echo(page(report, lang or language(), colour=sys.stdout.isatty()))
    context.exit(report.exit_status)


def threads() -> int:
    """As many as there are cores, or fewer where somebody has shared them out."""
    cores = max(1, int(system.usable_cores(Machine())))
    share = os.environ.get("OMP_NUM_THREADS", "")
    return min(cores, int(share)) if share.isdecimal() and int(share) else cores


def _warn_of_unknown_keys() -> None:
    for name, nearest in unknown_keys().items():
        hint = f"; did you mean {nearest}?" if nearest else ""
        log.warning("%s is not a setting%s / 没有这个配置项", name, hint)
