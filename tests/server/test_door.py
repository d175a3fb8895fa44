"""Who is let in: by key where there are keys, else by the name the server is addressed by and the page that asks."""

import base64
import socket
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.responses import Response
from starlette.types import Receive, Scope, Send
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect
from websockets.sync.connection import Connection
from websockets.typing import Origin

from cosyserve.keys.keyring import Keyring
from cosyserve.machine import Machine
from cosyserve.server.door import KEY_PROTOCOL, Door, chosen_protocol
from cosyserve.server.published import Host
from cosyserve.settings import Settings
from tests.conftest import Serving
from tests.running import HANGS, Server
from tests.standins import ToneSynthesizer

SPEECH = "/v1/audio/speech"
SOCKET = "/v1/audio/speech/stream"


@pytest.fixture(scope="module")
def keyless(server: Server) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.url, timeout=HANGS) as client:
        yield client


def refusal(response: httpx.Response) -> str:
    assert response.status_code in (401, 403), response.text
    error = response.json()["error"]
    assert error["remedy"]
    assert error["remedy_zh"]
    return str(error["code"])


HERE = [
    *("localhost", "LOCALHOST:6008", "localhost.", "a.localhost:1"),
    *("127.0.0.1:80", "127.9.9.9", "[::1]", "[::1]:6008"),
]
ELSEWHERE = [
    *("evil.example", "evil.example:6008", "127.0.0.1.evil.example", "localhost.evil.example", "10.0.0.1", "[::2]"),
    *("evil@localhost", "localhost/evil", "localhost evil.example", "", "xn--lcalhost-b4a", "notlocalhost", "[::1"),
    *("127.0.0.1:x", "2130706433", "localhost,evil.example", "0.0.0.0"),  # noqa: S104
]


@pytest.mark.parametrize("host", HERE)
def test_this_machine_is_addressed_as_such(keyless: httpx.Client, host: str) -> None:
    assert keyless.get("/v1/models", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize("host", ELSEWHERE)
@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
def test_a_name_that_somebody_points_here_is_refused(keyless: httpx.Client, host: str, method: str) -> None:
    path = {"GET": "/readyz", "POST": SPEECH, "DELETE": "/v1/audio/voices/anna"}[method]
    assert refusal(keyless.request(method, path, headers={"Host": host})) == "CS-AUTH-002"


def test_a_second_host_is_looked_at_as_well(server: Server) -> None:
    address = urlsplit(server.url)
    for hosts in (["localhost", "evil.example"], ["evil.example", "localhost"]):
        lines = "".join(f"Host: {host}\r\n" for host in hosts)
        with socket.create_connection((str(address.hostname), address.port or 80), timeout=HANGS) as connection:
            connection.sendall(f"GET /v1/models HTTP/1.1\r\n{lines}Connection: close\r\n\r\n".encode())
            assert b"403" in connection.makefile("rb").readline()


def test_names_can_be_listed(serving: Serving) -> None:
    with serving(ToneSynthesizer(), allowed_hosts="tts.example, Other.Example") as url:
        for host, status in (
            ("tts.example:80", 200),
            ("OTHER.example", 200),
            ("evil.example", 403),
            ("localhost", 200),
        ):
            assert httpx.get(f"{url}/v1/models", headers={"Host": host}).status_code == status
    with serving(ToneSynthesizer(), allowed_hosts="*") as url:
        assert httpx.get(f"{url}/v1/models", headers={"Host": "any.example"}).status_code == 200


async def _let_in(scope: Scope, receive: Receive, send: Send) -> None:
    """Stand-in for an application."""
    await Response("in")(scope, receive, send)


@pytest.mark.parametrize(("host", "status"), [("192.168.1.5:6008", 200), ("[fe80::1]", 200), ("evil.example", 403)])
@pytest.mark.anyio
async def test_on_a_network_an_address_in_figures_is_nobodys_name(host: str, status: int) -> None:
    """A server without keys on all addresses, as COSYSERVE_AUTH=off makes it: only names can be pointed elsewhere."""
    settings = Settings(host="0.0.0.0", auth="off")  # noqa: S104 - nothing listens in this test
    door = Door(_let_in, Keyring(settings), settings, Host(settings, Machine()))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(door), base_url="http://server") as client:
        assert (await client.get("/v1/models", headers={"Host": host})).status_code == status


