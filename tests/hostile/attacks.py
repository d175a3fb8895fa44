"""What strangers, bad luck and broken clients send. Each attack tells what came of it; raises where that is wrong."""

import asyncio
import json
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import httpx
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from tests.hostile.recordings import hostile_recordings
from tests.running import HANGS
from tests.speech.recordings import speech

SPEECH, SOCKET = "/v1/audio/speech", "/v1/audio/speech/stream"
MULTIPART = "multipart/form-data; boundary=b"
FORM = "application/x-www-form-urlencoded"
JSON = {"Content-Type": "application/json"}
_CROWD = 14


@dataclass(frozen=True)
class Target:
    """A server that asks for no key, one that does, and the first one's port for the Wyoming protocol."""

    open: str
    locked: str
    wyoming: str
    stall_seconds: float


Attack = Callable[[Target], str]


def refused(answers: Iterable[httpx.Response]) -> str:
    """How many had which status and id; none may be a success or the server's own fault."""
    counts: Counter[str] = Counter()
    for answer in answers:
        assert 400 <= answer.status_code < 500, f"{answer.status_code} {answer.text[:200]}"
        counts[f"{answer.status_code} {answer.json()['error']['code']}"] += 1
    return ", ".join(f"{count} × {what}" for what, count in sorted(counts.items()))


def posted(url: str, path: str, media_type: str, body: bytes, times: int = 1) -> list[httpx.Response]:
    """The same request from so many clients at once."""

    def post(_: int) -> httpx.Response:
        return httpx.post(url + path, content=body, headers={"Content-Type": media_type}, timeout=HANGS)

    with ThreadPoolExecutor(times) as pool:
        return list(pool.map(post, range(times)))


def raw(url: str, data: bytes, seconds: float = 60) -> bytes:
    """What is answered to bytes as they are."""
    with opened(url) as connection:
        connection.settimeout(seconds)
        answer = b""
        try:
            connection.sendall(data)
            while piece := connection.recv(65536):
                answer += piece
        except (ConnectionResetError, BrokenPipeError):
            pass
    return answer


def opened(url: str) -> socket.socket:
    address = urlsplit(url)
    return socket.create_connection((str(address.hostname), address.port or 80), timeout=HANGS)


def head(path: str = SPEECH, *lines: str) -> bytes:
    return "\r\n".join([f"POST {path} HTTP/1.1", "Host: localhost", *lines, "", ""]).encode()


def a_head_without_end(target: Target) -> str:
    answers = Counter(
        raw(target.locked, b"POST /tts HTTP/1.1\r\nHost: localhost\r\n" + name + mark * 3_000_000).split(b"\r\n")[0]
        for name, mark in ((b"Content-Type: multipart/form-data", b";;;;"), (b"", b"a:b\r\n"), (b"X: ", b"yyyy"))
    )
    assert all(b" 431 " in line for line in answers), answers
    return f"{answers.total()} × 431"


def bodies_without_a_key(target: Target) -> str:
    answers = posted(target.locked, SPEECH, "application/json", b"[0]," * 2_500_000, _CROWD)
    answers += posted(target.locked, "/tts", "multipart/form-data" + ";" * 50_000, b";" * 9_000_000, _CROWD)
    assert {answer.status_code for answer in answers} == {401}
    return refused(answers)


def bodies_that_are_large(target: Target) -> str:
    kinds = {
        "application/json": (b"[0]," * 2_500_000, b"[" * 1_000_000, b'{"input": "' + b"a" * 900_000, b"[0]," * 250_000),
        FORM: (b"a&" * 4_000_000, b"a=b&" * 250_000, b"text=" + b"%61" * 300_000),
        MULTIPART: (
            b'--b\r\nContent-Disposition: form-data; name="text"' + b";" * 9_000_000,
            b'--b\r\nContent-Disposition: form-data; name="text"\r\n\r\nx\r\n' * 150_000,
            b'--b\r\nContent-Disposition: form-data; name="text"\r\n\r\n' + b"\r\n--" * 2_000_000,
            b"--b\r\n" + b"A: b\r\n" * 1_500_000,
        ),
        "text/plain": (b"x" * 10_000_000,),
    }
    return refused(
        answer
        for media_type, bodies in kinds.items()
        for body in bodies
        for answer in posted(target.open, SPEECH if media_type == "application/json" else "/tts", media_type, body)
    )


def bodies_that_are_large_at_once(target: Target) -> str:
    answers = posted(target.open, SPEECH, "application/json", b"[0]," * 250_000, _CROWD)
    answers += posted(target.open, "/tts", MULTIPART, b"\r\n--" * 2_000_000, _CROWD)
    return refused(answers)


