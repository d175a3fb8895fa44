"""The page in a real Chromium, used as a person uses it."""

import base64
import math
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import Browser, Page, expect

from cosyserve.launch.heartbeat import REASON, REASON_ZH, RESTARTS
from cosyserve.speech.capacity import by_processor, by_setting, capacity_of
from cosyserve.speech.encoders import FORMATS
from cosyserve.speech.kernel_choice import KernelsInUse
from tests.conftest import Serving
from tests.running import GREETING, HANGS, Server
from tests.signals import decoded_by_ffmpeg
from tests.standins import CHUNK_SECONDS, CapableSynthesizer, FailingSynthesizer, GatedSynthesizer, ToneSynthesizer

pytestmark = pytest.mark.browser

# Keeps the page's own analyser where the test can read it, and notes how loud it ever was and when.
LISTEN = """
const create = AudioContext.prototype.createAnalyser;
AudioContext.prototype.createAnalyser = function () {
  const analyser = create.call(this);
  const samples = new Float32Array(analyser.fftSize);
  window.heard = { loud: 0, loudBeforeEnd: 0, responseEnded: false, queued: 0 };
  setInterval(() => {
    analyser.getFloatTimeDomainData(samples);
    const level = Math.sqrt(samples.reduce((sum, sample) => sum + sample * sample, 0) / samples.length);
    if (level > 0.01) {
      window.heard.loud++;
      if (!window.heard.responseEnded) window.heard.loudBeforeEnd++;
    }
  }, 20);
  return analyser;
};
const createBuffer = AudioContext.prototype.createBuffer;
AudioContext.prototype.createBuffer = function (channels, length, rate) {
  window.heard.queued += length / rate;
  return createBuffer.call(this, channels, length, rate);
};
const getReader = ReadableStream.prototype.getReader;
ReadableStream.prototype.getReader = function (...options) {
  const reader = getReader.apply(this, options);
  const read = reader.read.bind(reader);
  reader.read = async () => {
    const result = await read();
    if (result.done) window.heard.responseEnded = true;
    return result;
  };
  return reader;
};
"""


@contextmanager
def opened(browser: Browser, url: str, locale: str = "en-US", **options: Any) -> Iterator[Page]:
    """The page, which must not write anything to its console."""
    context = browser.new_context(locale=locale, **options)
    context.add_init_script(LISTEN)
    context.set_default_timeout(HANGS * 1000)
    page = context.new_page()
    complaints: list[str] = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("console", lambda message: complaints.append(message.text) if "violates" in message.text else None)
    page.goto(url)
    yield page
    assert complaints == []
    context.close()


def speak(page: Page, text: str, fmt: str = "wav") -> None:
    page.fill("#text", text)
    page.select_option("#format", fmt)
    page.click("#speak")


def until(page: Page, condition: str) -> None:
    """Wait for a JavaScript condition. Playwright's own way evaluates text, which the page's policy forbids."""
    page.evaluate(
        f"""(async () => {{
          const deadline = performance.now() + {HANGS * 1000};
          while (!({condition})) {{
            if (performance.now() > deadline) throw new Error("never: " + {condition!r});
            await new Promise((resolve) => setTimeout(resolve, 20));
          }}
        }})()"""
    )


@pytest.mark.parametrize("fmt", FORMATS)
def test_sound_is_heard_while_the_response_still_runs(browser: Browser, serving: Serving, fmt: str) -> None:
    synthesizer = GatedSynthesizer()
    with serving(synthesizer) as url, opened(browser, url) as page:
        synthesizer.budget = 20  # half of it, and the rest once that was heard
        speak(page, "Forty letters make four seconds of sound.", fmt)
        until(page, "window.heard.loudBeforeEnd > 10")
        assert page.evaluate("window.heard.responseEnded") is False
        expect(page.locator("#first-audio")).to_contain_text("ms")
        synthesizer.budget = math.inf
        until(page, "window.heard.responseEnded")
        expect(page.locator("#speak")).to_be_visible()  # it was played to its end
        assert page.evaluate("window.heard.loud") > page.evaluate("window.heard.loudBeforeEnd")


@pytest.mark.parametrize("fmt", FORMATS)
def test_a_long_text_is_decoded_as_it_is_heard(browser: Browser, serving: Serving, fmt: str) -> None:
    """Five minutes that come at once: no more than a minute and a part of them is there as samples."""
    with serving(ToneSynthesizer()) as url, opened(browser, url) as page:
        speak(page, "Twenty letters make 2 s. " * 150, fmt)
        until(page, "window.heard.responseEnded")
        expect(page.locator("#download")).to_be_visible()
        until(page, "window.heard.loud > 3")
        seconds = float(page.locator("#duration").inner_text().split()[0])
        assert seconds > 250
        assert 30 < page.evaluate("window.heard.queued") < 100
        page.click("#stop")
        expect(page.locator("#speak")).to_be_visible()
        expect(page.locator("#error")).to_be_hidden()


