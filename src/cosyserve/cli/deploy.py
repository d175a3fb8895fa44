"""`cosyserve deploy`: an instance over SSH, from an empty data disk to a server that speaks."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar, get_args

import click

from cosyserve import errors
from cosyserve.errors import CosyError
from cosyserve.remote import deployment
from cosyserve.remote.bundle import Flavour
from cosyserve.remote.deployment import Prepared, WorkEndedError
from cosyserve.remote.machine import BrokenOffError, Here, Machine, Ssh
from cosyserve.remote.plan import DEFAULT_FOLDER, Options, as_text
from cosyserve.remote.target import Target, tunnel

_Function = TypeVar("_Function", bound=Callable[..., Any])
_PATH = click.Path(path_type=Path, exists=True, dir_okay=False)

_CONNECTION = (
    click.option("--ssh", "address", help="root@HOST:PORT, or AutoDL's login line in quotes."),
    click.option("--here", is_flag=True, help="Work on this machine, which is the instance."),
    click.option("--identity", type=_PATH, help="Private key; by default ssh chooses, including from an agent."),
    click.option("--password-file", type=_PATH, help="File with the password; without one you are asked for it."),
    click.option("--ssh-config", type=_PATH, help="File to use instead of ~/.ssh/config."),
    click.option(
        "--folder", default=DEFAULT_FOLDER, show_default=True, help="Folder of the installation on the instance."
    ),
)


def _connected(function: _Function) -> _Function:
    for option in reversed(_CONNECTION):
        function = option(function)
    return function


@contextmanager
def _machine(connection: dict[str, Any]) -> Iterator[Machine]:
    if connection["here"] == bool(connection["address"]):
        raise click.UsageError("give either --ssh root@HOST:PORT or --here")
    machine: Machine = Here()
    if not connection["here"]:
        machine = Ssh(
            Target.parse(connection["address"]),
            identity=connection["identity"],
            password_file=connection["password_file"],
            config=connection["ssh_config"],
        )
    try:
        yield machine
    finally:
        machine.close()


def _show(piece: bytes) -> None:
    sys.stdout.buffer.write(piece)
    sys.stdout.flush()


@click.group()
def deploy() -> None:
    """Install and manage CosyServe on a rented instance over SSH."""


@deploy.command()
@_connected
@click.option("--plan", "only_plan", is_flag=True, help="Print every command, file and reason, and do nothing.")
@click.option(
    "--release",
    "sources",
    type=click.Path(path_type=Path),
    default=Path(),
    help="Clone to deploy from; this one by default.",
)
@click.option(
    "--flavour", type=click.Choice(get_args(Flavour)), help="What to install; by default what the card supports."
)
@click.option("--port", type=click.IntRange(1, 65535), help="Port of the server; 6008 unless set before.")
@click.option(
    "--public/--private",
    default=None,
    help="Let other machines connect, with a key; private allows only the SSH tunnel.",
)
@click.option("--idle-shutdown", type=click.FloatRange(0), help="Switch the instance off after this many idle minutes.")
@click.option("--index", "indexes", multiple=True, help="Package index to try, in China a mirror. May be repeated.")
@click.option(
    "--torch-index", help="Index with PyTorch's builds for the card's CUDA, in China a mirror of PyTorch's index."
)
@click.pass_context
def autodl(
    context: click.Context,
    /,
    only_plan: bool,
    sources: Path,
    flavour: Flavour | None,
    port: int | None,
    public: bool | None,
    idle_shutdown: float | None,
    indexes: tuple[str, ...],
    torch_index: str | None,
    **connection: Any,
) -> None:
    """Install or upgrade the server on the instance. Run it again to repair an installation that was interrupted."""
    began = time.monotonic()
    options = Options(connection["folder"].rstrip("/"), flavour, port, public, idle_shutdown, indexes, torch_index)
    with _machine(connection) as machine:
        prepared = deployment.prepare(machine, sources.absolute(), options)
        if only_plan:
            click.echo(as_text(prepared.plan), nl=False)
            return
        for note in prepared.plan.notes:
            click.echo(f"{note.en} · {note.zh}")
        try:
            deployment.carry_out(machine, prepared.plan, options.folder, click.echo, _show)
        except WorkEndedError:
            context.exit(2)
        except KeyboardInterrupt:
            click.echo("\nWhat was begun goes on there; the same command watches on.", err=True)
            click.echo("已开始的工作会在实例上继续，重新运行同一命令可继续查看。", err=True)
            context.exit(130)
        _tell(machine, prepared, options, connection["address"], time.monotonic() - began)


def _tell(machine: Machine, prepared: Prepared, options: Options, address: str | None, seconds: float) -> None:
    """Prints what a user wants to know now: where the server is, how to get in, and what it costs."""
    status = deployment.look(machine, options.folder).status
    port, is_open = prepared.plan.port, not str(status.get("address", "")).startswith("http://127.")
    click.echo(f"\n{prepared.plan.release}: {status.get('state', 'unknown')} ({seconds:.0f} s)")
    if status.get("state") == "waits for a GPU":
        click.echo("  the server starts by itself at the next boot with a card · 下次有卡开机时自动启动")
        return
    click.echo(f"  on the instance · 实例内:  http://127.0.0.1:{port}/")
    if address:
        click.echo(f"  from here · 本机隧道:      {Target.parse(address).tunnel(port)}")
    else:
        click.echo(f"  from your own computer · 在自己的电脑上: {tunnel(port)}")
        click.echo("                             HOST, PORT: as in your SSH login line · 见控制台的 SSH 登录指令")
    click.echo(f"                             then open · 然后打开 http://127.0.0.1:{port}/")
    public = deployment.public_address(prepared.instance, port)
    if public and is_open:
        click.echo(f"  public, where your account may · 公网（视账户权限）: {public}")
    elif public:
        click.echo(f"  AutoDL can publish it at {public}: --public lets others in · 如需公开请加 --public")
    if status.get("key"):
        click.echo("  key · 密钥: ", nl=False)
        deployment.command(machine, options.folder, ["key"], _show)
    elif is_open:
        click.echo("  ANYBODY may use it: COSYSERVE_AUTH=off stands in shared/.env · 未设密钥，任何人都可以使用")
    click.echo("  It costs money until you run `shutdown` there, or in the console · 关机（shutdown）前持续计费")


def _relay(context: click.Context, connection: dict[str, Any], *arguments: str) -> None:
    with _machine(connection) as machine:
        context.exit(deployment.command(machine, connection["folder"].rstrip("/"), list(arguments), _show))


@deploy.command()
@_connected
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_context
def status(context: click.Context, /, as_json: bool, **connection: Any) -> None:
    """Show which release serves, where, and its state."""
    _relay(context, connection, "status", *(["--json"] if as_json else []))


@deploy.command()
@_connected
@click.pass_context
def restart(context: click.Context, /, **connection: Any) -> None:
    """Restart the server with the settings in shared/.env, without cutting off streams."""
    _relay(context, connection, "restart")


@deploy.command()
@_connected
@click.pass_context
def rollback(context: click.Context, /, **connection: Any) -> None:
    """Go back to the previous release."""
    _relay(context, connection, "rollback")


@deploy.command()
@_connected
@click.pass_context
def stop(context: click.Context, /, **connection: Any) -> None:
    """Stop the server once its streams are done. The instance keeps costing money."""
    _relay(context, connection, "stop")


@deploy.command()
@_connected
@click.option("--all", "everything", is_flag=True, help="Remove models, voices and settings too.")
def uninstall(everything: bool, **connection: Any) -> None:
    """Remove everything that was installed, except models, voices and settings."""
    with _machine(connection) as machine:
        deployment.uninstall(machine, connection["folder"].rstrip("/"), everything=everything, take=_show)


@deploy.command()
@_connected
@click.option("--lines", type=click.IntRange(1), default=100, show_default=True)
@click.option("--follow", is_flag=True, help="Keep printing until Ctrl-C.")
@click.pass_context
def logs(context: click.Context, /, lines: int, follow: bool, **connection: Any) -> None:
    """Show the server's log."""
    folder = connection["folder"].rstrip("/")
    with _machine(connection) as machine:
        try:
            outcome, _ = machine.run(deployment.log_lines(folder, lines, follows=follow), take=_show)
        except BrokenOffError:
            raise CosyError(errors.COMMAND_BROKEN_OFF, command="logs") from None
    if outcome == 78:
        raise CosyError(errors.NOT_INSTALLED, folder=folder)
    context.exit(outcome)