def opened_by(url: str, origin: str) -> Connection:
    """A socket that a page of `origin` opens."""
    return connect(f"{url}{SOCKET}".replace("http", "ws", 1), origin=Origin(origin))


FOREIGN = ["https://evil.example", "http://localhost:1", "null", "http://127.0.0.1.evil.example", "file://", "evil", ""]


@pytest.mark.parametrize("origin", FOREIGN)
def test_a_foreign_page_can_do_nothing(keyless: httpx.Client, server: Server, origin: str) -> None:
    headers = {"Origin": origin}
    assert refusal(keyless.post(SPEECH, json={"input": "hi"}, headers=headers)) == "CS-AUTH-003"
    assert refusal(keyless.post("/tts", data={"text": "hi"}, headers=headers)) == "CS-AUTH-003"
    assert refusal(keyless.post("/v1/audio/voices", data={"name": "x"}, headers=headers)) == "CS-AUTH-003"
    assert refusal(keyless.delete("/v1/audio/voices/x", headers=headers)) == "CS-AUTH-003"
    assert refusal(keyless.delete("/v1/idle-shutdown", headers=headers)) == "CS-AUTH-003"
    assert refusal(keyless.get("/inference_sft", params={"tts_text": "hi"}, headers=headers)) == "CS-AUTH-003"
    with (
        pytest.raises(InvalidStatus) as refused,
        opened_by(server.url, origin),
    ):
        pass
    assert refused.value.response.status_code == 403


def test_the_pages_own_requests_and_those_of_programs_work(keyless: httpx.Client, server: Server) -> None:
    for headers in ({}, {"Origin": server.url}, {"Sec-Fetch-Site": "same-origin"}, {"Sec-Fetch-Site": "none"}):
        body = {"input": "hi", "response_format": "pcm"}
        assert keyless.post(SPEECH, json=body, headers=headers).status_code == 200
    own = f"http://localhost:{server.port}"
    headers = {"Origin": own, "Host": f"localhost:{server.port}"}
    assert keyless.post(SPEECH, json={"input": "hi"}, headers=headers).status_code == 200
    with opened_by(server.url, server.url) as opened:
        assert opened.recv(10)


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_what_a_foreign_page_embeds_is_not_spoken(keyless: httpx.Client, server: Server, site: str) -> None:
    """`<audio src>` and a link name no origin, but browsers say from how far away they are."""
    for referer in ({}, {"Referer": "https://evil.example/page"}, {"Referer": "//"}):
        headers = {"Sec-Fetch-Site": site, **referer}
        assert refusal(keyless.get("/inference_sft?tts_text=hi", headers=headers)) == "CS-AUTH-003"


@pytest.mark.parametrize("referer", ["http://[", "http://a]b/", "http://[::1", "//"])
def test_a_page_that_cannot_be_read_is_foreign(keyless: httpx.Client, referer: str) -> None:
    headers = {"Sec-Fetch-Site": "cross-site", "Referer": referer}
    assert refusal(keyless.get("/tts?text=hi", headers=headers)) == "CS-AUTH-003"


def test_of_several_origins_each_is_looked_at(keyless: httpx.Client, server: Server) -> None:
    for origins in ([server.url, "https://evil.example"], ["https://evil.example", server.url]):
        answer = keyless.post(SPEECH, json={"input": "hi"}, headers=[("Origin", origin) for origin in origins])
        assert refusal(answer) == "CS-AUTH-003"


def test_what_is_listed_may_be_written_as_people_do(serving: Serving) -> None:
    listed = {"cors_origins": "HTTPS://App.example/", "allowed_hosts": "TTS.example.:7114"}
    with serving(ToneSynthesizer(), **listed) as url:
        headers = {"Origin": "https://app.example", "Host": "tts.example"}
        assert httpx.post(url + SPEECH, json={"input": "hi"}, headers=headers).status_code == 200


def test_a_listed_page_on_a_private_network_may_ask_in_advance(serving: Serving) -> None:
    with serving(ToneSynthesizer(), cors_origins="https://app.example") as url:
        headers = {"Origin": "https://app.example", "Access-Control-Request-Method": "POST"}
        headers["Access-Control-Request-Private-Network"] = "true"
        allowed = httpx.options(url + SPEECH, headers=headers)
        assert (allowed.status_code, allowed.headers["access-control-allow-private-network"]) == (200, "true")