def test_silence_is_not_taken_for_sound(browser: Browser, serving: Serving) -> None:
    """The negative control of the test above."""
    synthesizer = GatedSynthesizer()
    with serving(synthesizer) as url, opened(browser, url) as page:
        synthesizer.budget = 0
        speak(page, "hello")
        expect(page.locator("#stop")).to_be_visible()
        page.wait_for_timeout(300)
        assert page.evaluate("window.heard.loud") == 0


@pytest.mark.parametrize("fmt", FORMATS)
def test_what_was_heard_can_be_downloaded(browser: Browser, server: Server, tmp_path: Path, fmt: str) -> None:
    with opened(browser, server.url) as page:
        speak(page, GREETING, fmt)
        with page.expect_download() as download:
            page.click("#download")
        path = tmp_path / download.value.suggested_filename
        download.value.save_as(path)
        assert path.name == f"speech.{fmt}"
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


def test_speaks_the_browser_s_language(browser: Browser, server: Server) -> None:
    with opened(browser, server.url) as page:
        expect(page.locator("#speak")).to_have_text("Speak")
        expect(page.locator("#state-text")).to_contain_text("Preview voice · cpu · python")
        expect(page.locator("#why")).to_contain_text("CosyVoice2")
        expect(page.locator("#voice option").first).to_have_text("Mandarin, male")
    with opened(browser, server.url, "zh-CN") as page:
        expect(page.locator("#speak")).to_have_text("朗读")
        expect(page.locator("#state-text")).to_contain_text("预览语音")
        expect(page.locator("#voice option").first).to_have_text("普通话男声")


@pytest.mark.parametrize(("locale", "name"), [("en-US", "Cantonese"), ("zh-CN", "广东话")])
def test_offers_the_listed_instructions_and_takes_any(
    browser: Browser, serving: Serving, locale: str, name: str
) -> None:
    synthesizer = CapableSynthesizer()
    with serving(synthesizer) as url, opened(browser, url, locale) as page:
        expect(page.locator("#instructions")).to_be_visible()
        offered = page.locator("#known-instructions option")
        expect(offered).to_have_count(26)
        expect(offered.first).to_have_attribute("value", "请用广东话表达。")
        assert offered.first.evaluate("option => option.label") == name
        page.fill("#instructions", "请非常开心地说一句话。")
        speak(page, "hi")
        expect(page.locator("#download")).to_be_visible()
    assert synthesizer.asked[-1].instructions == "请非常开心地说一句话。"


def test_offers_no_instructions_where_nobody_follows_them(browser: Browser, server: Server) -> None:
    with opened(browser, server.url) as page:
        expect(page.locator("#state-text")).to_contain_text("Preview voice")
        expect(page.locator("#instructions")).to_be_hidden()


@pytest.mark.parametrize("model", ["cosyvoice2-0.5b", "cosyvoice3-0.5b"])
def test_names_the_model_that_speaks(browser: Browser, serving: Serving, model: str) -> None:
    synthesizer = ToneSynthesizer()
    synthesizer.model = model
    with serving(synthesizer) as url, opened(browser, url) as page:
        expect(page.locator("#state-text")).to_contain_text(f"CosyVoice{model[9]} · cpu")


@pytest.mark.parametrize("width", [320, 390, 1400])
def test_fits_phone_and_desktop(browser: Browser, server: Server, width: int) -> None:
    with opened(browser, server.url, viewport={"width": width, "height": 800}) as page:
        expect(page.locator("#speak")).to_be_visible()
        assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")


def test_a_full_server_is_told_in_words(browser: Browser, serving: Serving) -> None:
    synthesizer = GatedSynthesizer()
    with serving(synthesizer, max_streams=1, max_queue=0) as url, opened(browser, url, "zh-CN") as page:
        synthesizer.budget = 1
        with httpx.stream("POST", f"{url}/v1/audio/speech", json={"input": "hello", "response_format": "pcm"}) as first:
            pieces = first.iter_raw()
            next(pieces)
            speak(page, "hello")
            expect(page.locator("#error")).to_contain_text("排队")
            expect(page.locator("#error")).to_contain_text("秒后重试")
            expect(page.locator("#error")).to_contain_text("CS-BUSY-001")
            expect(page.locator("#speak")).to_be_visible()


