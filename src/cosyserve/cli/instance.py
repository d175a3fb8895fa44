"""The commands that `cosyserve deploy` runs on an instance; there, a person can run them too."""

import json
import sys
import time
from pathlib import Path
from typing import Any

import click

from cosyserve import errors
from cosyserve.errors import CosyError
from cosyserve.instance.home import Home


def say(text: str) -> None:
    if text:
        click.echo(text)
        sys.stdout.flush()


@click.group()
@click.option("--root", type=click.Path(path_type=Path), help="Folder of the installation; this one's by default.")
@click.pass_context
def instance(context: click.Context, root: Path | None) -> None:
    """Install, start and stop releases on this machine; `cosyserve deploy` calls this over SSH."""
    context.obj = Home(root.absolute()) if root else Home.of_this_process()
    if not context.obj.exists:  # and not whatever folder lies there: `uninstall` removes what it finds
        raise CosyError(errors.NOT_INSTALLED, folder=context.obj.root)


@instance.command()
@click.argument("release")
@click.option("--set", "changes", multiple=True, metavar="NAME=VALUE", help="Setting to write to shared/.env.")
@click.pass_obj
def activate(home: Home, release: str, changes: tuple[str, ...]) -> None:
    """Check RELEASE, start it, and make it the current one once it speaks."""
    from cosyserve.instance import activation

    activation.activate(home, home.release(release), dict(each.split("=", 1) for each in changes), say)


@instance.command()
@click.pass_obj
def boot(home: Home) -> None:
    """Run at boot: finish what waited for a card, then serve."""
    from cosyserve.instance import activation

    say(time.strftime("%Y-%m-%d %H:%M:%S boot · 开机"))
    activation.boot(home, say)


@instance.command()
@click.pass_obj
def restart(home: Home) -> None:
    """Restart the current release with the current settings."""
    from cosyserve.instance import activation

    activation.restart(home, say)


@instance.command()
@click.pass_obj
def rollback(home: Home) -> None:
    """Go back to the previous release; a second time returns to the newer one."""
    from cosyserve.instance import activation

    say(f"current: {activation.roll_back(home, say).name}")


@instance.command()
@click.pass_obj
def stop(home: Home) -> None:
    """Stop the server once its streams are done. It starts again at the next boot."""
    from cosyserve.instance import servers

    running = servers.running(home)
    servers.stop(home, running, say)
    say("stopped · 已停止" if running else "nothing runs · 没有在运行的服务")


@instance.command()
@click.option("--all", "everything", is_flag=True, help="Remove models, voices and settings too.")
@click.pass_obj
def uninstall(home: Home, everything: bool) -> None:
    """Stop the server and remove everything that was installed here, except models, voices and settings."""
    from cosyserve.instance import activation

    activation.uninstall(home, everything=everything, say=say)


@instance.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_obj
def status(home: Home, as_json: bool) -> None:
    """Show which release serves, where, and its state."""
    found = _status(home)
    if as_json:
        click.echo(json.dumps(found, ensure_ascii=False))
        return
    for name, value in found.items():
        click.echo(f"{name:12} {'–' if value is None else value}")


def _status(home: Home) -> dict[str, Any]:
    from cosyserve.instance import activation, hook, servers
    from cosyserve.machine import Machine
    from cosyserve.server.listening import url
    from cosyserve.settings import settings_in

    settings, running = settings_in(home.shared), servers.running(home)
    release = activation.current(home)
    state = servers.readiness(running[-1].host, running[-1].port, servers.key_of(settings)) if running else {}
    waits = activation.waits_for_card(release, Machine()) and not running
    return {
        "release": release.name,
        "releases": " ".join(each.name for each in home.releases()),
        "state": state.get("status") or ("waits for a GPU" if waits else "starting" if running else "stopped"),
        "serving": state.get("release"),
        "synthesizer": state.get("synthesizer"),
        "device": state.get("device"),
        "rung": state.get("rung"),
        "streams": state.get("active_streams"),
        "restarts": state.get("restarts"),
        "address": url(settings.host, settings.port),
        "key": _key_file(settings),
        "idle": state.get("seconds_to_shutdown"),
        "boot": "by itself" if hook.installed(home.root / "current/autodl/boot.sh") else "by hand",
        "folder": str(home.root),
    }


def _key_file(settings: Any) -> str | None:
    """The path of the key that clients have to send; None if none is needed. The key itself is told only on request."""
    from cosyserve.keys import makes_key

    if makes_key(settings):
        return str((settings.state_dir / "api_key").absolute())
    return "as set in shared/.env" if settings.auth != "off" and settings.key_list() else None


@instance.command()
@click.pass_obj
def key(home: Home) -> None:
    """Print the key that clients must send, if one was generated or set."""
    from cosyserve.instance import servers
    from cosyserve.settings import settings_in

    try:
        say(servers.key_of(settings_in(home.shared)))
    except CosyError as error:
        raise click.ClickException(str(error)) from error
