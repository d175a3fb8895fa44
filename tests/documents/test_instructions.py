"""The instructions that upstream lists: docs/voices.md and the page have the same ones, by the same names."""

import re

from tests.running import ROOT


def test_the_page_offers_what_the_document_lists() -> None:
    document = (ROOT / "docs/voices.md").read_text(encoding="utf-8")
    table = document.split("## Instructions", 1)[1].split("\n## ", 1)[0]
    listed = re.findall(r"^\| ([^|]+?) \| `([^`]+)` \|$", table, re.MULTILINE)
    page = (ROOT / "src/cosyserve/server/web/instructions.js").read_text(encoding="utf-8")
    rows = re.findall(r'^  \[(?:inDialect\("([^"]+)"\)|"([^"]+)"), "([^"]+)", "([^"]+)"\],$', page, re.MULTILINE)
    offered = [(english, f"请用{dialect}表达。" if dialect else words) for dialect, words, english, _ in rows]
    assert offered == listed
    assert len(listed) == len(set(listed)) == 26
    assert len({chinese for *_, chinese in rows}) == 26
