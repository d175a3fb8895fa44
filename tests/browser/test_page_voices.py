"""Voices are heard, added and deleted on the page: by a microphone (Chromium's, which plays a file) and by a file."""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Browser, Dialog, Page, expect

from cosyserve.speech.synthesizer import Options
from cosyserve.speech.voices import Library, Voice
from tests.browser.opening import opened, until, until_said
from tests.conftest import Serving
from tests.running import Server
from tests.standins import CapableSynthesizer

pytestmark = pytest.mark.browser


class LearningSynthesizer(CapableSynthesizer):
    """Speaks a tone, whatever voice it has learnt."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.library = Library(folder)  # type: ignore[assignment]

    @property
    def voices(self) -> Mapping[str, Voice]:
        learnt = {name: entry.voice for name, entry in self.library.entries.items()}  # type: ignore[attr-defined]
        return {"tone": Voice("tone", "Tone", "音", ("en", "zh")), **learnt}

    @voices.setter
    def voices(self, _: Mapping[str, Voice]) -> None:
        """What the parent sets is no part of the library."""


@contextmanager
def at_the_voices(browser: Browser, serving: Serving, synthesizer: CapableSynthesizer) -> Iterator[tuple[Page, str]]:
    with serving(synthesizer) as url, opened(browser, f"{url}/#voices") as page:
        expect(page.locator("#voice-form")).to_be_visible()
        yield page, url


def entry_of(url: str, name: str) -> dict[str, object]:
    return next(each for each in httpx.get(f"{url}/v1/audio/voices").json()["voices"] if each["id"] == name)


def test_a_voice_is_recorded_tried_kept_and_deleted(browser: Browser, serving: Serving, tmp_path: Path) -> None:
    synthesizer = LearningSynthesizer(tmp_path)
    with at_the_voices(browser, serving, synthesizer) as (page, url):
        page.click("#keep")
        expect(page.locator("#audio-error")).to_have_text("Record something, or choose a file.")
        expect(page.locator("#record")).to_be_focused()
        page.click("#record")
        expect(page.locator("#record")).to_have_text("Stop recording")
        until(page, "document.getElementById('level').value > 0.2")
        until(page, "document.getElementById('length').value > 2.5")
        page.click("#record")
        expect(page.locator("#record")).to_have_text("Record again")
        expect(page.locator("#transcript")).to_have_value(page.locator("#to-read").inner_text())
        page.locator("#listen").evaluate("(audio) => audio.play()")  # which the page's policy allows

        page.click("#try")
        expect(page.locator("#tried")).to_be_visible()
        until(page, "document.getElementById('tried').duration > 1")
        reference = [options for options in synthesizer.asked if options != Options(stream=options.stream)][
            -1
        ].reference
        assert reference and reference.transcript == page.locator("#to-read").inner_text()
        assert [
            entry["id"] for entry in httpx.get(f"{url}/v1/audio/voices").json()["voices"] if entry["deletable"]
        ] == []

        # What is missing, and what the server refuses, stands at its field.
        page.click("#keep")
        expect(page.locator("#name-error")).to_have_text("Give the voice a name.")
        page.fill("#voice-name", "a/b")
        page.click("#keep")
        expect(page.locator("#consent-error")).to_contain_text("State who allowed")
        page.click("#consent-other")
        page.click("#keep")
        expect(page.locator("#consent-error")).to_contain_text("in place of NAME")
        page.click("#consent-mine")
        expect(page.locator("#consent-error")).to_have_text("")
        page.click("#keep")
        expect(page.locator("#name-error")).to_contain_text("CS-VOICE-002")
        expect(page.locator("#voice-name")).to_be_focused()
        expect(page.locator("#voice-name")).to_have_attribute("aria-invalid", "true")
        page.fill("#voice-name", "Anna Müller")
        page.click("#keep")
        until_said(page, "Anna Müller is kept and chosen")
        expect(page.locator("#voice")).to_have_value("Anna Müller")
        assert entry_of(url, "Anna Müller") == {
            "id": "Anna Müller",
            "name": "Anna Müller",
            "name_zh": "Anna Müller",
            "languages": ["zh", "en", "ja", "ko", "yue"],
            "deletable": True,
            "has_transcript": True,
        }
        consent = synthesizer.library.entries["Anna Müller"].consent  # type: ignore[attr-defined]
        assert re.fullmatch(r"This is my voice, and I allow its use\. \d{4}-\d\d-\d\d", consent)

        asked: list[str] = []

        def answer(dialog: Dialog) -> None:
            asked.append(dialog.message)
            dialog.accept()

        page.on("dialog", answer)
        page.get_by_role("button", name="Delete Anna Müller").click()
        until_said(page, "Anna Müller is deleted")
        assert "Anna Müller" in asked[0]
        assert not list(tmp_path.glob("*.json"))
        expect(page.locator("#voice-list li").first).to_contain_text("cannot be deleted")


def test_a_file_is_uploaded_and_refused_where_it_is_none(
    browser: Browser, serving: Serving, tmp_path: Path, microphone: Path
) -> None:
    with at_the_voices(browser, serving, LearningSynthesizer(tmp_path / "voices")) as (page, url):
        nothing = tmp_path / "notes.wav"
        nothing.write_text("no audio at all")
        page.fill("#voice-name", "bert")
        page.fill("#consent", "Bert, 2026-11-27")
        page.set_input_files("#upload", nothing)
        page.click("#keep")
        expect(page.locator("#audio-error")).to_contain_text("CS-VOICE-101")
        page.set_input_files("#upload", microphone)
        expect(page.locator("#audio-error")).to_have_text("")
        page.click("#keep")
        until_said(page, "bert is kept")
        assert entry_of(url, "bert")["has_transcript"] is False
        expect(page.locator("#voice-list")).to_contain_text("its words are unknown")
        page.get_by_role("button", name="Hear bert").click()
        expect(page.locator("#voices-error")).to_be_hidden()


def test_where_no_browser_records_a_file_can_be_uploaded(browser: Browser, serving: Serving, tmp_path: Path) -> None:
    """A page by plain HTTP from another machine."""
    with serving(LearningSynthesizer(tmp_path), allowed_hosts="voices.example") as url:
        elsewhere = url.replace("127.0.0.1", "voices.example")
        with opened(browser, f"{elsewhere}/#voices") as page:
            expect(page.locator("#no-recording")).to_contain_text("HTTPS")
            expect(page.locator("#record")).to_be_hidden()
            expect(page.locator("#upload")).to_be_visible()


# The address is that of the dialog again before the event of its closing comes.
FORWARD_AT_ONCE = """() => new Promise((closed) => {
  document.getElementById("voices-dialog").addEventListener("close", closed, { once: true });
  window.addEventListener("hashchange", () => { location.hash = "#voices"; }, { once: true });
  history.back();
})"""


def test_who_goes_back_and_forward_at_once_has_the_dialog_open(browser: Browser, server: Server) -> None:
    with opened(browser, server.url) as page:
        page.click("#open-voices")
        expect(page.locator("#voices-dialog")).to_be_visible()
        page.evaluate(FORWARD_AT_ONCE)
        expect(page.locator("#voices-dialog")).to_be_visible()
        page.go_back()
        assert page.url == f"{server.url}/"
        expect(page.locator("#voices-dialog")).to_be_hidden()


def test_with_the_preview_the_dialog_says_how_cloning_is_had_and_back_closes_it(
    browser: Browser, server: Server
) -> None:
    with opened(browser, server.url) as page:
        expect(page.locator("#voice option")).to_have_count(5)
        page.click("#open-voices")
        expect(page.locator("#voices-dialog")).to_be_visible()
        expect(page.locator("#no-cloning")).to_contain_text("cosyserve fetch")
        expect(page.locator("#voice-form")).to_be_hidden()
        page.go_back()
        expect(page.locator("#voices-dialog")).to_be_hidden()
        page.go_forward()
        expect(page.locator("#voices-dialog")).to_be_visible()
        page.keyboard.press("Escape")
        expect(page.locator("#voices-dialog")).to_be_hidden()
        until(page, "location.hash === ''")
        page.click("#open-voices")
        page.click("#close-voices")
        until(page, "location.hash === ''")
        expect(page.locator("#open-voices")).to_be_focused()
