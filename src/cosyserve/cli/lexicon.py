"""The commands for the lexicon."""

from typing import TYPE_CHECKING

import click

from cosyserve.settings import load_settings

if TYPE_CHECKING:
    from cosyserve.speech.lexicon import Lexicon

_voice = click.option("--voice", default="", help="The only voice that the entry is for; all voices by default.")


@click.group()
def lexicon() -> None:
    """Say how single words are said. A running server sees changes at once."""


@lexicon.command("list")
def list_words() -> None:
    """List every entry: word, respelling, pinyin or phonemes, voice."""
    for entry in _lexicon().entries:
        click.echo("\t".join((entry.word, entry.respelling, entry.pinyin or entry.phonemes, entry.voice)))


@lexicon.command("set")
@click.argument("word")
@click.option("--respelling", default="", help="What is said instead, as if it had been written.")
@click.option("--pinyin", default="", help="Syllables with their tones, as 'hang2 zhang3'.")
@click.option("--phonemes", default="", help="CMU's phonemes, as 'HH AH0 L OW1'.")
@_voice
def set_word(word: str, respelling: str, pinyin: str, phonemes: str, voice: str) -> None:
    """Say how WORD is said, or change it."""
    from cosyserve.text.lexicon import Pronunciation

    _lexicon().put(Pronunciation(word, respelling, pinyin, phonemes, voice))


@lexicon.command("remove")
@click.argument("word")
@_voice
def remove_word(word: str, voice: str) -> None:
    """Say WORD as it is written again."""
    _lexicon().remove(word, voice)


def _lexicon() -> "Lexicon":
    from cosyserve.speech.lexicon import Lexicon

    return Lexicon(load_settings().voices_dir)