@pytest.mark.parametrize(("language", "words"), [("en-US", "they share its cores"), ("zh-CN", "各路共用核心")])
def test_what_bounds_the_streams_is_told(browser: Browser, serving: Serving, language: str, words: str) -> None:
    synthesizer = ToneSynthesizer()
    synthesizer.capacity = capacity_of([by_setting(16), by_processor(2)])
    with serving(synthesizer) as url, opened(browser, url, language) as page:
        expect(page.locator("#why")).to_contain_text(words)
        expect(page.locator("#state-text")).to_contain_text("2")


@pytest.mark.parametrize(
    ("language", "words"), [("en-US", "restarted once (it lost its engine)"), ("zh-CN", "已重启 1 次（引擎失效）")]
)
def test_why_the_server_was_restarted_is_told(
    browser: Browser, serving: Serving, monkeypatch: pytest.MonkeyPatch, language: str, words: str
) -> None:
    for name, value in {RESTARTS: "1", REASON: "lost its engine", REASON_ZH: "引擎失效"}.items():
        monkeypatch.setenv(name, value)
    with serving(ToneSynthesizer()) as url, opened(browser, url, language) as page:
        expect(page.locator("#state-text")).to_contain_text(words)


@pytest.mark.parametrize(("language", "words"), [("en-US", "no C compiler"), ("zh-CN", "没有 C 编译器")])
def test_what_a_card_computes_with_is_told(browser: Browser, serving: Serving, language: str, words: str) -> None:
    synthesizer = ToneSynthesizer()
    synthesizer.kernels = KernelsInUse("torch", "compiler", "There is no C compiler.", "没有 C 编译器。")
    with serving(synthesizer) as url, opened(browser, url, language) as page:
        expect(page.locator("#why")).to_contain_text(words)


def test_no_text_is_told_in_words(browser: Browser, server: Server) -> None:
    with opened(browser, server.url) as page:
        speak(page, " ")
        expect(page.locator("#error")).to_contain_text("nothing to speak")
        speak(page, "Hello.")
        expect(page.locator("#error")).to_be_hidden()
        expect(page.locator("#download")).to_be_visible()


def test_a_broken_stream_is_told_and_what_came_is_kept(browser: Browser, serving: Serving) -> None:
    with serving(FailingSynthesizer(pace=CHUNK_SECONDS)) as url, opened(browser, url) as page:
        speak(page, "some words, then fail")
        expect(page.locator("#error")).to_contain_text("broke off")
        expect(page.locator("#download")).to_be_visible()


def test_stop_ends_the_sound_and_the_work(browser: Browser, serving: Serving) -> None:
    synthesizer = GatedSynthesizer()
    with serving(synthesizer) as url, opened(browser, url) as page:
        synthesizer.budget = 20
        speak(page, "a text that is longer than what the budget allows")
        until(page, "window.heard.loud > 3")
        page.click("#stop")
        expect(page.locator("#speak")).to_be_visible()
        expect(page.locator("#error")).to_be_hidden()
        until(page, "(await (await fetch('readyz')).json()).active_streams === 0")


def test_asks_for_the_key_where_one_is_needed(browser: Browser, serving: Serving) -> None:
    with serving(ToneSynthesizer(), api_keys="sesame") as url, opened(browser, url) as page:
        expect(page.locator("#error")).to_contain_text("CS-AUTH-001")
        page.fill("#key", "sesame")
        page.press("#key", "Tab")
        expect(page.locator("#voice option")).to_have_count(1)
        expect(page.locator("#error")).to_be_hidden()
        speak(page, "hello")
        expect(page.locator("#download")).to_be_visible()


Asgi = Callable[..., Awaitable[None]]


def under_prefix(app: Asgi) -> Asgi:
    """A stand-in for a proxy such as AutoDL's: the outside path has a prefix that the server never sees."""

    async def proxied(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http" and scope["path"].startswith("/proxy/6008/"):
            scope = {**scope, "path": scope["path"].removeprefix("/proxy/6008")}
        elif scope["type"] == "http" and scope["path"] != "/readyz":
            scope = {**scope, "path": "/outside"}
        await app(scope, receive, send)

    return proxied


def test_works_under_any_path_prefix(browser: Browser, serving: Serving) -> None:
    with serving(ToneSynthesizer(), wrap=under_prefix) as url:
        assert httpx.get(url).status_code == 404
        with opened(browser, f"{url}/proxy/6008/") as page:
            speak(page, "hello")
            expect(page.locator("#download")).to_be_visible()
            until(page, "window.heard.loud > 3")


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
