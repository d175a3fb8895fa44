"""The commands. Each module has those of one kind and is imported only for them: `fetch` must end at once if there is
nothing to fetch."""

import logging
from importlib import import_module
from typing import Any

import click

from cosyserve import __version__
from cosyserve.errors import CosyError
from cosyserve.launch.heartbeat import to_supervisor

log = logging.getLogger(__name__)

_MODULES = {
    "serve": "serve",
    "set-up": "set_up",
    "say": "say",
    "doctor": "doctor",
    "fetch": "assets",
    "models": "assets",
    "build": "assets",
    "engines": "assets",
    "voices": "voices",
    "lexicon": "lexicon",
    "keys": "keys",
    "bench": "bench",
    "deploy": "deploy",
    "instance": "instance",
    "replica": "serve",
}


class _Group(click.Group):
    """Prints the error's text and exits with status 2 if a command raises a CosyError."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_MODULES)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _MODULES:
            return None
        command: click.Command = getattr(
            import_module(f"cosyserve.cli.{_MODULES[cmd_name]}"), cmd_name.replace("-", "_")
        )
        return command

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
    """Self-hosted CosyVoice text-to-speech: starts with one command, supervised so it stays up.

    Every setting can be given as COSYSERVE_… in the environment or in .env: see docs/settings.md.
    """
