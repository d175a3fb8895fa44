"""What was spoken is kept in the browser, side by side, and can be had by a program."""

import subprocess
import sys
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.opening import choose, opened, press_speak, speak, until, until_said
from tests.conftest import Serving
from tests.running import Server, leave_out
from tests.signals import decoded_by_ffmpeg
from tests.standins import CapableSynthesizer

pytestmark = pytest.mark.browser


def take(page: Page, number: int, action: str) -> None:
    """Presses a button of a take, the first of which is the newest."""
    page.locator("#take-list li").nth(number).get_by_role("button", name=action).click()


def test_takes_are_kept_compared_used_and_deleted(browser: Browser, serving: Serving, tmp_path: Path) -> None:
    synthesizer = CapableSynthesizer()
    with serving(synthesizer) as url, opened(browser, url) as page:
        speak(page, "One sentence of words. Another sentence of words.", seed="7", speed="0.5")
        expect(page.locator("#take-list li")).to_have_count(1)
        page.click("#play")
        assert page.input_value("#seed") != "7"  # which isn't locked
        choose(page, speed="1")
        synthesizer.asked.clear()
        page.click("#three")
        expect(page.locator("#take-list li")).to_have_count(4)
        expect(page.locator("#speak")).to_have_text("Speak")
        assert len({options.seed for options in synthesizer.asked}) == 3

        page.reload()
        expect(page.locator("#take-list li")).to_have_count(4)
        expect(page.locator("#takes-size")).to_contain_text("of 200 MB")
        take(page, 3, "Play")
        until(page, "window.heard.loud > 3")
        expect(page.locator("#clock")).to_contain_text("/ 0:08")
        page.click("#play")
        take(page, 3, "Star")
        expect(page.locator("#take-list li").nth(3).get_by_role("button", name="Star")).to_be_focused()
        take(page, 3, "Use the settings")
        assert (page.input_value("#seed"), page.input_value("#speed")) == ("7", "0.5")
        with page.expect_download() as download:
            take(page, 3, "Download")
        download.value.save_as(tmp_path / "take.mp3")
        assert decoded_by_ffmpeg((tmp_path / "take.mp3").read_bytes()).size / 24_000 == pytest.approx(8, abs=0.3)

        # Two of them from the same place: the one is twice as long as the other.
        for number in (3, 0):
            page.locator("#take-list li").nth(number).get_by_role("checkbox").check()
        page.click("#play-a")
        expect(page.locator("#play")).to_have_text("Pause")
        page.click("#play")
        page.evaluate("""() => {
          const seek = document.getElementById("seek");
          seek.value = 5;
          seek.dispatchEvent(new Event("input"));
        }""")
        # What the page shows first of the other take, which may have ended before anybody outside looks.
        begun = page.evaluate("""() => new Promise((shown) => {
          const [seek, clock] = ["seek", "clock"].map((id) => document.getElementById(id));
          const look = () => clock.textContent.includes("/ 0:04") && shown(Number(seek.value));
          new MutationObserver(look).observe(clock, { childList: true });
          document.getElementById("play-b").click();
        })""")
        assert 1.7 < begun < 3  # the second sentence begins at 1.8
        expect(page.locator("#captions [aria-current]")).to_have_text("Another sentence of words.")

        take(page, 0, "Delete")
        expect(page.locator("#take-list li")).to_have_count(3)
        expect(page.locator("#compare")).to_be_hidden()
        page.once("dialog", lambda dialog: dialog.accept())
        page.click("#delete-takes")
        expect(page.locator("#take-list li")).to_have_count(0)
        page.reload()
        expect(page.locator("#takes-size")).to_contain_text("0.00 of 200 MB")
        expect(page.locator("#take-list li")).to_have_count(0)


def test_the_code_that_is_shown_speaks_what_is_on_screen(browser: Browser, serving: Serving, tmp_path: Path) -> None:
    text = """It's "so" — $HOME, `date` \\ 世界."""
    synthesizer = CapableSynthesizer()
    with serving(synthesizer, api_keys="sesame") as url, opened(browser, url) as page:
        page.context.grant_permissions(["clipboard-read", "clipboard-write"])
        page.fill("#key", "sesame")
        page.keyboard.press("Enter")
        expect(page.locator("#voice option")).to_have_count(1)
        page.fill("#text", text)
        page.fill("#instructions", 'with "quotes"')
        choose(page, seed="11", format="wav")
        said = []
        for language, command in {
            "curl": ["bash", "-e"],
            "python": [sys.executable],
            "javascript": ["node"],
        }.items():
            page.select_option("#code-language", language)
            page.click("#copy")
            until_said(page, "Copied")
            code = page.evaluate("navigator.clipboard.readText()")
            assert code == page.locator("#code").text_content()
            file = tmp_path / {"curl": "code.sh", "python": "code.py", "javascript": "code.mjs"}[language]
            file.write_text(code.replace("KEY", "sesame"))
            synthesizer.asked.clear()
            synthesizer.said.clear()
            try:
                subprocess.run([*command, file.name], cwd=tmp_path, check=True, capture_output=True)
            except FileNotFoundError:
                leave_out(f"there is no {command[0]} here")
            assert synthesizer.asked[-1].seed == 11
            assert synthesizer.asked[-1].instructions == 'with "quotes"'
            said.append(synthesizer.said[:])
            speech = tmp_path / "speech.wav"
            assert speech.read_bytes().startswith(b"RIFF")
            speech.unlink()
        press_speak(page)
        until(page, "window.heard.responseEnded")
        assert said == [synthesizer.said[-len(said[0]) :]] * 3


def test_what_is_kept_has_a_size_and_the_oldest_without_a_star_go_first(browser: Browser, server: Server) -> None:
    keep = """async () => {
      const { allTakes, keepTake } = await import("./web/store.js");
      const gone = [];
      for (const [id, starred] of [["first", true], ["second", false], ["third", false], ["fourth", false]])
        gone.push(...(await keepTake({ id, created: gone.length + id.length, starred, bytes: 60e6 }, new Blob())));
      return [gone, (await allTakes()).map(({ id }) => id).sort()];
    }"""
    with opened(browser, server.url) as page:
        page.goto(f"{server.url}/openapi.json")  # where no page shows such takes
        gone, stay = page.evaluate(keep)
        assert gone == ["third"]  # of five letters, so older than "second"
        assert stay == ["first", "fourth", "second"]


def test_where_a_browser_keeps_nothing_takes_last_as_long_as_the_page(browser: Browser, serving: Serving) -> None:
    forbidden = "Object.defineProperty(window, 'indexedDB', { get() { throw new DOMException('no'); } });"
    forbidden += "Object.defineProperty(window, 'localStorage', { get() { throw new DOMException('no'); } });"
    with serving(CapableSynthesizer()) as url, opened(browser, url, script=forbidden) as page:
        speak(page, "hello")
        until_said(page, "Finished")
        expect(page.locator("#takes-size")).to_contain_text("keeps nothing")
        page.evaluate("window.heard.loud = 0")
        take(page, 0, "Play")
        until(page, "window.heard.loud > 3")
        take(page, 0, "Delete")
        expect(page.locator("#take-list li")).to_have_count(0)
        expect(page.locator("#takes-title")).to_be_focused()
