"""Every link and anchor of the documents leads somewhere, and every document that the code names is there."""

import re
import subprocess
from pathlib import Path
from urllib.parse import unquote

import pytest

from tests.documents.reading import anchors, links, name_of, pages
from tests.running import ROOT


@pytest.mark.parametrize("page", pages(), ids=name_of)
def test_links_and_anchors_lead_somewhere(page: Path) -> None:
    for link in links(page):
        path, _, anchor = unquote(link).partition("#")
        if re.match(r"https?://", path):
            continue
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{name_of(page)}: {link}"
        assert not anchor or anchor in anchors(target), f"{name_of(page)}: {link}"


@pytest.mark.parametrize("place", ["src", "scripts", "docker", "autodl", "Makefile"])
def test_documents_that_the_code_names_are_there(place: str) -> None:
    found = subprocess.run(
        ["git", "grep", "-hoE", r"docs/[a-z0-9_-]+\.md(#[a-z-]+)?", "--", place],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    for link in set(found.stdout.split()):
        path, _, anchor = link.partition("#")
        assert (ROOT / path).is_file(), link
        assert not anchor or anchor in anchors(ROOT / path), link