def test_a_listed_page_may(serving: Serving) -> None:
    with serving(ToneSynthesizer(), cors_origins="https://app.example, http://localhost:3000") as url:
        for origin in ("https://app.example", "http://localhost:3000"):
            answer = httpx.post(url + SPEECH, json={"input": "hi"}, headers={"Origin": origin})
            assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (200, origin)
            with opened_by(url, origin) as opened:
                assert opened.recv(10)
        embedded = {"Sec-Fetch-Site": "cross-site", "Referer": "https://app.example/page?x=1"}
        assert httpx.get(f"{url}/v1/models", headers=embedded).status_code == 200
        assert (
            httpx.post(url + SPEECH, json={"input": "hi"}, headers={"Origin": "https://evil.example"}).status_code
            == 403
        )


@pytest.mark.parametrize(
    ("listed", "host", "headers", "may"),
    [
        ("http://127.0.0.1:8000", "127.0.0.1:6008", {}, True),
        ("http://127.0.0.1:8000", "127.0.0.1:6008", {"Referer": "https://evil.example/"}, False),
        ("http://127.0.0.1:8000", "127.0.0.1:6008", {"Origin": "null"}, False),
        ("http://127.0.0.1:8000", "127.0.0.1:6008", {"Sec-Fetch-Site": "cross-site"}, False),
        ("http://127.0.0.1:8000", "localhost:6008", {}, False),
        ("http://localhost:5001", "localhost:6008", {}, True),
        ("http://[::1]:8000", "[::1]:6008", {}, True),
        ("https://app.example", "app.example", {}, False),  # its neighbours' pages are of the same site
        ("null", "127.0.0.1:6008", {"Sec-Fetch-Site": "cross-site"}, True),
        ("", "127.0.0.1:6008", {}, False),
    ],
)
def test_what_a_page_embeds_that_hides_its_origin(
    serving: Serving, listed: str, host: str, headers: dict[str, str], may: bool
) -> None:
    """As SillyTavern's does, whose pages send no referrer."""
    with serving(ToneSynthesizer(), cors_origins=listed, allowed_hosts="app.example") as url:
        sent = {"Host": host, "Sec-Fetch-Site": "same-site", **headers}
        assert (httpx.get(f"{url}/v1/models", headers=sent).status_code == 200) is may


def asked_in_advance(url: str, origin: str) -> httpx.Response:
    headers = {
        "Origin": origin,
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization",
    }
    return httpx.options(url + SPEECH, headers=headers)


def test_the_answer_in_advance_names_the_setting(serving: Serving, server: Server) -> None:
    refused = asked_in_advance(server.url, "https://app.example")
    assert refusal(refused) == "CS-AUTH-003"
    assert "COSYSERVE_CORS_ORIGINS" in refused.text
    with serving(ToneSynthesizer(), cors_origins="https://app.example", api_keys="sesame") as url:
        allowed = asked_in_advance(url, "https://app.example")
        assert (allowed.status_code, allowed.headers["access-control-allow-origin"]) == (200, "https://app.example")
        assert "COSYSERVE_CORS_ORIGINS" in asked_in_advance(url, "https://evil.example").text
        refused = httpx.post(url + SPEECH, json={"input": "hi"}, headers={"Origin": "https://app.example"})
        assert refused.status_code == 401
        assert refused.headers["access-control-allow-origin"] == "https://app.example"  # so that the page can read it


def test_where_keys_are_needed_a_key_is_all_that_counts(serving: Serving) -> None:
    with serving(ToneSynthesizer(), api_keys="sesame") as url:
        headers = {"Authorization": "Bearer sesame", "Host": "tts.example", "Origin": "https://elsewhere.example"}
        assert httpx.post(url + SPEECH, json={"input": "hi"}, headers=headers).status_code == 200


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE", "OPTIONS", "HEAD", "PATCH"])
def test_without_a_key_nobody_learns_what_addresses_there_are(serving: Serving, method: str) -> None:
    with serving(ToneSynthesizer(), api_keys="sesame") as url:
        for path in ("/v1/models", "/nowhere", "/v1/audio/voices/x", "//readyz", "/readyz/x", "/webx"):
            assert httpx.request(method, url + path).status_code == 401, path


