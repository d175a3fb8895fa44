"""What strangers and broken clients send to the port for the Wyoming protocol, where nobody needs a key."""

import json
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial

from cosyserve.server.wyoming.events import Event
from tests.hostile.attacks import Attack, Target, is_cut_off, opened, raw

_LONG = Event("synthesize", {"text": "Nobody hears this. " * 500}).written()


def events_that_are_none(target: Target) -> str:
    """All of them at once, some as large as may be."""
    nested = b'{"type": "synthesize", "data": ' + b"[" * 300_000
    many = json.dumps({"type": "ping", "data": dict.fromkeys(map(str, range(20_000)), 1)}).encode()
    data = [
        b"GET / HTTP/1.1\r\nUpgrade: websocket\r\n\r\n",
        b"\x16\x03\x01" + b"\0" * 500,
        b'{"type": "' + b"a" * 50_000_000,
        nested + b"\n",
        (many + b"\n") * 100,
        b'{"type": "x"}\n' * 100_000,
        b'{"type": "x", "payload_length": 200000}\n' + b"\0" * 1_000,
        Event("describe").written() * 50_000,
        b"".join(Event("synthesize-start").written() + Event("synthesize-stop").written() for _ in range(10_000)),
    ]
    with ThreadPoolExecutor(len(data)) as pool:
        answers = list(pool.map(partial(_ended, target.wyoming), data))
    return ", ".join(f"{count} × {code}" for code, count in sorted(Counter(answers).items()))


def _ended(address: str, data: bytes) -> str:
    """The id of the error with which the connection ends; empty if the end came before the answer was read."""
    answer = raw(address, data)
    codes = [part.partition(b'"')[0].decode() for part in answer.split(b'"code": "')[1:]]
    return codes[-1] if codes else "an end"


def crowds_that_say_nothing(target: Target) -> str:
    beginnings = [b"", b"{", b'{"type": "ping", "data_length": 100000}\n', Event("synthesize-start").written()]
    with ExitStack() as stack:
        for number in range(300):
            connection = stack.enter_context(opened(target.wyoming))
            try:
                connection.sendall(beginnings[number % len(beginnings)])
            except (ConnectionResetError, BrokenPipeError):
                continue  # it has made room already
        began = time.monotonic()
        assert _speaks(target), "there is no room for anybody else"
        return f"300 open, spoken after {time.monotonic() - began:.2f} s"


def listeners_that_take_nothing(target: Target) -> str:
    began = time.monotonic()
    with ExitStack() as stack:
        listeners = [stack.enter_context(opened(target.wyoming)) for _ in range(4)]
        for number, listener in enumerate(listeners):
            listener.sendall(_LONG if number % 2 else Event("describe").written() * 1000)
        while not all(is_cut_off(listener) for listener in listeners[1::2]):
            assert time.monotonic() - began < 120 + target.stall_seconds, "they are still open"
            time.sleep(0.1)
    assert _speaks(target)
    return f"they are cut off after {time.monotonic() - began:.0f} s"


def _speaks(target: Target) -> bool:
    with opened(target.wyoming) as connection:
        connection.sendall(Event("synthesize", {"text": "Hello."}).written())
        answer = b""
        while b'"audio-stop"' not in answer:
            piece = connection.recv(65536)
            if not piece:
                return False
            answer += piece
        return True


AT_THE_WYOMING_PORT: tuple[Attack, ...] = (
    events_that_are_none,
    crowds_that_say_nothing,
    listeners_that_take_nothing,
)
