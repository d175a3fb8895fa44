"""What a web page that somebody else wrote can do, in a real Chromium, with a server on this machine: nothing.

The name evil.example leads to this machine, as any name can that its owner points here.
"""

import base64
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from playwright.sync_api import Browser, Page

from cosyserve.server.door import KEY_PROTOCOL
from tests.conftest import Serving
from tests.standins import CapableSynthesizer, ToneSynthesizer

pytestmark = pytest.mark.browser

SPEECH, SOCKET = "/v1/audio/speech", "/v1/audio/speech/stream"


@contextmanager
def page_of(browser: Browser, name: str, html: str = "<title>evil</title>") -> Iterator[Page]:
    """A page that another server on this machine gives out, under the host name `name`."""

    class Elsewhere(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(html.encode())

        def log_message(self, *_: Any) -> None:
            pass

    elsewhere = ThreadingHTTPServer(("127.0.0.1", 0), Elsewhere)
    thread = threading.Thread(target=elsewhere.serve_forever)
    thread.start()
    context = browser.new_context()
    try:
        page = context.new_page()
        page.goto(f"http://{name}:{elsewhere.server_port}/")
        yield page
    finally:
        context.close()
        elsewhere.shutdown()
        elsewhere.server_close()
        thread.join()


# Each sends what it can without asking the server first, and waits until it knows that it was answered or refused.
ATTEMPTS = {
    "a form adds a voice": """async (url) => {
        const form = new FormData();
        for (const [name, value] of [["name", "mallory"], ["consent", "mine"]]) form.append(name, value);
        form.append("audio", new Blob(["RIFF"]), "a.wav");
        await fetch(url + "/v1/audio/voices", { method: "POST", mode: "no-cors", body: form });
    }""",
    "a form speaks": """async (url) => {
        await fetch(url + "/tts", { method: "POST", mode: "no-cors", body: new URLSearchParams({ text: "hello" }) });
    }""",
    "JSON in disguise speaks": """async (url) => {
        const body = new Blob([JSON.stringify({ input: "hello" })], { type: "text/plain" });
        await fetch(url + "/v1/audio/speech", { method: "POST", mode: "no-cors", body });
    }""",
    "JSON speaks": """async (url) => {
        const headers = { "Content-Type": "application/json" };
        const body = JSON.stringify({ input: "hello" });
        await fetch(url + "/v1/audio/speech", { method: "POST", headers, body }).catch(() => {});
    }""",
    "a deletion": """async (url) => {
        await fetch(url + "/v1/audio/voices/tone", { method: "DELETE" }).catch(() => {});
    }""",
    "an element plays": """(url) => new Promise((done) => {
        const audio = new Audio(url + "/inference_sft?tts_text=hello");
        audio.onerror = audio.oncanplay = () => done();
        audio.load();
    })""",
    "an image fetches": """(url) => new Promise((done) => {
        const image = new Image();
        image.onerror = image.onload = () => done();
        image.src = url + "/inference_sft?tts_text=hello";
    })""",
}


@pytest.mark.parametrize("attempt", ATTEMPTS)
def test_a_foreign_page_has_nothing_done(browser: Browser, serving: Serving, attempt: str) -> None:
    synthesizer = CapableSynthesizer()
    with serving(synthesizer) as url, page_of(browser, "evil.example") as page:
        synthesizer.asked.clear()  # its warm-up
        page.evaluate(ATTEMPTS[attempt], url)
        assert synthesizer.asked == []
        assert list(synthesizer.voices) == ["tone"]


OPEN_SOCKET = """([url, protocols]) => new Promise((done) => {
    const socket = new WebSocket(url.replace("http", "ws") + "/v1/audio/speech/stream", protocols);
    socket.onmessage = (event) => done(JSON.parse(event.data).type);
    socket.onclose = () => done("closed");
})"""


def test_a_foreign_page_opens_no_socket(browser: Browser, serving: Serving) -> None:
    with serving(ToneSynthesizer()) as url, page_of(browser, "evil.example") as page:
        assert page.evaluate(OPEN_SOCKET, [url, []]) == "closed"


def test_a_page_whose_name_was_pointed_here_is_no_page_of_ours(browser: Browser, serving: Serving) -> None:
    synthesizer = CapableSynthesizer()
    with serving(synthesizer) as url:
        synthesizer.asked.clear()
        page = browser.new_context().new_page()
        foreign = url.replace("127.0.0.1", "evil.example")
        answer = page.goto(foreign)
        assert answer is not None
        assert answer.status == 403
        assert "CS-AUTH-002" in answer.text()
        send = """async ([path, method]) => (await fetch(path, { method, body: new FormData() })).status"""
        for path, method in ((SPEECH, "POST"), ("/v1/audio/voices/tone", "DELETE"), ("/v1/audio/voices", "POST")):
            assert page.evaluate(send, [path, method]) == 403
        assert page.evaluate(OPEN_SOCKET, [foreign, []]) == "closed"
        assert synthesizer.asked == []
        page.context.close()


def test_our_page_cannot_be_framed(browser: Browser, serving: Serving) -> None:
    with serving(ToneSynthesizer()) as url, page_of(browser, "evil.example", f'<iframe src="{url}/"></iframe>') as page:
        page.wait_for_load_state("load")
        frame = page.frames[1]
        assert frame.locator("#speak").count() == 0


def test_a_listed_page_speaks_and_hears(browser: Browser, serving: Serving) -> None:
    with page_of(browser, "app.example") as page:
        origin = page.evaluate("location.origin")
        with serving(ToneSynthesizer(), cors_origins=origin) as url:
            read = """async (url) => {
                const headers = { "Content-Type": "application/json" };
                const body = JSON.stringify({ input: "hello", response_format: "pcm" });
                const answer = await fetch(url + "/v1/audio/speech", { method: "POST", headers, body });
                return (await answer.arrayBuffer()).byteLength;
            }"""
            assert page.evaluate(read, url) == 5 * 2 * 2400
            assert page.evaluate(OPEN_SOCKET, [url, []]) == "session.created"


def test_a_page_gives_its_key_to_a_socket(browser: Browser, serving: Serving) -> None:
    with page_of(browser, "app.example") as page, serving(ToneSynthesizer(), api_keys="密钥-sesame") as url:
        key = base64.urlsafe_b64encode("密钥-sesame".encode()).decode().rstrip("=")
        assert page.evaluate(OPEN_SOCKET, [url, ["cosyserve", KEY_PROTOCOL + key]]) == "session.created"
        assert page.evaluate(OPEN_SOCKET, [url, ["cosyserve", KEY_PROTOCOL + "wrong"]]) == "closed"
        assert page.evaluate(OPEN_SOCKET, [url, []]) == "closed"