KEYS = ["sesame", "密钥一", "密码加", "à", "Å", "ключ", "a" * 300, "k3y.with-~safe_marks", "schlüssel", "!#$%&'*+"]


@pytest.mark.parametrize("key", KEYS)
def test_keys_are_compared_as_they_were_written(serving: Serving, key: str) -> None:
    with serving(ToneSynthesizer(), api_keys=key) as url:
        for given, status in ((key, 200), (key + "x", 401), ("x" + key[1:], 401), (key + "\xa0", 401)):
            headers = {b"Authorization": b"Bearer " + given.encode()}
            assert httpx.get(f"{url}/v1/models", headers=headers).status_code == status


@pytest.mark.parametrize("key", KEYS)
def test_a_browsers_socket_gives_its_key_as_a_subprotocol(serving: Serving, key: str) -> None:
    with serving(ToneSynthesizer(), api_keys=key) as url:
        address = f"{url}{SOCKET}".replace("http", "ws", 1)
        written = KEY_PROTOCOL + base64.urlsafe_b64encode(key.encode()).decode().rstrip("=")
        with connect(address, subprotocols=["cosyserve", written]) as opened:  # type: ignore[list-item]
            assert opened.subprotocol == "cosyserve"
            assert opened.recv(10)
        with connect(address, subprotocols=[written]) as opened:  # type: ignore[list-item]
            assert opened.recv(10)
        for wrong in (KEY_PROTOCOL, KEY_PROTOCOL + "wrong", "cosyserve", f"x{written}x"):
            with pytest.raises(InvalidStatus) as refused, connect(address, subprotocols=[wrong]):  # type: ignore[list-item]
                pass
            assert refused.value.response.status_code == 401


def test_of_many_keys_in_one_request_only_the_first_are_compared(serving: Serving) -> None:
    """Or one small request could have thousands compared with every key."""
    many = ", ".join(f"{KEY_PROTOCOL}{number}" for number in range(1000))
    with serving(ToneSynthesizer(), api_keys="sesame") as url:
        for offered, status in ((f"{KEY_PROTOCOL}sesame, {many}", 200), (f"{many}, {KEY_PROTOCOL}sesame", 401)):
            asked = httpx.get(f"{url}/v1/models", headers={"Sec-WebSocket-Protocol": offered})
            assert asked.status_code == status


def test_a_key_that_is_safe_as_a_subprotocol_can_be_given_as_it_is(serving: Serving) -> None:
    with serving(ToneSynthesizer(), api_keys="sesame") as url:
        address = f"{url}{SOCKET}".replace("http", "ws", 1)
        with connect(address, subprotocols=["cosyserve", f"{KEY_PROTOCOL}sesame"]) as opened:  # type: ignore[list-item]
            assert opened.recv(10)


@given(st.lists(st.sampled_from(["a", "b", f"{KEY_PROTOCOL}x", f"{KEY_PROTOCOL}y"])))
def test_a_key_is_never_said_back_beside_something_else(offered: list[str]) -> None:
    chosen = chosen_protocol(offered)
    assert (chosen is None) == (not offered)
    if chosen is not None and any(not each.startswith(KEY_PROTOCOL) for each in offered):
        assert not chosen.startswith(KEY_PROTOCOL)


def test_a_stranger_learns_that_it_is_ready_and_nothing_more(serving: Serving) -> None:
    with serving(ToneSynthesizer(), api_keys="sesame") as url:
        told = {"status": "ready", "needs_key": True}
        for path in ("/readyz", "/health"):
            assert httpx.get(url + path).json() == told
            assert httpx.get(url + path, headers={"Authorization": "Bearer wrong"}).json() == told
            assert "why" in httpx.get(url + path, headers={"Authorization": "Bearer sesame"}).json()


@pytest.mark.parametrize("path", ["/", "/readyz", "/nowhere", "/web/app.js", "/openapi.json", SPEECH])
def test_no_answer_can_be_framed_or_taken_for_something_else(keyless: httpx.Client, path: str) -> None:
    for headers in (keyless.get(path).headers, keyless.post(path).headers):
        assert headers["x-content-type-options"] == "nosniff"
        assert "frame-ancestors 'none'" in headers["content-security-policy"]


