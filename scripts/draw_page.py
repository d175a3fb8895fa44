"""Draws the pictures of the page in the READMEs, from a running server with the preview voice:

    .venv-dev/bin/python scripts/draw_page.py            # needs Chromium: apt install chromium
    .venv-dev/bin/python scripts/draw_page.py --states pictures   # every state of the page, to be looked at

The first speaks in each language of the page, and writes docs/page.png and docs/page.zh-CN.png. The second writes a
picture of each state, on a desktop and on a phone, light and dark, with a stand-in that can do all that CosyVoice can.
"""

import argparse
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Browser, Page, sync_playwright

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from tests.browser.conftest import ARGUMENTS, CHROMIUM, a_voice  # noqa: E402
from tests.running import HANGS, Server  # noqa: E402

PICTURES = {"en-US": "page.png", "zh-CN": "page.zh-CN.png"}
_SIZE = {"width": 1080, "height": 760}
_LOOKS = {
    "desktop": {"viewport": {"width": 1280, "height": 900}, "color_scheme": "light", "locale": "en-US"},
    "dark": {"viewport": {"width": 1280, "height": 900}, "color_scheme": "dark", "locale": "zh-CN"},
    "phone": {"viewport": {"width": 390, "height": 800}, "color_scheme": "light", "locale": "en-US"},
}
_TEXT = (
    "今天天气很好。我们去公园走走吧！ "
    "The page says what is spoken, sentence by sentence. Each of them can be heard again."
)


# A seed and an address that are the same in every picture.
_SETTLED = """() => {
  const code = document.getElementById("code");
  code.textContent = code.textContent.replace(/127[.]0[.]0[.]1:[0-9]+/, "127.0.0.1:6008");
}"""


def draw(browser: Browser, url: str, locale: str, picture: Path) -> None:
    """The page as it looks once it has spoken, at the second sentence."""
    page = browser.new_page(locale=locale, viewport=_SIZE, color_scheme="light")  # type: ignore[arg-type]
    page.set_default_timeout(HANGS * 1000)
    page.goto(url)
    page.locator('#state[data-state="ready"]').wait_for()
    page.locator("#voice option").first.wait_for(state="attached")
    page.click("#more > summary")
    page.click("#lock")
    page.fill("#seed", "7")
    page.click("#more > summary")
    page.fill("#text", _TEXT)
    page.click("#speak")
    page.locator("#take-list li").wait_for()
    page.locator("#captions button").nth(1).click()
    page.click("#play")
    page.evaluate(_SETTLED)
    page.mouse.move(0, 0)
    page.screenshot(path=picture, full_page=True)
    page.close()


def states(page: Page, url: str) -> Iterator[str]:
    """Brings the page from state to state, and gives the name of each."""
    page.goto(url)
    page.locator("#key-form").wait_for()
    yield "1-key"
    page.fill("#key", "sesame")
    page.keyboard.press("Enter")
    page.locator("#voice option").first.wait_for(state="attached")
    page.fill("#text", _TEXT)
    yield "2-ready"
    page.click("#speak")
    page.locator("#captions [aria-current]").wait_for()
    yield "3-speaking"
    page.locator("#speak.stopping").wait_for()
    page.evaluate("new Promise((done) => setTimeout(done, 400))")
    page.click("#speak")
    page.evaluate("for (const each of document.querySelectorAll('details')) each.open = true")
    page.fill("#text", "你好。")
    page.click("#three")
    page.locator("#take-list li").nth(3).wait_for()
    for number in (0, 1):
        page.locator("#take-list li").nth(number).get_by_role("checkbox").check()
    yield "4-takes"
    page.evaluate("for (const each of document.querySelectorAll('details')) each.open = false")
    page.evaluate("location.hash = 'voices'")
    page.click("#record")
    page.locator("#length-text", has_text="2 ").wait_for()
    page.locator("#record").scroll_into_view_if_needed()
    yield "5-recording"
    page.click("#record")
    page.locator("#recorded").wait_for()
    page.click("#keep")
    yield "6-refused"
    page.click("#close-voices")
    page.route("**/*", lambda route: route.abort())
    page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
    page.locator('#state[data-state="unreachable"]').wait_for()
    page.locator("#speak:not(.stopping)").wait_for()
    page.evaluate("new Promise((done) => setTimeout(done, 400))")
    page.click("#speak")
    page.locator("#error").wait_for()
    yield "7-unreachable"


@contextmanager
def all_that_cosyvoice_can(folder: Path) -> Iterator[str]:
    """A server in this process, around a stand-in."""
    from tests.browser.test_page_voices import LearningSynthesizer
    from tests.conftest import served

    with served(LearningSynthesizer(folder / "voices"), api_keys="sesame", voices_dir=folder / "voices") as url:
        yield url


def draw_states(browser: Browser, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as temporary, all_that_cosyvoice_can(Path(temporary)) as url:
        for look, options in _LOOKS.items():
            page = browser.new_page(**options)  # type: ignore[arg-type]
            page.set_default_timeout(HANGS * 1000)
            for state in states(page, url):
                page.screenshot(path=folder / f"{look}-{state}.png", full_page=not state.startswith(("5", "6")))
            page.context.close()
        print(f"{folder}: {len(list(folder.glob('*.png')))} pictures")


def draw_readme(browser: Browser) -> None:
    # The page names the command as a shell finds it, and not by a path of this machine.
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    with tempfile.TemporaryDirectory() as folder, Server(Path(folder)) as server:
        for locale, name in PICTURES.items():
            draw(browser, server.url, locale, ROOT / "docs" / name)
            print(f"docs/{name}: {(ROOT / 'docs' / name).stat().st_size / 1000:.0f} kB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--states", type=Path, metavar="FOLDER", help="draw every state of the page instead")
    states_folder: Path | None = parser.parse_args().states
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        arguments = [*ARGUMENTS, f"--use-file-for-fake-audio-capture={a_voice(Path(folder) / 'voice.wav')}"]
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=arguments)
        if states_folder:
            draw_states(browser, states_folder)
        else:
            draw_readme(browser)


if __name__ == "__main__":
    main()
