"""The page in a real Chromium, used as a person uses it."""

import base64
import json
import math
import re
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from playwright.sync_api import Browser, Page, Route, expect

from cosyserve.launch.heartbeat import REASON, REASON_ZH, RESTARTS
from cosyserve.speech.capacity import by_processor, by_setting, capacity_of
from cosyserve.speech.encoders import FORMATS
from cosyserve.speech.kernel_choice import KernelsInUse
from cosyserve.speech.voices import Voice
from tests.browser.opening import choose, opened, press_speak, speak, tremble, until, until_said, visiting
from tests.conftest import Serving
from tests.running import GREETING, Server, asked
from tests.signals import decoded_by_ffmpeg
from tests.standins import CHUNK_SECONDS, CapableSynthesizer, FailingSynthesizer, GatedSynthesizer, ToneSynthesizer

pytestmark = pytest.mark.browser


@pytest.mark.parametrize("fmt", FORMATS)
def test_sound_is_heard_while_the_response_still_runs(browser: Browser, serving: Serving, fmt: str) -> None:
    synthesizer = GatedSynthesizer()
    with serving(synthesizer) as url, opened(browser, url) as page:
        synthesizer.budget = 10  # half of it, and the rest once that was heard
        speak(page, "Twenty letters make two.", format=fmt)
        until(page, "window.heard.loudBeforeEnd > 10")
        assert page.evaluate("window.heard.responseEnded") is False
        expect(page.locator("#figures")).to_contain_text("ms")
        synthesizer.budget = math.inf
        until(page, "window.heard.responseEnded")
        until_said(page, "Finished, ")
        assert page.evaluate("window.heard.loud") > page.evaluate("window.heard.loudBeforeEnd")


@pytest.mark.parametrize("fmt", ["wav"])  # which the page decodes; MP3, which the browser does, below
def test_a_long_text_is_decoded_as_it_is_heard(browser: Browser, serving: Serving, fmt: str) -> None:
    """Five minutes that come at once: no more than a minute and a part of them is there as samples."""
    with serving(ToneSynthesizer()) as url, opened(browser, url) as page:
        began = time.monotonic()
        speak(page, "Twenty letters make 2 s. " * 150, format=fmt)
        until(page, "window.heard.responseEnded")
        until(page, "window.heard.loud > 3")
        assert re.search(r"/ [4-9]:\d\d$", page.locator("#clock").inner_text())
        assert 30 < page.evaluate("window.heard.queued") < 100 + time.monotonic() - began
        press_speak(page)
        expect(page.locator("#speak")).to_have_text("Speak")
        expect(page.locator("#error")).to_be_hidden()


def test_silence_is_not_taken_for_sound(browser: Browser, serving: Serving) -> None:
    """The negative control of the test above."""
    synthesizer = GatedSynthesizer()
    with serving(synthesizer) as url, opened(browser, url) as page:
        synthesizer.budget = 0
        speak(page, "hello")
        expect(page.locator("#speak")).to_have_text("Stop")
        page.wait_for_timeout(300)
        assert page.evaluate("window.heard.loud") == 0


@pytest.mark.parametrize("fmt", FORMATS)
def test_what_was_heard_can_be_downloaded(browser: Browser, server: Server, tmp_path: Path, fmt: str) -> None:
    with opened(browser, server.url) as page:
        speak(page, GREETING, format=fmt, seed="7")
        until(page, "window.heard.responseEnded")
        with page.expect_download() as download:
            page.click("#download")
        path = tmp_path / download.value.suggested_filename
        download.value.save_as(path)
        assert path.name == f"mandarin-7.{fmt}"
        if fmt == "pcm":
            seconds = path.stat().st_size / 2 / 24_000
        else:
            seconds = decoded_by_ffmpeg(path.read_bytes()).size / FORMATS[fmt].rate
        assert 3 < seconds < 5
        until(page, "window.heard.loud > 10")


