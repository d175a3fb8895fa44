"""The page for everybody: its states by axe and by the names in the accessibility tree, and by the keyboard alone."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.opening import choose, opened, tremble, until, until_said
from tests.browser.test_page_voices import LearningSynthesizer
from tests.conftest import Serving
from tests.standins import GatedSynthesizer

pytestmark = pytest.mark.browser

OPERATED = {
    "button",
    "link",
    "textbox",
    "searchbox",
    "combobox",
    "checkbox",
    "slider",
    "spinbutton",
    "DisclosureTriangle",
}
BROWSERS_OWN = {
    *("play", "pause", "mute", "unmute", "audio time scrubber", "show more media controls", "volume"),
}
"""Names within `<audio controls>`, in the browser's language."""
ARRANGED = {"group", "form", "region", "dialog", "list", "meter", "progressbar"}


class PatientLearner(LearningSynthesizer, GatedSynthesizer):
    """Learns voices, follows instructions, and speaks as far as it is allowed to."""


def check(page: Page, axe: str, state: str) -> None:
    """No violation by axe, a name for all that is operated, and one that is said in the page's language."""
    found = page.evaluate("async () => (await axe.run(document, { resultTypes: ['violations'] })).violations")
    told = [(each["id"], [node["html"][:120] for node in each["nodes"]]) for each in found]
    assert told == [], state
    names = list(named(page))
    assert len(names) > 10
    assert [role for role, name in names if not name and role in OPERATED] == [], state
    assert [name for _, name in names if "[object" in name or "undefined" in name] == [], state
    if page.evaluate("document.documentElement.lang") == "zh-CN":
        plain = {"EN", "CosyServe", "⚄", "mp3", "opus", "aac", "flac", "wav", "pcm", "curl", "Python", "JavaScript"}
        foreign = {name for role, name in names if role in OPERATED and name not in plain and not chinese(name)}
        assert foreign - BROWSERS_OWN == set(), state


def chinese(name: str) -> bool:
    return any("\u4e00" <= letter <= "\u9fff" for letter in name)


def named(page: Page) -> Iterator[tuple[str, str]]:
    """The role and the name of each part, as a screen reader has them."""
    session = page.context.new_cdp_session(page)
    tree: dict[str, Any] = session.send("Accessibility.getFullAXTree")
    session.detach()
    for node in tree["nodes"]:
        role = node.get("role", {}).get("value", "")
        if not node.get("ignored") and role in OPERATED | ARRANGED:
            yield role, node.get("name", {}).get("value", "").strip()


@contextmanager
def with_axe(browser: Browser, url: str, axe: str, locale: str, **options: Any) -> Iterator[Page]:
    with opened(browser, url, locale, script=axe, **options) as page:
        yield page


@pytest.mark.parametrize(("locale", "scheme"), [("en-US", "light"), ("zh-CN", "dark")])
def test_every_state_has_names_and_no_violation(
    browser: Browser, serving: Serving, tmp_path: Path, axe: str, locale: str, scheme: str
) -> None:
    synthesizer = PatientLearner(tmp_path)
    options = {"color_scheme": scheme, "viewport": {"width": 1280, "height": 900}}
    with (
        serving(synthesizer, api_keys="sesame", max_streams=1, max_queue=0) as url,
        with_axe(browser, url, axe, locale, **options) as page,
    ):
        expect(page.locator("#key-form")).to_be_visible()
        check(page, axe, "a key is asked for")
        page.fill("#key", "sesame")
        page.keyboard.press("Enter")
        expect(page.locator("#voice option")).to_have_count(2)
        page.evaluate("for (const each of document.querySelectorAll('details')) each.open = true")
        check(page, axe, "ready, all open")

        synthesizer.budget = 10
        page.fill("#text", "这是第一句比较长的话。这是第二句，要稍后再说。")
        page.click("#speak")
        until_said(page, {"en-US": "Speaking", "zh-CN": "正在朗读"}[locale])
        check(page, axe, "speaking")
        other = page.context.new_page()
        other.goto(url)
        expect(other.locator("#voice option")).to_have_count(2)
        other.click("#speak")
        expect(other.locator("#waiting")).to_be_visible()
        check(other, axe, "busy")
        other.close()
        synthesizer.budget = math.inf
        until_said(page, {"en-US": "Finished", "zh-CN": "朗读完毕"}[locale])
        page.click("#three")
        expect(page.locator("#take-list li")).to_have_count(4)
        for number in (0, 1):
            page.locator("#take-list li").nth(number).get_by_role("checkbox").check()
        expect(page.locator("#compare")).to_be_visible()
        check(page, axe, "takes to compare")

        page.click("#open-voices")
        page.click("#keep")
        expect(page.locator("#audio-error")).not_to_have_text("")
        check(page, axe, "voices, refused")
        page.click("#record")
        until(page, "document.getElementById('length').value > 1.2")
        check(page, axe, "voices, recording")
        page.click("#record")
        page.click("#try")
        expect(page.locator("#tried")).to_be_visible()
        check(page, axe, "voices, tried")
        page.click("#close-voices")

        page.fill("#text", " ")
        page.route("**/*", lambda route: route.abort())
        page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
        expect(page.locator("#state")).to_have_attribute("data-state", "unreachable")
        page.click("#speak")
        expect(page.locator("#error")).to_be_visible()
        check(page, axe, "unreachable")


