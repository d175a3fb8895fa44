"""Draws the pictures of the page in the READMEs, from a running server with the preview voice:

    .venv-dev/bin/python scripts/draw_page.py      # needs Chromium: apt install chromium

It speaks the sample text in each language of the page, and writes docs/page.png and docs/page.zh-CN.png.
"""

import os
import sys
import tempfile
from pathlib import Path

from playwright.sync_api import Browser, sync_playwright

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from tests.browser.conftest import ARGUMENTS, CHROMIUM  # noqa: E402
from tests.running import HANGS, Server  # noqa: E402

PICTURES = {"en-US": "page.png", "zh-CN": "page.zh-CN.png"}
_SIZE = {"width": 780, "height": 640}


def draw(browser: Browser, url: str, locale: str, picture: Path) -> None:
    """The page as it looks once it has spoken."""
    page = browser.new_page(locale=locale, viewport=_SIZE, color_scheme="light")  # type: ignore[arg-type]
    page.set_default_timeout(HANGS * 1000)
    page.goto(url)
    page.locator('#state[data-state="ready"]').wait_for()
    page.click("#speak")
    page.locator("#download").wait_for()
    page.locator("#speak").wait_for()  # comes back once all of it has been played
    page.screenshot(path=picture, full_page=True)
    page.close()


def main() -> None:
    # The page names the command as a shell finds it, and not by a path of this machine.
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    with (
        tempfile.TemporaryDirectory() as folder,
        Server(Path(folder)) as server,
        sync_playwright() as playwright,
    ):
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        for locale, name in PICTURES.items():
            draw(browser, server.url, locale, ROOT / "docs" / name)
            print(f"docs/{name}: {(ROOT / 'docs' / name).stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
