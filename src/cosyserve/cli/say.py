"""The command that speaks a text or a book, without a server or by one."""

import asyncio
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import click

from cosyserve import logs
from cosyserve.cli.shared import threads, warn_of_unknown_keys
from cosyserve.client.address import Address, address_of
from cosyserve.host.ownership import expect_ours
from cosyserve.settings import Settings, load_settings


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
@click.option(
    "--server",
    metavar="URL",
    help="A running server that speaks instead of this machine. COSYSERVE_API_KEY has its key.",
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
    server: str | None,
) -> None:
    """Speak TEXT, here or by a running server. TEXT may be - for standard input. Without -o the audio is played."""
    if (text is None) == (book is None):
        raise click.UsageError("Give either TEXT or --file.")
    if book is not None and (output in (None, "-") or ssml):
        raise click.UsageError("--file needs -o with the name of a file, and does not take --ssml.")
    settings = load_settings()
    if server is None:
        settings.check_paths()
        expect_ours(settings)
    logs.start(settings, unasked="text")
    warn_of_unknown_keys()
    if book is not None and output is not None:
        how = {"speed": speed, "title": title, "captions": captions}
        _say_book(settings, server, voice, normalize, book, Path(output), **how)
    elif text is not None:
        _say_text(settings, server, text, voice, speed, output, normalize=normalize, ssml=ssml, captions=captions)


def _say_book(
    settings: Settings, server: str | None, voice: str, normalize: bool, book: Path, output: Path, **how: Any
) -> None:
    from cosyserve.audiobook import ReaderHere, read_aloud
    from cosyserve.client.reader import ServerReader
    from cosyserve.speech.choice import choose

    if server is not None:
        longest = settings.max_audio_seconds
        there = ServerReader(*_called(settings, server), voice, longest, normalize=normalize)
        asyncio.run(read_aloud(settings, there, book, output, **how))
        return
    with closing(choose(settings, threads()).synthesizer) as synthesizer:
        here = ReaderHere(settings, synthesizer, voice, threads(), normalize=normalize)
        asyncio.run(read_aloud(settings, here, book, output, **how))


def _say_text(
    settings: Settings, server: str | None, text: str, voice: str, speed: float, output: str | None, **how: Any
) -> None:
    from cosyserve import say
    from cosyserve.client.call import Call
    from cosyserve.speech.choice import choose

    if text == "-":
        text = say.read(sys.stdin.buffer, settings.max_text_chars)
    if server is not None:
        say.say_by(settings, Call(*_called(settings, server)), text, voice, speed, output, **how)
    else:
        asyncio.run(say.say(settings, choose(settings, threads()), text, voice, speed, output, **how))


def _called(settings: Settings, server: str) -> tuple[Address, str]:
    """A server's address, and the key that it is sent. One on this machine gets its own key if no other is set."""
    address = address_of(server)
    own = settings.key_list() if address.is_here else []
    return address, settings.api_key.get_secret_value() or next(iter(own), "")
