"""Connections that send too much, too slowly, nothing, or take nothing: each is ended, and nobody else notices."""

import json
import math
import select
import socket
import struct
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cosyserve.server.connections import Limits
from tests.conftest import Serving
from tests.running import HANGS, Server, eventually
from tests.standins import GatedSynthesizer, ToneSynthesizer

SPEECH = "/v1/audio/speech"
SHORT = Limits(head_seconds=0.3, body_seconds=0.5, body_bytes_per_second=1e6, stall_seconds=0.5, idle_seconds=0.5)
UPGRADE = (
    b"GET /v1/audio/speech/stream HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
)


@contextmanager
def connected(url: str) -> Iterator[socket.socket]:
    address = urlsplit(url)
    with socket.create_connection((str(address.hostname), address.port or 80), timeout=HANGS) as connection:
        yield connection


def answer(connection: socket.socket) -> bytes:
    """All that comes until the server closes."""
    data = b""
    try:
        while piece := connection.recv(65536):
            data += piece
    except ConnectionResetError:
        pass
    return data


def code_in(data: bytes) -> str:
    head, _, body = data.partition(b"\r\n\r\n")
    error = json.loads(body)["error"]
    assert error["remedy_zh"]
    assert b"connection: close" in head.lower()
    return str(error["code"])


HEADS = {
    "a long type": b"Content-Type: multipart/form-data" + b";" * 12_000_000,
    "a long address": b"",
    "a long name": b"x" * 200_000 + b": 1",
    "many headers": b"\r\n".join(b"a%d: b" % number for number in range(5000)),
    "many small headers": b"a:\r\n" * 200,
}


@pytest.mark.parametrize("kind", HEADS)
def test_a_head_has_a_largest_size(server: Server, kind: str) -> None:
    address = b"/" + b"y" * 200_000 if kind == "a long address" else SPEECH.encode()
    with connected(server.url) as connection:
        connection.sendall(b"POST %s HTTP/1.1\r\nHost: localhost\r\n%s\r\n\r\n" % (address, HEADS[kind]))
        data = answer(connection)
    assert data.startswith(b"HTTP/1.1 431 ")
    assert code_in(data) == "CS-REQ-006"


@pytest.mark.parametrize("lines", [100_000, 1])
def test_empty_lines_before_a_request_are_part_of_its_head(server: Server, lines: int) -> None:
    with connected(server.url) as connection:
        connection.sendall(b"\r\n" * lines + b"GET /livez HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        assert answer(connection).startswith((b"HTTP/1.1 431 ", b"HTTP/1.1 200 "))


@settings(max_examples=30)
@given(st.lists(st.integers(1, 3000), max_size=8), st.integers(0, 5000))
def test_a_request_is_understood_however_it_arrives(server: Server, cuts: list[int], padding: int) -> None:
    body = json.dumps({"input": "hi", "response_format": "pcm", "padding": "p" * padding}).encode()
    request = b"POST %s HTTP/1.1\r\nHost: localhost\r\nX-Padding: %s\r\n" % (SPEECH.encode(), b"q" * padding)
    request += b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)
    request += b"GET /livez HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"  # right behind it
    with connected(server.url) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for cut in cuts:
            connection.sendall(request[:cut])
            request = request[cut:]
        connection.sendall(request)
        assert answer(connection).count(b"HTTP/1.1 200 OK") == 2


@pytest.mark.parametrize(
    "rubbish",
    [b"\0\0\0\0\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00", b"GET / HTTP/9.9\r\n\r\n", b"BREW / HTTP/1.1\r\n\r\n"]
    + [b"GET /\xff HTTP/1.1\r\n\r\n", b"GET http:// HTTP/1.1\r\n\r\n", b"GET / HTTP/1.1\r\nContent-Length: x\r\n\r\n"],
)
def test_what_is_no_request_is_told_so(server: Server, rubbish: bytes) -> None:
    with connected(server.url) as connection:
        connection.sendall(rubbish)
        assert code_in(answer(connection)).startswith("CS-")


