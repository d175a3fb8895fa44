"""The command that speaks without a server."""

import asyncio
import sys
from pathlib import Path

import click

from cosyserve import logs
from cosyserve.cli.shared import threads, warn_of_unknown_keys
from cosyserve.host.ownership import expect_ours
from cosyserve.settings import load_settings


@click.command()
@click.argument("text", required=False)
@click.option(
    "-f",
    "--file",
    "book",
    type=click.Path(path_type=Path),
    help="A book to speak instead of TEXT: .txt, .md or .epub. It needs -o, and goes on where it was interrupted.",
)
@click.option(
    "-o",
    "--output",
    help="File to write (.wav, .mp3, .opus, .aac, .flac, .pcm; of a book also .m4b); - writes to standard output.",
)
@click.option("--title", default="", help="Title of the book for the file's metadata.")
@click.option("--voice", default="", help="One of the synthesizer's voices.")
@click.option("--speed", type=click.FloatRange(0.25, 4.0), default=1.0, show_default=True)
@click.option(
    "--normalize/--no-normalize",
    default=True,
    help="Whether to write out numbers and signs, or to pass the text on unchanged.",
)
@click.option("--ssml", is_flag=True, help="Whether TEXT is written in SSML.")
@click.option(
    "--captions",
    type=click.Path(path_type=Path),
    help="File that says what was said when (.srt, .vtt, .json).",
)
def say(
    text: str | None,
    book: Path | None,
    output: str | None,
    title: str,
    voice: str,
    speed: float,
    normalize: bool,
    ssml: bool,
    captions: Path | None,
) -> None:
    """Speak TEXT without a server. TEXT may be - for standard input. Without -o the audio is played."""
    from cosyserve.audiobook import read_aloud
    from cosyserve.say import read
    from cosyserve.say import say as speak
    from cosyserve.speech.choice import choose

    if (text is None) == (book is None):
        raise click.UsageError("Give either TEXT or --file.")
    if book is not None and (output in (None, "-") or ssml):
        raise click.UsageError("--file needs -o with the name of a file, and does not take --ssml.")
    settings = load_settings()
    settings.check_paths()
    expect_ours(settings)
    logs.start(settings, unasked="text")
    warn_of_unknown_keys()
    if text == "-":
        text = read(sys.stdin.buffer, settings.max_text_chars)
    choice = choose(settings, threads())
    if book is not None and output is not None:
        asyncio.run(
            read_aloud(
                settings,
                choice,
                book,
                Path(output),
                voice=voice,
                speed=speed,
                normalize=normalize,
                title=title,
                captions=captions,
                at_once=threads(),
            )
        )
    elif text is not None:
        asyncio.run(
            speak(settings, choice, text, voice, speed, output, normalize=normalize, ssml=ssml, captions=captions)
        )