def test_the_log_has_paths_and_no_queries(tmp_path: Path) -> None:
    with Server(tmp_path, log_level="debug") as server:
        for path in ("/v1/models?key=sesame&text=hush", "/nowhere?x=hush", "/" + "y" * 5000, "/%0aINFO%20hush"):
            httpx.get(server.url + path)
        body = {"input": "hush. hush."}
        httpx.post(server.url + SPEECH, json=body, params={"key": "sesame"}, headers={"Authorization": "Bearer sesame"})
        httpx.post(f"{server.url}/tts", files={"text": (None, "hush")}, headers={"Authorization": "Bearer sesame"})
        address = f"{server.url}{SOCKET}?key=sesame&text=hush".replace("http", "ws", 1)
        with connect(address, additional_headers={"Authorization": "Bearer sesame"}) as opened:
            opened.recv(10)
            opened.send('{"type": "input_text.append", "text": "hush"}')
            opened.send('{"type": "input_text.end"}')
            for _ in opened:
                pass
        assert server.stop() == 0
    log = server.text()
    assert "GET /v1/models" in log
    assert f"WebSocket {SOCKET}" in log
    assert "sesame" not in log
    assert "hush" not in log.replace("%20hush", "")
    assert "y" * 150 in log
    assert "y" * 201 not in log


@pytest.mark.parametrize("path", ["/v1/models/", "/v1/audio/voices/", "/readyz/", "/speakers/", "/livez//"])
def test_a_slash_at_the_end_makes_no_difference_and_redirects_nobody(serving: Serving, path: str) -> None:
    with serving(ToneSynthesizer(), api_keys="sesame") as url:
        headers = {"Host": "evil.example", "Authorization": "Bearer sesame"}
        answer = httpx.get(url + path, headers=headers)
        assert answer.status_code == 200
        assert answer.content == httpx.get(url + path.rstrip("/"), headers=headers).content


def test_nothing_redirects_to_a_foreign_host(keyless: httpx.Client, server: Server) -> None:
    for path in ("/web", "/web/", "/v1", "/v1/audio/", "//evil.example/", "/tts/", "/openapi.json/"):
        for method in ("GET", "POST", "HEAD"):
            answer = keyless.request(method, server.url + path)
            assert not answer.has_redirect_location
            assert answer.status_code < 500


@pytest.mark.parametrize(
    "path", ["/", "/livez", "/readyz", "/v1/models", "/v1/audio/voices", "/metrics", "/openapi.json"]
)
def test_head_is_get_without_its_body(keyless: httpx.Client, path: str) -> None:
    head, get = keyless.head(path), keyless.get(path)
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-type"] == get.headers["content-type"]
    assert keyless.get("/livez").status_code == 200  # the connection is in order


def test_head_of_speech_frees_its_place(serving: Serving) -> None:
    with serving(ToneSynthesizer(), max_streams=1, max_queue=0) as url, httpx.Client(base_url=url) as client:
        for _ in range(5):
            head = client.request("HEAD", "/inference_sft", data={"tts_text": "x" * 200})
            assert head.status_code in (200, 429)
            assert not head.content
        assert client.post(SPEECH, json={"input": "hi"}).status_code in (200, 429)


def test_http_1_0_gets_plain_bytes_and_a_close(server: Server) -> None:
    address = urlsplit(server.url)
    body = b'{"input": "hello", "response_format": "wav"}'
    head = b"POST %s HTTP/1.0\r\nContent-Type: application/json\r\n" % SPEECH.encode()
    for sent in (b"GET /v1/models HTTP/1.0\r\n\r\n", head + b"Content-Length: %d\r\n\r\n" % len(body) + body):
        with socket.create_connection((str(address.hostname), address.port or 80), timeout=HANGS) as connection:
            connection.sendall(sent)
            answer = b"".join(iter(lambda: connection.recv(65536), b""))
        head, _, rest = answer.partition(b"\r\n\r\n")
        assert b" 200 " in head.splitlines()[0]
        assert b"chunked" not in head.lower()
        assert rest.startswith((b"RIFF", b"{"))
        assert not rest.endswith(b"0\r\n\r\n")