def test_chromium_decodes_every_format_to_the_same_length(browser: Browser, server: Server) -> None:
    decode: Callable[[Page, bytes], Any] = lambda page, data: page.evaluate(  # noqa: E731
        """async (text) => {
          const bytes = Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
          const buffer = await new OfflineAudioContext(1, 1, 48000).decodeAudioData(bytes.buffer);
          return buffer.duration;
        }""",
        base64.b64encode(data).decode(),
    )
    with opened(browser, server.url) as page:
        lengths = {}
        for name, fmt in FORMATS.items():
            response = httpx.post(f"{server.url}/v1/audio/speech", json={"input": GREETING, "response_format": name})
            if name == "pcm":
                lengths[name] = len(response.content) / 2 / 24_000
            else:
                lengths[name] = decode(page, response.content) - fmt.delay / fmt.rate
        for name, fmt in FORMATS.items():
            assert lengths[name] == pytest.approx(lengths["pcm"], abs=0.02 + fmt.frame / fmt.rate), lengths


@pytest.mark.parametrize(
    ("locale", "speak", "state", "voice"),
    [
        ("en-US", "Speak", "Ready · Preview voice", "Mandarin, male"),
        ("zh-CN", "朗读", "就绪 · 预览语音", "普通话男声"),
        ("zh-TW", "Speak", "Ready · Preview voice", "Mandarin, male"),  # English rather than simplified characters
    ],
)
def test_speaks_the_browser_s_language_or_the_chosen_one(
    browser: Browser, server: Server, locale: str, speak: str, state: str, voice: str
) -> None:
    with opened(browser, server.url, locale) as page:
        expect(page.locator("#speak")).to_have_text(speak)
        expect(page.locator("#state-text")).to_have_text(state)
        expect(page.locator("#voice option").first).to_have_text(voice)
        expect(page.locator("#why")).to_contain_text("CosyVoice2")
        assert "`" not in page.locator("body").inner_text()
        to, other = ("EN", "Speak") if locale == "zh-CN" else ("中文", "朗读")
        page.get_by_role("button", name=to).click()
        expect(page.locator("#speak")).to_have_text(other)
        page.reload()
        expect(page.locator("#speak")).to_have_text(other)


def test_every_word_of_the_page_is_there_in_both_languages(browser: Browser, server: Server) -> None:
    with opened(browser, server.url, "zh-CN") as page:
        expect(page.locator("#voice option").first).to_have_text("普通话男声")
        keys = page.evaluate(
            """() => [...document.querySelectorAll("[data-text], [data-label]")]
              .map((each) => each.hasAttribute("data-text") ? each.textContent : each.getAttribute("aria-label"))"""
        )
        assert len(keys) > 60
        assert [words for words in keys if not any("\u4e00" <= letter <= "\u9fff" for letter in words)] == []


@pytest.mark.parametrize(("locale", "name"), [("en-US", "Cantonese"), ("zh-CN", "广东话")])
def test_offers_the_listed_instructions_and_takes_any(
    browser: Browser, serving: Serving, locale: str, name: str
) -> None:
    synthesizer = CapableSynthesizer()
    with serving(synthesizer) as url, opened(browser, url, locale) as page:
        expect(page.locator("#instructions")).to_be_visible()
        page.locator("#instructions-field summary").click()
        expect(page.locator("#examples button")).to_have_count(26)
        page.get_by_role("button", name=name, exact=True).click()
        expect(page.locator("#instructions")).to_have_value("请用广东话表达。")
        page.fill("#instructions", "请非常开心地说一句话。")
        page.fill("#text", "one two")
        page.evaluate("document.getElementById('text').setSelectionRange(4, 7)")
        page.locator("#sounds button").nth(4).click()
        expect(page.locator("#text")).to_have_value("one <strong>two</strong>")
        press_speak(page)
        until(page, "window.heard.responseEnded")
    assert synthesizer.asked[-1].instructions == "请非常开心地说一句话。"


@pytest.mark.parametrize("model", ["cosyvoice2-0.5b", "cosyvoice3-0.5b"])
def test_names_the_model_that_speaks_and_offers_what_it_can(browser: Browser, serving: Serving, model: str) -> None:
    synthesizer = ToneSynthesizer()
    synthesizer.model = model
    with serving(synthesizer) as url, opened(browser, url) as page:
        expect(page.locator("#state-text")).to_have_text(f"Ready · CosyVoice{model[9]}")
        page.click("#details summary")
        expect(page.locator("#facts")).to_contain_text("cpu")
        expect(page.locator("#instructions")).to_be_hidden()


