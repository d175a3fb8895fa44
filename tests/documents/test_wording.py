"""House rules for the English of documents and messages, beside those of proselint.

Each row is a turn that readers stumbled over, and what to write instead. Add a row when a turn keeps coming back and
its plain form fits in every place.
"""

import re
from collections.abc import Iterator

import click
import pytest

from cosyserve.cli import main
from cosyserve.errors import CATALOGUE
from cosyserve.settings import Settings
from tests.documents.reading import name_of, pages, tokens

PLAIN = {
    r"\bbut for\b": "except, except for",
    r"\banew\b": "again, from scratch",
    r"\bwhosever\b": "anybody's, for any reason",
    r"\bwhat [^.,;:|]{3,60}, (?:is|are)\b": "subject first: 'X is Y'",
    r"\bcomes? to nothing\b": "is empty, has no effect",
    r"(?<!there )\b(?:is|are|was|were) no (?!longer\b|more\b|less\b|\w+er\b)": "is not a, are not",
    r"\b(?:is|are|was|were|may|can) (?:to )?be had\b": "is available, can be downloaded",
    r"\blest\b": "so that … not",
    r"\bthe which\b|\bwhereof\b|\bthereof\b|\bwhence\b": "of which, from where",
}
CHINESE = re.compile(r"[\u4e00-\u9fff]")


def prose() -> Iterator[tuple[str, str]]:
    """Each line of the documents' text, without code, and where it is."""
    for page in pages():
        for token in tokens(page):
            text = "".join(child.content if child.type == "text" else " " for child in token.children or [])
            if text and not CHINESE.search(text):
                yield f"{name_of(page)}:{(token.map or [0])[0] + 1}", text


def helps(command: click.Command) -> Iterator[tuple[str, str]]:
    yield command.name or "", command.help or ""
    for option in command.params:
        yield f"{command.name} {option.name}", getattr(option, "help", None) or ""
    if isinstance(command, click.Group):
        for name in command.list_commands(context := click.Context(command)):
            if inner := command.get_command(context, name):
                yield from helps(inner)


def said() -> Iterator[tuple[str, str]]:
    yield from prose()
    yield from helps(main)
    for fault in CATALOGUE:
        yield fault.id, f"{fault.cause} {fault.remedy}"
    for name, field in Settings.model_fields.items():
        yield name, field.description or ""


@pytest.mark.parametrize("turn", PLAIN, ids=PLAIN.values())
def test_what_is_said_is_said_plainly(turn: str) -> None:
    found = [f"{where}: {match[0]}" for where, text in said() for match in re.finditer(turn, text, re.IGNORECASE)]
    assert not found, f"write: {PLAIN[turn]}"


def test_documents_and_help_texts_are_read() -> None:
    where = {place.partition(":")[0] for place, _ in said()}
    assert {"README.md", "docs/design.md", "serve", "host", CATALOGUE[0].id} <= where


@pytest.mark.parametrize(
    ("turn", "text"),
    [
        (r"\bbut for\b", "Pure, but for one."),
        (next(turn for turn in PLAIN if "no (" in turn), "It is no program."),
        (next(turn for turn in PLAIN if turn.startswith(r"\bwhat")), "What it sends to them, is silent."),
    ],
)
def test_the_rules_find_what_they_are_for(turn: str, text: str) -> None:
    assert re.search(turn, text, re.IGNORECASE)


def test_there_is_no_is_plain() -> None:
    turn = next(turn for turn in PLAIN if "no (" in turn)
    assert not re.search(turn, "There is no card, and there are no engines. It is no longer here.", re.IGNORECASE)
