"""The commands for named keys."""

from collections.abc import Callable
from typing import Any

import click

from cosyserve.command import into_container
from cosyserve.keys import made_key, makes_key
from cosyserve.keys.key import MOST_OF_A_LIMIT, NO_LIMITS, PRIORITIES, Limits, NamedKey, Priority
from cosyserve.keys.key_file import KeyFile
from cosyserve.settings import KEY_FILE, Settings, load_settings

_COLUMNS = ("name", "priority", "created", "requests/min", "characters/min", "requests today", "characters today")


def _limits(command: Callable[..., None]) -> Callable[..., None]:
    """Options for the four limits and the priority; None for what is not given."""
    for name in reversed(Limits.model_fields):
        what, _, window = name.replace("_", " ").partition(" per ")
        told = f"Most {what} a {window}; 0 means without a limit."
        command = click.option(f"--{name.replace('_', '-')}", type=click.IntRange(0, MOST_OF_A_LIMIT), help=told)(
            command
        )
    told = "Whose requests go first when they have to wait. [default: normal]"
    return click.option("--priority", type=click.Choice(PRIORITIES), help=told)(command)


@click.group()
def keys() -> None:
    """Give out API keys with names and limits, and take them back. A running server sees changes at once."""


@keys.command("add")
@click.argument("name")
@_limits
def add_key(name: str, priority: Priority | None, **limits: int | None) -> None:
    """Make a key named NAME and print it, this once: only its hash is kept."""
    settings = load_settings()
    first = not (file := KeyFile(settings.state_dir)).exists
    key = file.add(name, priority or "normal", _changed(NO_LIMITS, limits))
    if first and makes_key(settings):
        made_key(settings)  # the owner needs one, too, from now on
        _tell_of_main_key(settings)
    click.echo(key)


@keys.command("set")
@click.argument("name")
@_limits
def set_key(name: str, priority: Priority | None, **limits: int | None) -> None:
    """Change the priority or the limits of the key NAME. What is not given stays."""

    def changed(key: NamedKey) -> NamedKey:
        update = {"priority": priority or key.priority, "limits": _changed(key.limits, limits)}
        return key.model_copy(update=update)

    KeyFile(load_settings().state_dir).change(name, changed)


@keys.command("list")
def list_keys() -> None:
    """List every named key, its limits, and what it has used today. A minus means without a limit."""
    from cosyserve.server.usage import Usage

    settings = load_settings()
    usage = Usage(settings.state_dir)
    click.echo("\t".join(_COLUMNS))
    for key in KeyFile(settings.state_dir).read():
        used, limits = usage.of(key.name), key.limits
        click.echo(
            f"{key.name}\t{key.priority}\t{key.created}\t"
            f"{_shown(limits.requests_per_minute)}\t{_shown(limits.characters_per_minute)}\t"
            f"{used.requests} of {_shown(limits.requests_per_day)}\t"
            f"{used.characters} of {_shown(limits.characters_per_day)}"
        )


@keys.command("revoke")
@click.argument("name")
def revoke_key(name: str) -> None:
    """Let the key NAME open nothing any more. Streams that have begun are finished."""
    KeyFile(load_settings().state_dir).revoke(name)


def _changed(limits: Limits, given: dict[str, int | None]) -> Limits:
    changes: dict[str, Any] = {name: value or None for name, value in given.items() if value is not None}
    return Limits.model_validate({**limits.model_dump(), **changes})


def _shown(limit: int | None) -> str:
    return "-" if limit is None else str(limit)


def _tell_of_main_key(settings: Settings) -> None:
    shown_by = f"{into_container()}cat {settings.state_dir / KEY_FILE}"
    click.echo(f"From now on every request needs a key. Your own is shown by: {shown_by}", err=True)
    click.echo(f"从现在起，每个请求都需要密钥。以下命令显示您自己的密钥：{shown_by}", err=True)