@pytest.mark.parametrize("width", [320, 390, 1400])
def test_fits_phone_and_desktop(browser: Browser, server: Server, width: int) -> None:
    with opened(browser, server.url, viewport={"width": width, "height": 640}) as page:
        expect(page.locator("#voice option")).to_have_count(5)
        choose(page)
        press_speak(page)
        expect(page.locator("#player")).to_be_visible()
        assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
        assert width > 1000 or page.evaluate("""() => {
          window.scrollTo(0, 0);
          const { top, bottom } = document.getElementById("speak").getBoundingClientRect();
          return top > 500 && bottom <= innerHeight;
        }""")
        expect(page.locator("#take-list li")).to_have_count(1)
        page.goto(f"{server.url}/#voices")
        expect(page.locator("#voices-dialog")).to_be_visible()
        assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")


def test_a_full_server_is_asked_again_until_somebody_cancels(browser: Browser, serving: Serving) -> None:
    synthesizer = GatedSynthesizer()
    with serving(synthesizer, max_streams=1, max_queue=0) as url, opened(browser, url, "zh-CN") as page:
        synthesizer.budget = 1
        with httpx.stream("POST", f"{url}/v1/audio/speech", json={"input": "hello", "response_format": "pcm"}) as first:
            pieces = first.iter_raw()
            next(pieces)
            speak(page, "hello")
            expect(page.locator("#waiting")).to_have_text(re.compile(r"服务器忙，\d+ 秒后重试"))
            expect(page.locator("#error")).to_be_hidden()
            page.click("#cancel")
            expect(page.locator("#waiting")).to_be_hidden()
            expect(page.locator("#speak")).to_be_focused()
            expect(page.locator("#speak")).to_have_text("朗读")
            press_speak(page)
            expect(page.locator("#waiting")).to_be_visible()
            synthesizer.budget = math.inf
        until_said(page, "朗读完毕")  # it was free the next time
        said = page.evaluate("window.heard.said")
        assert len([words for words in said if "服务器忙" in words]) <= 4  # not of every second


@pytest.mark.parametrize(("language", "words"), [("en-US", "they share its cores"), ("zh-CN", "各路共用核心")])
def test_what_bounds_the_streams_is_told(browser: Browser, serving: Serving, language: str, words: str) -> None:
    synthesizer = ToneSynthesizer()
    synthesizer.capacity = capacity_of([by_setting(16), by_processor(2)])
    synthesizer.kernels = KernelsInUse("torch", "compiler", "There is no `C` compiler.", "没有 C 编译器。")
    with serving(synthesizer) as url, opened(browser, url, language) as page:
        expect(page.locator("#why")).to_contain_text(words)
        expect(page.locator("#why")).to_contain_text({"en-US": "no C compiler", "zh-CN": "没有 C 编译器"}[language])
        expect(page.locator("#facts")).to_contain_text("2")


@pytest.mark.parametrize(("language", "words"), [("en-US", "once (it lost its engine)"), ("zh-CN", "1 次（引擎失效）")])
def test_why_the_server_was_restarted_is_told(
    browser: Browser, serving: Serving, monkeypatch: pytest.MonkeyPatch, language: str, words: str
) -> None:
    for name, value in {RESTARTS: "1", REASON: "lost its engine", REASON_ZH: "引擎失效"}.items():
        monkeypatch.setenv(name, value)
    with serving(ToneSynthesizer()) as url, opened(browser, url, language) as page:
        expect(page.locator("#facts")).to_contain_text(words)


def test_what_is_wrong_is_told_in_words_for_people(browser: Browser, serving: Serving) -> None:
    synthesizer = ToneSynthesizer()
    with serving(synthesizer, max_text_chars=1000) as url, opened(browser, url) as page:
        speak(page, " ")
        expect(page.locator("#error")).to_have_text(
            "There is nothing to speak yet: write at least one word. (CS-TEXT-001)"
        )
        speak(page, "long " * 250)
        expect(page.locator("#error")).to_contain_text("longer than the 1000 characters")
        expect(page.locator("#count")).to_have_text("1,250 of 1,000 characters")
        speak(page, "Hello.")
        expect(page.locator("#error")).to_be_hidden()
        until_said(page, "Finished, 1 second")
        # The voice is deleted elsewhere: it is told, and the list is right from then on.
        synthesizer.voices = {"other": Voice("other", "Other", "另一个", ("en",))}
        speak(page, "Hello.")
        expect(page.locator("#error")).to_contain_text("no longer here")
        expect(page.locator("#voice")).to_have_value("other")
        # A server that goes and comes back takes its message with it.
        page.route("**/*", lambda route: route.abort())
        speak(page, "Hello.")
        expect(page.locator("#error")).to_have_text("The server does not answer")
        expect(page.locator("#state")).to_have_attribute("data-state", "unreachable")
        page.unroute("**/*")
        page.evaluate(LOOK_AGAIN)
        expect(page.locator("#error")).to_be_hidden()
        until_said(page, "Ready")


