"""The commands. Each module has those of one kind."""

import logging
from typing import Any

import click

from cosyserve import __version__
from cosyserve.cli import assets, bench, serving, voices
from cosyserve.errors import CosyError
from cosyserve.launch.beat import to_supervisor

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


for command in (
    serving.serve,
    serving.say,
    serving.doctor,
    assets.fetch,
    assets.models,
    assets.build,
    assets.engines,
    voices.voices,
    bench.bench,
):
    main.add_command(command)
