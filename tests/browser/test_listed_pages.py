"""What pages of SillyTavern and KoboldCpp do in a browser. They come from another port, and SillyTavern's hide their
address (`Referrer-Policy: no-referrer`)."""

import http.server
import threading
from collections.abc import Iterator
from urllib.parse import urlencode

import pytest
from playwright.sync_api import Browser

from tests.running import HANGS, Server

pytestmark = pytest.mark.browser

_PLAY = """url => new Promise(resolve => {
  const audio = new Audio(url);
  audio.onended = () => resolve("ended");
  audio.onerror = () => resolve("refused");
  audio.oncanplay = () => audio.play();
})"""
_POST = """async ([url, body]) => {
  const headers = {"Content-Type": "application/json", "Cache-Control": "no-cache"};
  const response = await fetch(url, {method: "POST", headers, body: JSON.stringify(body)});
  return [response.status, (await response.arrayBuffer()).byteLength];
}"""


class _Page(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.send_header("Referrer-Policy", "no-referrer")
        self.end_headers()
        self.wfile.write(b"<!doctype html><title>A page of another program</title>")

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def origin() -> Iterator[str]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Page) as page:
        thread = threading.Thread(target=page.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{page.server_port}"
        page.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def listing(origin: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server(tmp_path_factory.mktemp("listing"), cors_origins=origin) as running:
        yield running


def test_a_listed_page_speaks(browser: Browser, listing: Server, origin: str) -> None:
    page = browser.new_page()
    page.set_default_timeout(HANGS * 1000)
    page.goto(origin)
    voices = page.evaluate("url => fetch(url).then(response => response.json())", f"{listing.url}/speakers")
    voice = voices[0]["voice_id"]
    said = {"text": "Hi.", "speaker_wav": voice, "language": "en"}
    for path, body in (("/tts_to_audio/", said), ("/", {"text": "Hi.", "speaker": voice})):
        status, size = page.evaluate(_POST, [listing.url + path, body])
        assert (status, size > 5_000) == (200, True)
    assert page.evaluate(_PLAY, f"{listing.url}/tts_stream/?{urlencode(said)}") == "ended"
    page.close()


def test_a_page_of_another_name_does_not(browser: Browser, listing: Server, origin: str) -> None:
    page = browser.new_page()
    page.set_default_timeout(HANGS * 1000)
    page.goto(origin.replace("127.0.0.1", "localhost"))
    address = f"{listing.url}/tts_stream?{urlencode({'text': 'Hi.'})}"
    assert page.evaluate(_PLAY, address) == "refused"
    page.close()