LOOK_AGAIN = "document.dispatchEvent(new Event('visibilitychange'))"  # as when somebody comes back to the page


def test_voices_that_could_not_be_fetched_are_fetched_again(browser: Browser, serving: Serving) -> None:
    refused: list[str] = []

    def refuse_once(route: Route) -> None:
        if refused:
            return route.continue_()
        refused.append(route.request.url)
        return route.abort()

    with serving(ToneSynthesizer()) as url, visiting(browser) as visitor:
        visitor.route("**/v1/audio/voices", refuse_once)
        page = visitor.new_page()
        page.goto(url)
        until(page, "document.querySelectorAll('#voice option').length === 1")
        assert refused
        expect(page.locator("#error")).to_be_hidden()


def test_a_broken_stream_is_told_and_what_came_is_kept(browser: Browser, serving: Serving) -> None:
    with serving(FailingSynthesizer(pace=CHUNK_SECONDS)) as url, opened(browser, url) as page:
        speak(page, "some words, then fail")
        expect(page.locator("#error")).to_contain_text("broke off")
        expect(page.locator("#take-list")).to_contain_text("not whole")
        until(page, "window.heard.loud > 3")


def test_one_button_speaks_and_stops_and_keeps_what_came(browser: Browser, serving: Serving) -> None:
    synthesizer = GatedSynthesizer()
    with serving(synthesizer) as url, opened(browser, url) as page:
        synthesizer.budget = 100
        page.fill("#text", "a text that is longer than what the budget allows, " * 4)
        tremble(page)
        press_speak(page)
        until(page, "window.heard.loud > 3")
        expect(page.locator("#speak")).to_have_text("Stop")
        press_speak(page, "Enter")
        expect(page.locator("#speak")).to_have_text("Speak")
        expect(page.locator("#speak")).to_be_focused()
        expect(page.locator("#error")).to_be_hidden()
        until(page, "(await (await fetch('readyz')).json()).active_streams === 0")
        expect(page.locator("#take-list li")).to_have_count(1)
        page.click("#play")
        expect(page.locator("#play")).to_have_text("Pause")


def test_pause_and_seek(browser: Browser, serving: Serving) -> None:
    with serving(ToneSynthesizer()) as url, opened(browser, url, reduced_motion="reduce") as page:
        speak(page, "Twenty letters make 2 s. " * 20)
        until(page, "window.heard.responseEnded && window.heard.loud > 3")
        page.click("#play")
        expect(page.locator("#play")).to_have_text("Play")
        assert page.evaluate("window.heard.frames") == 0  # whoever wants less motion gets none
        position = "Number(document.getElementById('seek').value)"
        page.evaluate("window.heard.loud = 0")
        paused = page.evaluate(position)
        page.focus("#seek")
        for _ in range(3):
            page.keyboard.press("ArrowRight")
        assert page.evaluate(position) == pytest.approx(paused + 15, abs=0.5)
        assert re.fullmatch(r"0:\d\d of 0:\d\d", page.get_attribute("#seek", "aria-valuetext") or "")
        page.keyboard.press("End")
        page.click("#play")
        until_said(page, "Finished")
        page.click("#play")  # from the beginning again
        until(page, f"window.heard.loud > 3 && {position} > 0 && {position} < 20")


