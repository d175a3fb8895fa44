"""The command that looks at the machine."""

import sys

import click

from cosyserve.cli.serve import serve
from cosyserve.cli.shared import listens
from cosyserve.host.report import Language
from cosyserve.keys import makes_key
from cosyserve.settings import load_settings


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