def test_the_speed_is_no_slider_without_a_name(browser: Browser, serving: Serving) -> None:
    """The check above finds what axe doesn't: here it is given such a page."""
    with serving(GatedSynthesizer()) as url, opened(browser, url) as page:
        choose(page)
        assert ("slider", "Speed") in set(named(page))
        page.evaluate("document.querySelector('label[for=speed]').remove()")
        assert ("slider", "") in set(named(page))


CONTRAST = """() => {
  const channels = (color) => color.match(/[\\d.]+/g).slice(0, 3).map(Number);
  const light = (color) => channels(color)
    .map((each) => each / 255)
    .map((each) => (each <= 0.04045 ? each / 12.92 : ((each + 0.055) / 1.055) ** 2.4))
    .reduce((sum, each, i) => sum + each * [0.2126, 0.7152, 0.0722][i], 0);
  const between = (one, other) => {
    const [dark, bright] = [light(one), light(other)].sort((a, b) => a - b);
    return (bright + 0.05) / (dark + 0.05);
  };
  const card = getComputedStyle(document.getElementById("form")).backgroundColor;
  const found = {};
  for (const id of ["text", "voice", "speed-number", "seed", "format"]) {
    const field = document.getElementById(id);
    field.focus();
    const { borderTopColor, outlineColor, backgroundColor } = getComputedStyle(field);
    found[id] = [between(borderTopColor, card), between(borderTopColor, backgroundColor), between(outlineColor, card)];
  }
  return found;
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_fields_and_focus_can_be_seen(browser: Browser, serving: Serving, scheme: str) -> None:
    with serving(GatedSynthesizer()) as url, opened(browser, url, color_scheme=scheme) as page:
        choose(page)
        page.keyboard.press("Tab")  # the ring is for whoever uses the keyboard
        found: dict[str, list[float]] = page.evaluate(CONTRAST)
        assert {name: ratios for name, ratios in found.items() if min(ratios) < 3} == {}


def test_by_the_keyboard_alone(browser: Browser, serving: Serving, tmp_path: Path) -> None:
    synthesizer = PatientLearner(tmp_path)
    with serving(synthesizer) as url, opened(browser, url) as page:
        expect(page.locator("#voice option")).to_have_count(2)

        def tab_to(name: str, key: str = "Tab") -> None:
            for _ in range(80):
                page.keyboard.press(key)
                if page.evaluate("document.activeElement.id || document.activeElement.textContent") == name:
                    return
            raise AssertionError(f"{name} is never reached")

        tab_to("text")
        page.keyboard.press("Control+A")
        page.keyboard.type("One sentence of speech. Another sentence of speech.")
        synthesizer.budget = 10
        page.keyboard.press("Control+Enter")
        expect(page.locator("#speak")).to_have_text("Stop")
        expect(page.locator("#text")).to_be_focused()
        until_said(page, "Speaking")
        page.keyboard.press("Escape")
        expect(page.locator("#speak")).to_have_text("Speak")
        until_said(page, "Stopped")
        synthesizer.budget = math.inf
        page.evaluate("new Promise((done) => setTimeout(done, 400))")
        tab_to("speak")
        tremble(page)
        page.keyboard.press("Enter")
        expect(page.locator("#speak")).to_have_text("Stop")
        expect(page.locator("#speak")).to_be_focused()
        until_said(page, "Finished")
        expect(page.locator("#speak")).to_be_focused()
        tab_to("play")
        page.keyboard.press("Enter")
        expect(page.locator("#play")).to_have_text("Pause")
        page.keyboard.press("Enter")
        expect(page.locator("#play")).to_have_text("Play")
        tab_to("open-voices", "Shift+Tab")
        page.keyboard.press("Enter")
        expect(page.locator("#voices-dialog")).to_be_visible()
        tab_to("consent-mine")
        page.keyboard.press("Enter")
        expect(page.locator("#consent")).to_be_focused()
        page.keyboard.press("Escape")
        expect(page.locator("#voices-dialog")).to_be_hidden()
        expect(page.locator("#open-voices")).to_be_focused()
        # What is heard is not spoken over by what changes all the time.
        page.evaluate("window.heard.said = []")
        for _ in range(3):
            page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
            until(page, "!(await fetch('readyz')).bodyUsed")
        assert page.evaluate("window.heard.said") == []
