"""Which benchmarks there are. Read from their source, since many import what not every machine has."""

import ast
import re
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).parent.parent


@dataclass(frozen=True)
class Entry:
    name: str
    about: str
    needs: str


def entries() -> list[Entry]:
    found = []
    for path in sorted(FOLDER.glob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for node in tree.body:
            if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "BENCHMARK":
                found.append(Entry(path.stem, _first_sentence(ast.get_docstring(tree) or ""), _needs(node.value)))
    return found


def _first_sentence(text: str) -> str:
    """Without the command that may follow it."""
    return re.sub(r":? *python -m .*", "", " ".join(text.partition("\n\n")[0].split())).rstrip(".")


def _needs(call: ast.expr) -> str:
    given = {each.arg: each.value for each in call.keywords} if isinstance(call, ast.Call) else {}
    value = given.get("needs")
    return str(ast.literal_eval(value)) if value is not None else "nothing"


def table() -> str:
    """For bench/README.md."""
    rows = [f"| `{each.name}` | {each.about} | {each.needs} |" for each in entries()]
    return "\n".join(["| name | what it measures | needs |", "| --- | --- | --- |", *rows]) + "\n"
