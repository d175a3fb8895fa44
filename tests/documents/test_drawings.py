"""Every drawing of the documents is drawn by Mermaid in a real browser, as GitHub does."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Error, Page

from tests.browser.conftest import browser, microphone
from tests.browser.packages import from_npm
from tests.documents.reading import Block, blocks, pages

__all__ = ["browser", "microphone"]  # fixtures

pytestmark = pytest.mark.browser

MERMAID = "mermaid@12.3.0"
DIGEST = "4113TdXeLAsMruJ79OpFL5O8+LTFXhQqZ260rF3tgUmiNAtRm4Uume04I+65PRN6yZ69J4f8rVYWW8zRk65UYw=="
"""npm's SHA-512 of the archive."""
DRAWINGS = [block for page in pages() for block in blocks(page) if block.kind == "mermaid"]


@pytest.fixture(scope="module")
def script(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Mermaid as a single file, from npm."""
    folder = tmp_path_factory.mktemp("mermaid")
    (folder / "mermaid.js").write_bytes(from_npm(MERMAID, DIGEST, "dist/mermaid.min.js", folder))
    return folder / "mermaid.js"


@pytest.fixture(scope="module")
def canvas(browser: Browser, script: Path) -> Iterator[Page]:
    page = browser.new_page()
    page.add_script_tag(path=script)
    yield page
    page.close()


def drawn(canvas: Page, text: str) -> int:
    """The number of boxes in the drawing."""
    canvas.evaluate("mermaid.initialize({ startOnLoad: false })")
    return int(
        canvas.evaluate(
            """async (text) => {
                const holder = document.createElement("div");
                holder.innerHTML = (await mermaid.render("drawing", text)).svg;
                return holder.querySelectorAll(".node, .actor").length;
            }""",
            text,
        )
    )


def test_the_documents_have_drawings() -> None:
    assert {block.page.name for block in DRAWINGS} >= {"README.md", "README.zh-CN.md", "design.md", "launch.md"}


@pytest.mark.parametrize("block", DRAWINGS, ids=str)
def test_a_drawing_can_be_drawn(canvas: Page, block: Block) -> None:
    assert drawn(canvas, block.text) >= 4


def test_a_broken_drawing_is_found(canvas: Page) -> None:
    with pytest.raises(Error, match="Parse error"):
        drawn(canvas, "flowchart LR\n  request -- to > nowhere")