@pytest.mark.parametrize(
    "head",
    [b"", b"GET /livez HT", b"GET /livez HTTP/1.1\r\nHost: local", b"\r\n"],
)
def test_a_head_that_does_not_end_is_waited_for_no_longer(serving: Serving, head: bytes) -> None:
    with serving(ToneSynthesizer(), limits=SHORT) as url, connected(url) as connection:
        connection.sendall(head)
        assert code_in(answer(connection)) == "CS-REQ-007"


def test_a_second_head_that_does_not_end_neither(serving: Serving) -> None:
    with serving(ToneSynthesizer(), limits=SHORT) as url, connected(url) as connection:
        connection.sendall(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\nGET /livez")
        assert answer(connection).count(b"HTTP/1.1 ") == 2


@pytest.mark.parametrize("kind", ["Content-Length: 100000", "Transfer-Encoding: chunked"])
def test_a_body_that_does_not_come_is_waited_for_no_longer(serving: Serving, kind: str) -> None:
    with serving(ToneSynthesizer(), limits=SHORT) as url, connected(url) as connection:
        head = f"POST {SPEECH} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n{kind}\r\n\r\n"
        connection.sendall(head.encode())
        assert code_in(answer(connection)) == "CS-REQ-007"


def test_a_body_that_trickles_is_as_good_as_one_that_stops(serving: Serving) -> None:
    with serving(ToneSynthesizer(), limits=SHORT) as url, connected(url) as connection:
        connection.sendall(f"POST {SPEECH} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\n\r\n".encode())
        connection.settimeout(0.1)
        data = b""
        for _ in range(600):
            try:
                data = connection.recv(65536)
                break
            except TimeoutError:
                connection.sendall(b" ")
        assert code_in(data) == "CS-REQ-007"


def test_whoever_takes_nothing_is_cut_off(serving: Serving) -> None:
    synthesizer = ToneSynthesizer()
    with serving(synthesizer, stall_seconds=0.3) as url, ExitStack() as open_:
        body = json.dumps({"input": "x" * 3000, "response_format": "pcm"}).encode()
        head = f"POST {SPEECH} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        readers = [open_.enter_context(connected(url)) for _ in range(5)]
        for reader in readers:
            reader.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        # Cut off and not closed in order: the rest is never waited for.
        eventually(lambda: all(_is_reset(reader) for reader in readers))


def _is_reset(connection: socket.socket) -> bool:
    """Whether the peer has let go of it, seen without reading."""
    return connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] == 7  # TCP_CLOSE


def test_a_socket_that_takes_nothing_is_cut_off(serving: Serving) -> None:
    with serving(ToneSynthesizer(), stall_seconds=0.3) as url, connected(url) as connection:
        connection.sendall(UPGRADE + b"\r\n")
        assert b" 101 " in connection.recv(100)
        for message in ({"type": "input_text.append", "text": "x" * 5000}, {"type": "input_text.flush"}):
            connection.sendall(frame(json.dumps(message).encode()))
        eventually(lambda: _is_reset(connection))


def frame(payload: bytes, opcode: int = 1) -> bytes:
    """A client's frame, masked with zeros."""
    length = struct.pack("!BH", 0xFE, len(payload)) if len(payload) > 125 else struct.pack("!B", 0x80 | len(payload))
    return bytes([0x80 | opcode]) + length + bytes(4) + payload


def test_a_socket_on_which_nothing_is_said_is_closed(serving: Serving) -> None:
    """Pings keep a line open, not a conversation."""
    with serving(ToneSynthesizer(), limits=SHORT) as url, connected(url) as connection:
        connection.sendall(UPGRADE + b"\r\n")
        connection.settimeout(0.05)
        data = b""
        while not data.endswith(b"nothing was said for too long"):
            try:
                data += connection.recv(65536)
            except TimeoutError:
                connection.sendall(frame(b"", opcode=9))