# What has been marked as spoken so far, in order: the speech goes on, however slow it is to ask.
FOLLOWED = """() => {
  window.followed = new Set();
  const look = () => {
    const current = document.querySelector("#captions [aria-current]");
    if (current) window.followed.add(current.textContent.trim());
  };
  const changes = { attributes: true, childList: true, subtree: true };
  new MutationObserver(look).observe(document.getElementById("captions"), changes);
}"""
THREE = ["The first sentence says something. ", "The second one follows it. ", "And the third one is the last."]


def test_captions_follow_the_speech(browser: Browser, serving: Serving, tmp_path: Path) -> None:
    with serving(ToneSynthesizer()) as url, opened(browser, url) as page:
        page.evaluate(FOLLOWED)
        speak(page, "".join(THREE))
        until(page, "window.heard.responseEnded")
        lines = page.locator("#captions button")
        expect(page.locator("#captions-file")).to_be_visible()
        begins = [caption["begin"] for caption in captions_of(url)]
        expect(lines).to_have_count(len(begins))
        assert " ".join(lines.all_text_contents()).split() == "".join(THREE).split()
        assert len(begins) > 1
        until(page, "window.followed.size")
        assert page.evaluate("[...window.followed][0]") in THREE[0]
        lines.last.click()
        expect(lines.last).to_have_attribute("aria-current", "true")
        expect(page.locator("#captions [aria-current]")).to_have_count(1)
        assert page.evaluate("Number(document.getElementById('seek').value)") >= begins[-1] - 0.2
        with page.expect_download() as download:
            page.click("#captions-file")
        download.value.save_as(tmp_path / "speech.srt")
        times = re.findall(r"^00:00:(\d\d),(\d{3}) --> ", (tmp_path / "speech.srt").read_text(), re.MULTILINE)
        assert [int(seconds) + int(ms) / 1000 for seconds, ms in times] == pytest.approx(begins, abs=0.001)


def captions_of(url: str) -> list[dict[str, Any]]:
    """What the last event says of the same text."""
    asked = {"input": "".join(THREE), "stream_format": "sse"}
    last = httpx.post(f"{url}/v1/audio/speech", json=asked).text.strip().splitlines()[-1]
    captions: list[dict[str, Any]] = json.loads(last.removeprefix("data: "))["captions"]
    return captions


def test_where_a_server_says_no_captions_the_text_is_shown(browser: Browser, serving: Serving) -> None:
    """A stand-in for an older server, whose events have sound alone."""

    def without_captions(route: Route) -> None:
        answer = route.fetch()
        events = [event for event in answer.text().split("\n\n") if "speech.audio.segment" not in event]
        body = re.sub(r', "captions": \[.*?\]', "", "\n\n".join(events))
        route.fulfill(response=answer, body=body)

    with serving(ToneSynthesizer()) as url, opened(browser, url) as page:
        page.route("**/v1/audio/speech", without_captions)
        speak(page, "".join(THREE))
        expect(page.locator("#captions button")).to_have_text(["".join(THREE)])
        until(page, "window.heard.responseEnded && window.heard.loud > 3")
        expect(page.locator("#captions-file")).to_be_hidden()


def test_what_keeps_a_browser_from_playing_is_told(browser: Browser, serving: Serving) -> None:
    with serving(ToneSynthesizer()) as url:
        pending = "AudioContext.prototype.resume = () => new Promise(() => {});"
        pending += "Object.defineProperty(AudioContext.prototype, 'state', { get: () => 'suspended' });"
        throwing = "window.AudioContext = class { constructor() { throw new DOMException('no device'); } };"
        for script, words in ((pending, "press Play"), (throwing, "can still be downloaded")):
            with opened(browser, url, script=script) as page:
                speak(page, "hello")
                expect(page.locator("#notice")).to_contain_text(words)
                expect(page.locator("#take-list li")).to_have_count(1)
                expect(page.locator("#speak")).to_have_text("Speak")


def test_what_was_written_is_there_the_next_time(browser: Browser, server: Server) -> None:
    with opened(browser, server.url) as page:
        expect(page.locator("#voice option")).to_have_count(5)
        page.select_option("#voice", "english-female")
        page.fill("#text", "A draft of mine.")
        choose(page, format="opus", speed="1.5", seed="42")
        page.fill("#speed-number", "9")
        page.press("#speed-number", "Tab")
        expect(page.locator("#speed-number")).to_have_value("1.5")
        page.click("#lock")
        for back in (page.reload, lambda: (page.goto("about:blank"), page.go_back())):
            back()
            expect(page.locator("#voice")).to_have_value("english-female")
            expect(page.locator("#text")).to_have_value("A draft of mine.")
            for name, value in (("format", "opus"), ("speed", "1.5"), ("speed-number", "1.5"), ("seed", "42")):
                expect(page.locator(f"#{name}")).to_have_value(value)
            expect(page.locator("#lock")).to_have_attribute("aria-pressed", "true")


