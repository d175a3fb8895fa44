"""The page opened in a browser as a person has it, and what is heard of it."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from playwright.sync_api import Browser, BrowserContext, Page

from tests.running import HANGS

# Keeps the page's own analyser where a test can read it. Notes how loud it ever was and when, what was queued, the
# silence between one part and the next, frames that were drawn, and what the live region has said.
LISTEN = """
window.heard = { loud: 0, loudBeforeEnd: 0, responseEnded: false, queued: 0, gaps: [], frames: 0, said: [] };
const create = AudioContext.prototype.createAnalyser;
AudioContext.prototype.createAnalyser = function () {
  const analyser = create.call(this);
  const samples = new Float32Array(analyser.fftSize);
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
const start = AudioBufferSourceNode.prototype.start;
let end = null;
AudioBufferSourceNode.prototype.start = function (at) {
  if (end !== null && at - end > 0.001) window.heard.gaps.push(at - end);
  end = at + this.buffer.duration;
  return start.call(this, at);
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
const request = window.requestAnimationFrame;
window.requestAnimationFrame = (callback) => {
  window.heard.frames++;
  return request.call(window, callback);
};
document.addEventListener("DOMContentLoaded", () => {
  const live = document.getElementById("live");
  if (live) new MutationObserver(() => window.heard.said.push(live.textContent)).observe(live, { childList: true });
});
"""


@contextmanager
def visiting(browser: Browser, locale: str = "en-US", script: str = "", **options: Any) -> Iterator[BrowserContext]:
    """A visitor, in whose pages nothing must be written to the console."""
    context = browser.new_context(locale=locale, **options)
    context.add_init_script(LISTEN + script)
    context.set_default_timeout(HANGS * 1000)
    complaints: list[str] = []

    def watch(page: Page) -> None:
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("console", lambda message: complaints.append(message.text) if "violates" in message.text else None)

    context.on("page", watch)
    try:
        yield context
    finally:
        context.close()
    assert complaints == []


@contextmanager
def opened(browser: Browser, url: str, locale: str = "en-US", script: str = "", **options: Any) -> Iterator[Page]:
    with visiting(browser, locale, script, **options) as context:
        page = context.new_page()
        page.goto(url)
        yield page


def choose(page: Page, **fields: str) -> None:
    """What stands under "More", which may be closed."""
    page.evaluate("document.getElementById('more').open = true")
    for name, value in fields.items():
        if name == "format":
            page.select_option("#format", value)
        else:
            page.fill(f"#{name}", value)


def speak(page: Page, text: str, **fields: str) -> None:
    page.fill("#text", text)
    choose(page, **fields)
    press_speak(page)


def tremble(page: Page) -> None:
    """The next click on the button is a double one. However busy the page is, nothing comes in between."""
    page.evaluate(
        """() => {
          const speak = document.getElementById("speak");
          speak.addEventListener("click", () => speak.click(), { once: true });
        }"""
    )


def press_speak(page: Page, key: str = "") -> None:
    """By the mouse or by a key. A second click within 400 ms would be the same click."""
    page.evaluate("new Promise((done) => setTimeout(done, 400))")
    if key:
        page.press("#speak", key)
    else:
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


def until_said(page: Page, words: str) -> None:
    """The live region has said it, whatever it has said since."""
    until(page, f"window.heard.said.some((each) => each.includes({words!r}))")
