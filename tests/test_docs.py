"""What the documents claim is held against the code, and the two READMEs against each other."""

import re
import sys

import httpx
import pytest

from tests.running import ROOT

sys.path.insert(0, str(ROOT / "scripts"))
from generate_docs import PAGES

ENGLISH, CHINESE = ((ROOT / name).read_text(encoding="utf-8") for name in ("README.md", "README.zh-CN.md"))


@pytest.mark.parametrize("name", PAGES)
def test_generated_pages_are_up_to_date(name: str) -> None:
    assert (ROOT / "docs" / name).read_text(encoding="utf-8") == PAGES[name](), "run `make docs`"


def test_the_readmes_are_in_step() -> None:
    def outline(text: str) -> list[str]:
        return re.findall(r"^#+(?= )", re.sub(r"```.*?```", "", text, flags=re.S), flags=re.M)

    def code(text: str) -> list[str]:
        """Commands without their comments, drawings without their labels: these are translated."""
        blocks = re.findall(r"```.*?```", text, flags=re.S)
        plain = [re.sub(r'"[^"]*"', "", b) if b.startswith("```mermaid") else b for b in blocks]
        return [re.sub(r"(?m)\s+# .*$", "", block) for block in plain]

    def addresses(text: str) -> list[str]:
        return re.findall(r"^\| `([^`]+)`", text, flags=re.M)

    assert outline(ENGLISH) == outline(CHINESE)
    assert code(ENGLISH) == code(CHINESE)
    assert addresses(ENGLISH) == addresses(CHINESE)


@pytest.mark.parametrize("readme", [ENGLISH, CHINESE], ids=["en", "zh"])
def test_every_endpoint_is_in_the_readme_and_no_other(readme: str, client: httpx.Client) -> None:
    described = {
        f"{method.upper()} {path}"
        for path, methods in client.get("/openapi.json").json()["paths"].items()
        for method in methods
    }
    named = {
        f"{method} {path}"
        for cell, path in re.findall(r"^\| `((?:GET|POST|PUT|DELETE|, )+) (/\S*)`", readme, flags=re.M)
        for method in cell.split(", ")
    }
    assert named == described
