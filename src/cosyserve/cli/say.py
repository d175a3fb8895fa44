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
@click.option("--ssml", is_flag=True, help="Whether TEXT is written in SSML.")
@click.option(
    "--captions",
    type=click.Path(path_type=Path),
    help="File that says what was said when (.srt, .vtt, .json).",
)
def say(
    text: str, output: str | None, voice: str, speed: float, normalize: bool, ssml: bool, captions: Path | None
) -> None:
    """Speak TEXT without a server. TEXT may be - for standard input. Without -o the audio is played."""
    from cosyserve.say import read
    from cosyserve.say import say as speak
    from cosyserve.speech.choice import choose

    settings = load_settings()
    settings.check_paths()
    expect_ours(settings)
    logs.start(settings, unasked="text")
    warn_of_unknown_keys()
    if text == "-":
        text = read(sys.stdin.buffer, settings.max_text_chars)
    choice = choose(settings, threads())
    asyncio.run(speak(settings, choice, text, voice, speed, output, normalize=normalize, ssml=ssml, captions=captions))