def test_a_text_file_can_be_dropped(browser: Browser, server: Server) -> None:
    drop = """([bytes]) => {
      const data = new DataTransfer();
      data.items.add(new File([new Uint8Array(bytes)], "text.txt", { type: "text/plain" }));
      const dropped = new DragEvent("drop", { dataTransfer: data, cancelable: true, bubbles: true });
      document.getElementById("text").dispatchEvent(dropped);
    }"""
    with opened(browser, server.url) as page:
        page.evaluate(drop, [list("你好，世界".encode("gb18030"))])
        expect(page.locator("#text")).to_have_value("你好，世界")
        page.evaluate(drop, [[0, 1, 2, 0]])
        expect(page.locator("#error")).to_have_text("That is no text file.")
        page.evaluate(drop, [list("Grüße, 世界".encode())])
        expect(page.locator("#text")).to_have_value("Grüße, 世界")
        expect(page.locator("#error")).to_be_hidden()


def test_asks_for_the_key_first_and_once(browser: Browser, serving: Serving) -> None:
    key = "密钥-ключ-sesame"
    with serving(ToneSynthesizer(), api_keys=key) as url, visiting(browser) as visitor:
        page = visitor.new_page()
        page.goto(url)
        expect(page.locator("#key")).to_be_focused()
        expect(page.locator("#error")).to_be_hidden()
        page.fill("#key", "wrong")
        page.keyboard.press("Enter")
        expect(page.locator("#key-error")).to_have_text("The server does not take this key.")
        expect(page.locator("#key")).to_have_attribute("aria-invalid", "true")
        page.fill("#key", key)
        page.keyboard.press("Enter")
        expect(page.locator("#key-form")).to_be_hidden()
        expect(page.locator("#text")).to_be_focused()
        expect(page.locator("#voice option")).to_have_count(1)
        expect(page.locator("#code")).to_contain_text("Bearer KEY")
        speak(page, "hello")
        until_said(page, "Finished")
        second = visitor.new_page()
        second.goto(url)
        expect(second.locator("#voice option")).to_have_count(1)
        expect(second.locator("#key-form")).to_be_hidden()


Asgi = Callable[..., Awaitable[None]]


