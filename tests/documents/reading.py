"""The documents as tests read them: blocks and the commands in them, marks, links and anchors.

A block of commands is run by tests/documents/test_commands.py unless a comment before it, which no reader sees, says
otherwise, for all of it or for one command in backticks:

    <!-- not run: REASON -->
    <!-- not run: `make test`: REASON -->
    <!-- run by tests/FILE.py: `make run-local` -->
    <!-- may end with 1: REASON -->
"""

import re
import shlex
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from markdown_it import MarkdownIt
from markdown_it.token import Token

from tests.running import ROOT

COMMANDS = {"sh", "python", "dotenv", "js", "console"}
"""What a block of commands is called; `console` shows what is answered as well."""
OTHERS = {"", "json", "mermaid"}
_MARK = re.compile(
    r"<!-- (?P<what>not run|run by (?P<file>\S+?)|may end with (?P<status>\d+))"
    r"(?:: `(?P<command>[^`]+)`)?(?:: (?P<reason>.+?))? -->"
)
_ASSIGNMENT = re.compile(r"[A-Z_]+=")


@dataclass(frozen=True)
class Mark:
    what: str
    file: str | None
    status: int | None
    command: str | None
    reason: str | None

    def covers(self, command: str) -> bool:
        return self.command is None or command.startswith(self.command)


@dataclass(frozen=True)
class Block:
    page: Path
    line: int
    kind: str
    text: str
    marks: tuple[Mark, ...]

    def __str__(self) -> str:
        return f"{name_of(self.page)}:{self.line}"

    @property
    def commands(self) -> list[str]:
        """One a command, without its comment; of a console what was typed."""
        text = self.text.replace("\\\n", " ")
        lines = [line.strip() for line in text.splitlines()]
        if self.kind == "console":
            lines = [line[2:] for line in lines if line.startswith("$ ")]
        return [without for line in lines if (without := re.sub(r"(^|\s)#.*", "", line).strip())]

    def mark_of(self, command: str) -> Mark | None:
        """Why a command is not run here, where that is so."""
        return next((mark for mark in self.marks if mark.status is None and mark.covers(command)), None)

    @property
    def statuses(self) -> set[int]:
        return {0, *(mark.status for mark in self.marks if mark.status is not None)}


def pages() -> list[Path]:
    """Every document of the project, also one that is not committed yet."""
    listed = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.md"]
    names = subprocess.check_output(listed, cwd=ROOT, text=True).splitlines()
    return [ROOT / name for name in sorted(set(names)) if (ROOT / name).is_file()]


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


def tokens(page: Path) -> list[Token]:
    return MarkdownIt("commonmark").enable("table").parse(page.read_text(encoding="utf-8"))


def blocks(page: Path) -> list[Block]:
    found: list[Block] = []
    comments: list[str] = []
    for token in tokens(page):
        if token.type == "html_block":
            comments.append(token.content)
            continue
        if token.type == "fence":
            marks = tuple(map(_mark, re.findall(r"<!--.*?-->", "".join(comments), flags=re.S)))
            found.append(Block(page, (token.map or [0])[0] + 1, token.info.strip(), token.content, marks))
        comments = []
    return found


def _mark(comment: str) -> Mark:
    found = _MARK.fullmatch(" ".join(comment.split()))
    assert found, f"no mark: {comment}"
    status = found["status"]
    return Mark(found["what"], found["file"], int(status) if status else None, found["command"], found["reason"])


def spans(page: Path) -> Iterator[tuple[int, str]]:
    """What stands in backticks within the text, with its line."""
    for token in tokens(page):
        for child in token.children or []:
            if child.type == "code_inline":
                yield (token.map or [0])[0] + 1, child.content


def links(page: Path) -> list[str]:
    inner = [child for token in tokens(page) for child in token.children or []]
    return [str(child.attrs[name]) for child in inner for name in ("href", "src") if name in child.attrs]


def anchors(page: Path) -> set[str]:
    """The anchors of its headings, as GitHub and GitLab name them."""
    seen: dict[str, int] = {}
    found = set()
    for token, inline in pairwise(tokens(page)):
        if token.type != "heading_open":
            continue
        text = "".join(child.content for child in inline.children or [] if child.type in ("text", "code_inline"))
        slug = re.sub(r"[^\w\- ]", "", text.strip().lower()).replace(" ", "-")
        number = seen[slug] = seen.get(slug, -1) + 1
        found.add(f"{slug}-{number}" if number else slug)
    return found


def words(command: str) -> list[str]:
    """A command's words without settings before it, and without the brackets of a synopsis."""
    try:
        split = shlex.split(command.replace("[", " ").replace("]", " "), comments=True)
    except ValueError:  # an apostrophe of a text that is no command
        return []
    while split and _ASSIGNMENT.match(split[0]):
        split.pop(0)
    return split
