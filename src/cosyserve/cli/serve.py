"""The commands that serve."""

import logging
import os
import signal
import sys
import threading
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cosyserve import errors, logs
from cosyserve.assets.backend import ENGINE, engine_for
from cosyserve.assets.build import Build
from cosyserve.cli.assets import build
from cosyserve.cli.shared import listens, threads, warn_of_unknown_keys
from cosyserve.errors import CosyError
from cosyserve.host.ownership import expect_ours
from cosyserve.host.surroundings import surroundings_of
from cosyserve.keys import expect_keys
from cosyserve.launch import ladder, memory, mpi, stacks
from cosyserve.launch.flag import Flag
from cosyserve.launch.heartbeat import Sender, folder_of_start, to_supervisor
from cosyserve.launch.supervisor import ENGINE_UNUSABLE, Supervisor
from cosyserve.machine import Machine, platform_of
from cosyserve.scale.ray_env import ray_env
from cosyserve.server.listening import expect_free
from cosyserve.server.wyoming import address as wyoming
from cosyserve.settings import Settings, load_settings
from cosyserve.store.engines import Engine, Engines
from cosyserve.traces import start as traces

if TYPE_CHECKING:
    from cosyserve.speech.choice import Choice

log = logging.getLogger(__name__)


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
        warn_of_unknown_keys()
        wyoming.expect_usable(settings, is_free=not take_over)
        if not take_over:
            expect_free(settings.host, settings.port)  # now, and not once a model is loaded
        expect_keys(settings)  # before anything is started that they would be wrong for
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
    """Started by an actor of Ray Serve: a launch whose server listens on the Unix socket PLACE.

    It ends when its input ends, and when its server does; restarting is Serve's task.
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
    """Starts MPI first, so that nothing loaded before can be what hangs."""
    logs.start_in_server(settings)
    stacks.offer(folder_of_start())
    mpi.initialise()
    supervisor.send("mpi")
    traces.start()


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
    """The parent process holds the other end of the input, so its end, of whatever kind, stops this one."""

    def wait() -> None:
        while os.read(0, 1024):
            pass
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=wait, daemon=True).start()


def _supervise(
    settings: Settings, command: list[str], for_ray: Mapping[str, str] | None = None, *, keeps_up: bool = True
) -> int:
    """The same command again, as a child on the rungs of the ladder. A server that lets replicas speak, and runs in
    Ray's environment, needs no MPI."""
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
    """Rebuild an engine that cannot be loaded, once. Returns whether there is one now."""
    if not Engines(settings.models_dir).give_up(engine):
        return False
    try:
        Build(settings, Machine(), engine.key.shape, log.info, stopping=stopping).run()
    except CosyError as error:
        log.error("%s", error)
        return False
    return True