def under_prefix(app: Asgi) -> Asgi:
    """A stand-in for a proxy such as AutoDL's: the outside path has a prefix that the server never sees."""

    async def proxied(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http" and scope["path"].startswith("/proxy/6008"):
            scope = {**scope, "path": scope["path"].removeprefix("/proxy/6008") or "/"}
        elif scope["type"] == "http" and scope["path"] != "/readyz":
            scope = {**scope, "path": "/outside"}
        await app(scope, receive, send)

    return proxied


def test_works_under_any_path_prefix_with_and_without_its_slash(browser: Browser, serving: Serving) -> None:
    with serving(ToneSynthesizer(), wrap=under_prefix) as url:
        assert httpx.get(url).status_code == 404
        with opened(browser, f"{url}/proxy/6008/") as page:
            speak(page, "hello")
            until(page, "window.heard.loud > 3")
            expect(page.locator("#code")).to_contain_text(f"{url}/proxy/6008/v1/audio/speech")
            page.goto(f"{url}/proxy/6008#voices")
            expect(page.locator("#voice-list li")).to_have_count(1)
            assert page.url == f"{url}/proxy/6008/#voices"


def test_without_scripts_the_page_says_what_it_needs(browser: Browser, server: Server) -> None:
    """Where they are switched off, and where they cannot be loaded."""
    for options, blocked in (({"java_script_enabled": False}, "nothing"), ({}, "**/app.js")):
        context = browser.new_context(**options)  # type: ignore[arg-type]
        context.route(blocked, lambda route: route.abort())
        page = context.new_page()
        page.goto(server.url)
        expect(page.get_by_text("This page needs JavaScript")).to_be_visible()
        expect(page.locator("#unscripted")).not_to_have_css("max-height", "0px")
        expect(page.get_by_label("Text", exact=True)).to_be_visible()
        context.close()


def test_a_machine_that_will_be_switched_off_says_so_and_can_be_kept_on(browser: Browser, tmp_path: Path) -> None:
    with Server(tmp_path, idle_shutdown_minutes=30) as server, opened(browser, server.url) as page:
        expect(page.locator("#idle-text")).to_have_text("Without a request this machine is switched off in 30 min.")
        page.get_by_role("button", name="Keep it on").click()
        expect(page.locator("#idle")).to_be_hidden()
        assert httpx.get(f"{server.url}/readyz").json()["seconds_to_shutdown"] is None


def test_usually_nothing_is_said_of_a_shutdown(browser: Browser, server: Server) -> None:
    with opened(browser, server.url) as page:
        expect(page.locator("#state")).to_have_attribute("data-state", "ready")
        expect(page.locator("#idle")).to_be_hidden()


def test_a_slow_line_leaves_no_gaps(browser: Browser, serving: Serving) -> None:
    """At 20 KB a second MP3, the default, has none after it has begun. WAV, which needs 64, has few: it collects more
    each time."""
    with serving(ToneSynthesizer()) as url, opened(browser, url) as page:
        line = page.context.new_cdp_session(page)
        slow = {"offline": False, "latency": 40, "downloadThroughput": 20_000, "uploadThroughput": 20_000}
        expect(page.locator("#voice option")).to_have_count(1)
        line.send("Network.enable")
        line.send("Network.emulateNetworkConditions", slow)
        speak(page, "These letters make three seconds of a tone.")
        until_said(page, "Finished, 4 seconds")
        assert page.evaluate("window.heard.gaps") == []
        page.evaluate("window.heard.said = []")
        speak(page, "These letters make three seconds of a tone.", format="wav")
        until_said(page, "Slow connection")
        until_said(page, "Finished, 4 seconds")
        gaps = page.evaluate("window.heard.gaps")
        print("WAV at 20 KB/s:", [round(gap, 1) for gap in gaps])
        assert 1 <= len(gaps) <= 5  # 106 of 11 s without that


def test_twenty_thousand_characters(browser: Browser, server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    """Memory and time are printed; that little is decoded before it is heard is what bounds them."""
    text = ("The quick brown fox jumps over the lazy dog. " * 445)[:20_000]
    before = resident(browser)
    with opened(browser, server.url) as page:
        speak(page, text)
        began = time.monotonic()
        most, busy = 0, page.evaluate_handle(SLOWEST_TURN)
        while not page.evaluate("window.heard.responseEnded"):
            most = max(most, resident(browser))
            page.evaluate("new Promise((done) => setTimeout(done, 1000))")  # a look is work for the kernel
        expect(page.locator("#take-list li")).to_have_count(1)
        seconds, length = time.monotonic() - began, page.locator("#clock").inner_text().split()[-1]
        slowest = busy.evaluate("(busy) => busy.slowest")
        assert re.fullmatch(r"(\d+:)?\d+:\d\d", length)
        assert page.evaluate("window.heard.queued") < 100 + seconds
        page.focus("#seek")
        page.keyboard.press("PageUp")
        page.evaluate("window.heard.loud = 0")
        until(page, "window.heard.loud > 3")
    with capsys.disabled():
        memory = f"{(most - before) / 1e6:.0f} MB more in the browser"
        print(f"\n20,000 characters: {length} of MP3 after {seconds:.0f} s, {memory}, longest turn {slowest:.0f} ms")


SLOWEST_TURN = """() => {
  const busy = { slowest: 0, last: performance.now() };
  setInterval(() => {
    busy.slowest = Math.max(busy.slowest, performance.now() - busy.last - 20);
    busy.last = performance.now();
  }, 20);
  return busy;
}"""


def resident(browser: Browser) -> int:
    """Bytes that the processes of the browser have to themselves."""
    mine = [process for process in psutil.Process().children(recursive=True) if "chrom" in (asked(process.name) or "")]
    return sum(memory.uss for process in mine if (memory := asked(process.memory_full_info)))