def texts_without_end(target: Target) -> str:
    long = "1234567 and 7654321. " * 10_000
    recording = {"prompt_wav": ("a.wav", speech(), "audio/wav")}
    with httpx.Client(base_url=target.open, timeout=HANGS) as client:
        return refused(
            [
                client.post(SPEECH, json={"input": "hi", "instructions": long}),
                client.post(SPEECH, content=rb'{"input": "hi", "instructions": "\ud800"}', headers=JSON),
                client.post(SPEECH, content=rb'{"input": "\ud800"}', headers=JSON),
                client.post(SPEECH, json={"input": "hi", "voice": long}),
                client.post(SPEECH, json={"input": "hi", "model": long}),
                client.post("/inference_instruct", data={"tts_text": "hi", "instruct_text": long}),
                client.post("/inference_zero_shot", data={"tts_text": "hi", "prompt_text": long}, files=recording),
                client.post("/v1/audio/voices", data=voice("x", transcript=long), files={"audio": speech()}),
                client.post("/v1/audio/voices", data=voice("x", consent=long), files={"audio": speech()}),
                client.post("/v1/audio/voices", data=voice(long), files={"audio": speech()}),
            ]
        )


def texts_that_are_hard_to_read(target: Target) -> str:
    """They are short enough; only the way they are written out is long. Nobody listens to the end of that."""
    texts = ["9" * 240, "1/2/3/4/5/6/7/8/9/" * 13, "$1,234.56 " * 24, "110101199003071234" * 13, "二〇二四年" * 40]
    texts += ["[" * 600, "1-" * 300, "1," * 300, "a@b." * 150, "<!--" * 150, "你5" * 300, "$a^" * 200, "√" * 600]
    counts: Counter[int] = Counter()
    with httpx.Client(base_url=target.open, timeout=HANGS) as client:
        for text in texts:
            with client.stream("POST", SPEECH, json={"input": text, "response_format": "pcm"}) as answer:
                first = next(answer.iter_raw())
            refused_by_length = b"CS-TEXT-005" in first  # more than the model takes
            assert answer.status_code == 200 or refused_by_length, first
            counts[answer.status_code] += 1
    return ", ".join(f"{count} × {status}" for status, count in sorted(counts.items()))


def voice(name: str, **fields: str) -> dict[str, str]:
    return {"name": name, "consent": "a machine spoke it", **fields}


def recordings_that_harm(target: Target) -> str:
    counts: Counter[str] = Counter()
    with httpx.Client(base_url=target.open, timeout=HANGS) as client:
        for number, (name, data) in enumerate(hostile_recordings()):
            answer = client.post("/v1/audio/voices", data=voice(f"h{number}"), files={"audio": ("a", data)})
            if name.startswith("a good voice"):
                assert answer.status_code == 201, (name, answer.text)
                client.delete(f"/v1/audio/voices/h{number}").raise_for_status()
                counts["201"] += 1
            else:
                counts[refused([answer]).removeprefix("1 × ")] += 1
    return ", ".join(f"{count} × {what}" for what, count in sorted(counts.items()))


def many_recordings_at_once(target: Target) -> str:
    """What finds no place is told to come again; whatever else happens, streams go on."""
    data = speech()

    def upload(number: int) -> int:
        files = {"audio": ("a.wav", data, "audio/wav")}
        answer = httpx.post(f"{target.open}/v1/audio/voices", data=voice(f"m{number}"), files=files, timeout=HANGS)
        assert answer.status_code in (201, 429), answer.text
        assert answer.status_code == 201 or answer.headers["retry-after"]
        return answer.status_code

    with ThreadPoolExecutor(40) as pool:
        counts = Counter(pool.map(upload, range(40)))
    for number in range(40):
        httpx.delete(f"{target.open}/v1/audio/voices/m{number}", timeout=HANGS)
    return ", ".join(f"{count} × {status}" for status, count in sorted(counts.items()))


def names_of_voices(target: Target) -> str:
    names = [
        "CON",
        "nul",
        "COM1",
        "aux.txt",
        "Lpt9.wav",
        "../x",
        "a/b",
        "a\\b",
        ".",
        "..",
        "",
        " ",
        "x" * 49,
        "-x",
        "a\nb",
    ]
    names += ["a\u202eb", "\ufeffx", "x.", "NUL .txt", "[x]", "a:b", "a|b", "a*b", "a?b", 'a"b', "a<b"]
    with httpx.Client(base_url=target.open, timeout=HANGS) as client:
        return refused(client.post("/v1/audio/voices", data=voice(name), files={"audio": b"RIFF"}) for name in names)


def messages_that_are_large(target: Target) -> str:
    address = target.open.replace("http", "ws", 1) + SOCKET
    outcomes: Counter[str] = Counter()
    messages = ["[0]," * 2_500_000, "[" * 900_000, "[0]," * 250_000, json.dumps({"type": "x", "text": "a" * 900_000})]
    for message in messages:
        with connect(address, max_size=None) as opened_:
            opened_.recv(60)
            try:
                opened_.send(message)
                outcomes[json.loads(opened_.recv(60))["error"]["code"]] += 1
            except ConnectionClosed as closed:
                outcomes[f"closed {closed.rcvd.code if closed.rcvd else ''}"] += 1
    return ", ".join(f"{count} × {what}" for what, count in sorted(outcomes.items()))


