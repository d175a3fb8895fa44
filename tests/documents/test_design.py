"""What the design and the glossary say is where it is."""

import re
from pathlib import Path

import pytest

from tests.documents.reading import spans
from tests.running import ROOT

SOURCES = ROOT / "src/cosyserve"
TERMS = re.findall(r"^\| ([^|]+) \| [^|]+ \| `([^`]+)`: `([^`]+)` \|$", (ROOT / "docs/glossary.md").read_text(), re.M)
ROOMS = re.findall(r"^\| ((?:`[^`]+`(?:, )?)+) \|", (ROOT / "docs/design.md").read_text(), re.M)


def test_there_are_terms_and_each_means_one_thing() -> None:
    names = [term for term, _, _ in TERMS]
    rows = [line for line in (ROOT / "docs/glossary.md").read_text().splitlines() if line.startswith("| ")]
    assert len(rows) - 2 == len(names) > 30
    assert len(names) == len(set(names))


@pytest.mark.parametrize(("term", "file", "name"), TERMS, ids=[term for term, _, _ in TERMS])
def test_a_term_lives_where_the_glossary_says(term: str, file: str, name: str) -> None:
    text = (SOURCES / file).read_text(encoding="utf-8")
    made = rf"^ *(?:export )?(?:class|def|async def) {name}\b|^ *(?:self\.)?{name}(?:: .*)? = "
    assert re.search(made, text, re.M), f"{term} is not made in {file}"


def test_every_room_is_in_the_design_and_every_room_of_the_design_is_there() -> None:
    told = {name for row in ROOMS for name in re.findall(r"`([^`]+)`", row) if name.endswith(("/", ".py"))}
    for name in told:
        assert (SOURCES / name).exists() or (ROOT / name).exists(), name
    packages = {f"{path.parent.relative_to(SOURCES)}/" for path in SOURCES.glob("*/__init__.py")} - {"cosyvoice/"}
    packages |= {f"{path.parent.relative_to(SOURCES)}/" for path in SOURCES.glob("cosyvoice/*/__init__.py")}
    modules = {path.name for path in SOURCES.glob("*.py")} - {"__init__.py", "__main__.py"}
    assert packages | modules <= told, (packages | modules) - told


def test_who_may_import_whom_is_drawn_as_the_contract_has_it() -> None:
    drawn = re.search(r"^```\n(cli\n.*?)^```", (ROOT / "docs/design.md").read_text(), re.S | re.M)
    held = re.search(r"^layers = \[\n(.*?)^\]", (ROOT / "pyproject.toml").read_text(), re.S | re.M)
    assert drawn and held
    layers = [set(re.findall(r"\w+", line)) for line in held[1].splitlines()]
    assert [set(line.split()) for line in drawn[1].splitlines()] == layers[1:]  # below `__main__`


def test_files_and_classes_that_the_design_names_are_there() -> None:
    """Files may be named without their folder, classes with their module or their method."""
    files = {str(path.relative_to(SOURCES)) for path in SOURCES.rglob("*.py")}
    modules = {Path(name).stem for name in files}
    made = set(re.findall(r"^ *(?:class |def |async def |self\.)?(\w+)(?=\(|:| =)", "\n".join(_sources()), re.M))
    named = [text for _, text in spans(ROOT / "docs/design.md")]
    for name in (text for text in named if re.fullmatch(r"[a-z_]\w*(?:/\w+)*\.py", text)):
        assert name in files or (ROOT / name).is_file() or any(file.endswith(f"/{name}") for file in files), name
    for name in (text for text in named if re.fullmatch(r"(?:[a-z_]+\.)?_*[A-Z][a-z]+\w*(?:\.\w+)*", text)):
        *owner, last = name.split(".")
        assert last in made or (owner and owner[-1] in made), f"no class or function {name}"
        assert not owner or not owner[0].islower() or owner[0] in modules, f"no module {owner[0]}"


def _sources() -> list[str]:
    return [path.read_text(encoding="utf-8") for path in SOURCES.rglob("*.py")]