@pytest.mark.parametrize(
    ("first", "each"),
    [(b"", frame(b"", opcode=10)), (b"", frame(b"", opcode=9)), (b"\x01\x80" + bytes(4), b"\x00\x80" + bytes(4))],
    ids=["pongs", "pings", "fragments"],
)
def test_frames_that_bring_no_message_are_counted(server: Server, first: bytes, each: bytes) -> None:
    with connected(server.url) as connection:
        connection.sendall(UPGRADE + b"\r\n")
        assert b" 101 " in connection.recv(100)
        with suppress(ConnectionResetError, BrokenPipeError):
            connection.sendall(first + each * 100_000)
        assert b"too many frames" in answer(connection) or _is_reset(connection)
        assert httpx.get(f"{server.url}/livez", timeout=HANGS).status_code == 200


def test_pings_whose_answers_nobody_takes_do_not_pile_up(serving: Serving) -> None:
    limits = Limits(drain_seconds=0.3)  # once it is refused
    with serving(ToneSynthesizer(), limits=limits) as url, connected(url) as connection:
        connection.sendall(UPGRADE + b"\r\n")
        pings = frame(b"p" * 125, opcode=9) * 100
        with pytest.raises((ConnectionResetError, BrokenPipeError)):
            while True:
                connection.sendall(pings)


