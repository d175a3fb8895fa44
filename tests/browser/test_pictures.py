"""The pictures of the page in the READMEs can be drawn by the command that CONTRIBUTING names, and are small."""

import sys
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from tests.running import ROOT, Server

sys.path.insert(0, str(ROOT / "scripts"))
from draw_page import PICTURES, draw

PNG = b"\x89PNG\r\n\x1a\n"
LARGEST = 150_000  # bytes


@pytest.mark.parametrize("name", PICTURES.values())
def test_a_picture_of_the_readme_is_small(name: str) -> None:
    picture = (ROOT / "docs" / name).read_bytes()
    assert picture.startswith(PNG) and len(picture) < LARGEST


@pytest.mark.browser
@pytest.mark.parametrize("locale", PICTURES)
def test_the_page_is_drawn_once_it_has_spoken(browser: Browser, tmp_path: Path, locale: str) -> None:
    with Server(tmp_path) as server:
        draw(browser, server.url, locale, tmp_path / "page.png")
        server.stop()
    picture = (tmp_path / "page.png").read_bytes()
    assert picture.startswith(PNG) and 10_000 < len(picture) < LARGEST