def sockets_without_a_key(target: Target) -> str:
    address = target.locked.replace("http", "ws", 1) + SOCKET
    counts: Counter[int] = Counter()
    for protocols in (None, ["cosyserve.key."], ["cosyserve.key.wrong"], ["cosyserve"]):
        try:
            with connect(address, subprotocols=protocols):  # type: ignore[arg-type]
                raise AssertionError("it was let in")
        except InvalidStatus as refusal:
            counts[refusal.response.status_code] += 1
    assert set(counts) == {401}
    return f"{counts.total()} × 401"


def connections_that_say_nothing(target: Target) -> str:
    """More than a server takes, in every state that a request can be stuck in."""
    beginnings = [
        b"",
        b"GET /livez HT",
        head(),
        head(SPEECH, "Content-Length: 100000"),
        head(SPEECH, "Content-Length: 9") + b"{",
    ]
    with ExitStack() as stack:
        for number in range(1500):
            connection = stack.enter_context(opened(target.open))
            try:
                connection.sendall(beginnings[number % len(beginnings)])
            except (ConnectionResetError, BrokenPipeError):
                continue  # it has made room already
        began = time.monotonic()
        assert httpx.get(f"{target.open}/livez", timeout=HANGS).status_code == 200
        return f"1500 open, /livez after {time.monotonic() - began:.2f} s"


def upgrades_that_are_none(target: Target) -> str:
    upgrade = ("Connection: Upgrade", "Upgrade: websocket", "Content-Length: 2", "Content-Type: application/json")
    answers = [raw(target.open, head(path, *upgrade) + b"{}")[:12] for path in (SPEECH, "/tts", "/nowhere", "/livez")]
    assert all(answer.startswith(b"HTTP/1.1 4") for answer in answers), answers
    return b", ".join(answers).decode()


def readers_that_take_nothing(target: Target) -> str:
    body = json.dumps({"input": "Nobody hears this. " * 500, "response_format": "wav", "speed": 0.25}).encode()
    began = time.monotonic()
    with ExitStack() as stack:
        readers = [stack.enter_context(opened(target.open)) for _ in range(5)]
        for reader in readers:
            reader.sendall(head(SPEECH, "Content-Type: application/json", f"Content-Length: {len(body)}") + body)
        while not all(is_cut_off(reader) for reader in readers):
            assert time.monotonic() - began < 120 + target.stall_seconds, "they are still open"
            time.sleep(0.1)
    return f"5 are cut off after {time.monotonic() - began:.0f} s"


def is_cut_off(connection: socket.socket) -> bool:
    return connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] == 7  # TCP_CLOSE, without reading


def slow_speech(target: Target) -> str:
    async def run() -> list[int]:
        async with httpx.AsyncClient(base_url=target.open, timeout=HANGS) as client:
            body = {"input": "Every second of this takes four. " * 4, "speed": 0.25, "response_format": "mp3"}
            answers = await asyncio.gather(*(client.post(SPEECH, json=body) for _ in range(8)))
            return [answer.status_code for answer in answers]

    statuses = Counter(asyncio.run(run()))
    assert set(statuses) == {200}
    return f"{statuses.total()} × 200"


def pages_of_others(target: Target) -> str:
    evil: list[dict[str, Any]] = [{"Host": "evil.example"}, {"Origin": "https://evil.example"}, {"Origin": "null"}]
    evil += [{"Sec-Fetch-Site": "cross-site"}, {"Host": "127.0.0.1.evil.example:80"}]
    with httpx.Client(base_url=target.open, timeout=HANGS) as client:
        return refused(client.post(SPEECH, json={"input": "hi"}, headers=headers) for headers in evil)


def text_without_sound(target: Target) -> str:
    texts = [".", "😊", "---", "✅", "…", "?!", "👨‍👩‍👧"]
    with httpx.Client(base_url=target.open, timeout=HANGS) as client:
        for text in texts:
            answer = client.post(SPEECH, json={"input": text, "response_format": "pcm"})
            assert answer.status_code == 200, answer.text
            assert 0 < len(answer.content) < 2 * 24_000
    return f"{len(texts)} × a short silence"


AT_THE_DOOR: tuple[Attack, ...] = (
    a_head_without_end,
    bodies_without_a_key,
    bodies_that_are_large,
    bodies_that_are_large_at_once,
    messages_that_are_large,
    sockets_without_a_key,
    connections_that_say_nothing,
    upgrades_that_are_none,
    readers_that_take_nothing,
    slow_speech,
    pages_of_others,
    text_without_sound,
)
ON_THE_MODEL: tuple[Attack, ...] = (
    texts_without_end,
    texts_that_are_hard_to_read,
    recordings_that_harm,
    many_recordings_at_once,
    names_of_voices,
)