@pytest.mark.parametrize(
    "more",
    [
        b"X: y\r\n" * 126,
        b"X: " + b"y" * 10_000 + b"\r\n",
        b"X: \xff\r\n",
        b"Sec-WebSocket-Version: 99\r\n",
        b"\r\n" * 3,
    ],
    ids=["many headers", "a long header", "a wrong byte", "a wrong version", "an end too early"],
)
def test_a_socket_that_begins_badly_leaves_nothing_behind(serving: Serving, more: bytes) -> None:
    with serving(ToneSynthesizer()) as url:
        for _ in range(3):
            with connected(url) as connection:
                connection.sendall(UPGRADE + more + b"\r\n")
                connection.shutdown(socket.SHUT_WR)
                answer(connection)
        assert httpx.get(f"{url}/livez").status_code == 200


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
def test_an_upgrade_that_is_none_is_answered(serving: Serving, method: str) -> None:
    body = b'{"input": "hello", "response_format": "pcm"}'
    with serving(ToneSynthesizer()) as url, connected(url) as connection:
        head = UPGRADE.replace(b"GET /v1/audio/speech/stream", method.encode() + b" " + SPEECH.encode())
        connection.sendall(head + b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        assert answer(connection).startswith(b"HTTP/1.1 200" if method == "POST" else b"HTTP/1.1 405")


def test_over_the_bound_the_one_that_says_nothing_makes_room(serving: Serving) -> None:
    with serving(ToneSynthesizer(), limits=Limits(connections=5)) as url, ExitStack() as open_:
        silent = [open_.enter_context(connected(url)) for _ in range(20)]
        assert httpx.get(f"{url}/livez").status_code == 200
        eventually(lambda: sum(_is_reset(each) for each in silent) >= 15)


def test_where_all_are_at_work_one_more_is_told_to_come_again(serving: Serving) -> None:
    synthesizer = GatedSynthesizer()
    with serving(synthesizer, limits=Limits(connections=3)) as url, ExitStack() as open_:
        synthesizer.budget = 0
        for _ in range(3):
            connection = open_.enter_context(connected(url))
            body = b'{"input": "hello", "response_format": "pcm"}'
            head = b"POST %s HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n" % SPEECH.encode()
            connection.sendall(head + b"Content-Length: %d\r\n\r\n" % len(body) + body)
        eventually(lambda: synthesizer.inside == 3)
        with connected(url) as one_more:
            data = answer(one_more)
        assert data.startswith(b"HTTP/1.1 503 ")
        assert b"retry-after" in data.lower()
        assert code_in(data) == "CS-BUSY-004"
        synthesizer.budget = math.inf


def test_a_key_is_asked_for_before_a_body_is_read(serving: Serving) -> None:
    """The answer comes although the body never does."""
    with serving(ToneSynthesizer(), api_keys="sesame") as url, connected(url) as connection:
        head = f"POST {SPEECH} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        connection.sendall(f"{head}Content-Length: 9000000\r\n\r\n".encode())
        assert b" 401 " in connection.recv(100)


MULTIPART = "multipart/form-data; boundary=b"
PART = b'--b\r\nContent-Disposition: form-data; name="a"'
BODIES = {
    "arrays": ("application/json", b"[0]," * 2_500_000),
    "nested": ("application/json", b"[" * 1_000_000),
    "a long number": ("application/json", b'{"input": ' + b"1" * 1_000_000 + b"}"),
    "plain text": ("text/plain", b"x" * 9_000_000),
    "many fields": ("application/x-www-form-urlencoded", b"a&" * 4_000_000),
    "fewer fields": ("application/x-www-form-urlencoded", b"a=b&" * 200_000),
    "a part's head": (MULTIPART, PART + b";" * 9_000_000),
    "many parts": (MULTIPART, (PART + b"\r\n\r\nx\r\n") * 100_000),
    "almost boundaries": (MULTIPART, b"\r\n--" * 2_000_000),
    "a long boundary": ("multipart/form-data; boundary=" + "b" * 5000, b"x"),
    "a long type": ("multipart/form-data" + ";" * 60_000, b"x"),
    "no boundary": ("multipart/form-data", b"x"),
}


@pytest.mark.parametrize(
    ("framing", "ends"),
    [("Content-Length: 3000", True), ("Transfer-Encoding: chunked", True), ("Content-Length: 1000", False)],
)
def test_an_answer_before_the_body_says_whether_the_connection_ends(serving: Serving, framing: str, ends: bool) -> None:
    head = f"POST {SPEECH} HTTP/1.1\r\nHost: localhost\r\n{framing}\r\n\r\n"
    with serving(ToneSynthesizer(), api_keys="sesame", max_upload_bytes=2000) as url, connected(url) as connection:
        connection.sendall(head.encode())
        said = connection.recv(65536)
        assert said.startswith(b"HTTP/1.1 401 ")
        assert (b"connection: close" in said.lower()) == ends


@pytest.mark.parametrize("kind", BODIES)
@pytest.mark.parametrize("path", [SPEECH, "/tts", "/v1/audio/voices"])
def test_no_body_holds_the_server_up(client: httpx.Client, path: str, kind: str) -> None:
    media_type, body = BODIES[kind]
    refused = client.post(path, content=body, headers={"Content-Type": media_type})
    assert refused.status_code in (400, 413)
    assert refused.json()["error"]["code"].startswith("CS-")


def test_where_descriptors_are_few_it_still_answers_and_the_log_stays_short(tmp_path: Path) -> None:
    """The limit is one that the server cannot raise."""
    few = ("sh", "-c", 'ulimit -n 200; exec "$@"', "sh")
    with Server(tmp_path, before=few) as server, ExitStack() as open_:
        for _ in range(600):
            open_.enter_context(connected(server.url))
        assert httpx.get(f"{server.url}/livez", timeout=HANGS).status_code == 200
        body = {"input": "hello", "response_format": "mp3"}
        assert httpx.post(server.url + SPEECH, json=body, timeout=HANGS).status_code == 200
        assert server.stop() == 0
    assert len(server.text().splitlines()) < 200
    assert "Traceback" not in server.text()


CHUNKED = f"POST {SPEECH} HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n"
AROUND = {
    "a trailer": b"0\r\nX: " + b"a" * 10_000_000,
    "the name of a trailer": b"0\r\n" + b"a" * 10_000_000,
    "many trailers": b"0\r\n" + b"a: b\r\n" * 1_000_000,
    "tiny chunks": b"1\r\na\r\n" * 1_000_000,
    "extensions of chunks": (b"1;" + b"x" * 10_000 + b"\r\na\r\n") * 1000,
}


@pytest.mark.parametrize("kind", AROUND)
@pytest.mark.parametrize("keys", ["", "sesame"])
def test_what_comes_around_a_body_is_bounded(serving: Serving, kind: str, keys: str) -> None:
    """With a key, the answer is there before the body is."""
    with serving(ToneSynthesizer(), **({"api_keys": keys} if keys else {})) as url, connected(url) as connection:
        with suppress(ConnectionResetError, BrokenPipeError):
            connection.sendall(CHUNKED.encode() + b"\r\n" + AROUND[kind])
        assert answer(connection)[9:12] in (b"400", b"401", b"")
        assert httpx.get(f"{url}/livez", timeout=HANGS).status_code == 200


def test_a_trailer_is_no_header(serving: Serving) -> None:
    body = b'{"input": "hello", "response_format": "pcm"}'
    with serving(ToneSynthesizer()) as url, connected(url) as connection:
        head = CHUNKED.encode() + b"Connection: close\r\nContent-Type: application/json\r\n\r\n"
        trailer = b"0\r\nOrigin: https://evil.example\r\nContent-Type: text/plain\r\n\r\n"
        connection.sendall(head + b"%x\r\n%s\r\n" % (len(body), body) + trailer)
        assert answer(connection).startswith(b"HTTP/1.1 200")


def test_whoever_goes_on_after_a_refusal_is_cut_off(serving: Serving) -> None:
    limits = Limits(body_bytes=100_000, drain_seconds=0.3)
    with serving(ToneSynthesizer(), limits=limits, max_upload_bytes=100_000) as url, connected(url) as connection:
        connection.sendall(f"POST {SPEECH} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999999\r\n\r\n".encode())
        with pytest.raises((ConnectionResetError, BrokenPipeError)):
            while True:
                connection.sendall(bytes(1_000_000))


@pytest.mark.parametrize("offer", ["h2c", "websocket", "TLS/1.0"])
def test_a_body_in_chunks_behind_an_offer_of_another_protocol_is_read(serving: Serving, offer: str) -> None:
    """As Java's own client sends it."""
    body = b'{"input": "hello", "response_format": "pcm"}'
    with serving(ToneSynthesizer()) as url, connected(url) as connection:
        head = f"{CHUNKED}Connection: Upgrade, HTTP2-Settings\r\nUpgrade: {offer}\r\nContent-Type: application/json\r\n"
        connection.sendall(head.encode() + b"\r\n" + b"%x\r\n%s" % (len(body), body[:10]))
        connection.sendall(body[10:] + b"\r\n0\r\n\r\n")
        data = answer(connection)
        assert data.startswith(b"HTTP/1.1 200")
        assert data.count(b"\r\n\r\n") >= 1


@pytest.mark.parametrize(
    "more",
    [b"Content-Length: 5\r\n", b"Transfer-Encoding: chunked\r\n", b"X: " + b"y" * 9000 + b"\r\n"]
    + [b"Sec-WebSocket-Protocol: SECRET\xe4\r\n", b"Sec-WebSocket-Version: 99\r\n", b"Sec-WebSocket-Protocol: ,,\r\n"],
    ids=["a length", "chunks", "a long header", "a wrong letter", "a wrong version", "no protocol"],
)
def test_a_handshake_that_cannot_be_is_told_why(
    serving: Serving, more: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    with serving(ToneSynthesizer(), limits=Limits(connections=3)) as url, ExitStack() as open_:
        for _ in range(6):
            connection = open_.enter_context(connected(url))
            connection.sendall(UPGRADE + more + b"\r\n")
            assert json.loads(answer(connection).partition(b"\r\n\r\n")[2])["error"]["remedy_zh"]
        assert httpx.get(f"{url}/livez").status_code == 200
    assert "SECRET" not in caplog.text


def test_a_socket_of_an_unknown_address_is_told_so(server: Server) -> None:
    with connected(server.url) as connection:
        connection.sendall(UPGRADE.replace(b"/v1/audio/speech/stream", b"/nowhere") + b"\r\n")
        data = answer(connection)
    assert data.startswith(b"HTTP/1.1 404")
    assert b"CS-REQ-004" in data


@pytest.mark.parametrize("more", ["", "Connection: close\r\n"])
@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize(("path", "status"), [(SPEECH, b"413"), ("/v1/nowhere", b"404"), ("/livez", b"405")])
def test_an_answer_reaches_whoever_sends_all_before_reading(
    serving: Serving, path: str, status: bytes, chunked: bool, more: str
) -> None:
    body = b"a" * 3_000_000
    framing = "Transfer-Encoding: chunked" if chunked else f"Content-Length: {len(body)}"
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n{more}{framing}\r\n\r\n"
    pieces = [body[at : at + 10_000] for at in range(0, len(body), 10_000)]
    if chunked:
        pieces = [b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces] + [b"0\r\n\r\n"]
    with serving(ToneSynthesizer(), max_upload_bytes=5000) as url, connected(url) as connection:
        connection.sendall(head.encode() + pieces[0])
        select.select([connection], [], [], HANGS)  # it has been answered, and goes on
        for piece in pieces[1:]:
            connection.sendall(piece)
        connection.shutdown(socket.SHUT_WR)
        assert answer(connection).startswith((b"HTTP/1.1 " + status, b"HTTP/1.1 413"))


def test_a_close_reaches_whoever_sends_all_before_reading(server: Server) -> None:
    with connected(server.url) as connection:
        connection.sendall(UPGRADE + b"\r\n")
        while b'"type"' not in connection.recv(65536):
            pass
        connection.sendall(struct.pack("!BBQ4s", 0x81, 0xFF, 100_000_000, bytes(4)))
        select.select([connection], [], [], HANGS)  # it is closed, and goes on
        for _ in range(500):
            connection.sendall(bytes(10_000))
        last = answer(connection)
    assert last[0] == 0x88
    assert struct.unpack("!H", last[2:4]) == (1009,)


def test_whoever_was_refused_does_not_stay(serving: Serving) -> None:
    limits = Limits(connections=1, parting_seconds=0.2)
    synthesizer = GatedSynthesizer()
    with serving(synthesizer, limits=limits) as url, ExitStack() as open_:
        synthesizer.budget = 0
        connection = open_.enter_context(connected(url))
        body = b'{"input": "hello"}'
        head = f"POST {SPEECH} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        connection.sendall(head.encode() + b"Content-Length: %d\r\n\r\n" % len(body) + body)
        eventually(lambda: synthesizer.inside == 1)
        refused = [open_.enter_context(connected(url)) for _ in range(20)]
        eventually(lambda: all(_is_reset(each) for each in refused))
        synthesizer.budget = math.inf


def test_no_answer_is_put_into_another(serving: Serving) -> None:
    """What is wrong comes behind a request whose answer is under way."""
    synthesizer = GatedSynthesizer()
    with serving(synthesizer) as url, connected(url) as connection:
        synthesizer.budget = 1
        body = b'{"input": "hello", "response_format": "pcm"}'
        head = f"POST {SPEECH} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        request = head.encode() + b"Content-Length: %d\r\n\r\n" % len(body) + body
        connection.sendall(request + b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n")
        first = connection.recv(65536)
        connection.sendall(b"\x01\x02\r\n\r\n")
        assert (first + answer(connection)).count(b"HTTP/1.1 ") == 1
        synthesizer.budget = math.inf
