"""The WebSocket, with the `websockets` package's own client."""

import asyncio
import json
import math
import time
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect
from websockets.sync.connection import Connection

from cosyserve.errors import CosyError
from cosyserve.server.routes.socket import Generation, Update
from cosyserve.speech.output import SILENCE_SECONDS
from tests.conftest import Serving
from tests.running import GREETING, HANGS, Server, eventually
from tests.server.test_delivery import breakable
from tests.signals import from_s16le, is_speech
from tests.standins import CHUNK_SECONDS, CapableSynthesizer, FailingSynthesizer, GatedSynthesizer, ToneSynthesizer

PATH = "/v1/audio/speech/stream"


def open_socket(url: str, **options: Any) -> Connection:
    patience = {"open_timeout": HANGS, "ping_timeout": HANGS}
    socket = connect(url.replace("http", "ws", 1) + PATH, **{**patience, **options})
    assert event(socket)["type"] == "session.created"
    return socket


def send(socket: Connection, kind: str, **fields: Any) -> None:
    socket.send(json.dumps({"type": kind, **fields}))


def messages(socket: Connection) -> Iterator[bytes | dict[str, Any]]:
    """Audio and events as they come, without those that say where a segment begins."""
    while True:
        message = socket.recv(10)
        if isinstance(message, bytes):
            yield message
        elif (found := dict(json.loads(message)))["type"] != "speech.audio.segment":
            yield found


def event(socket: Connection) -> dict[str, Any]:
    """The next message that is no audio."""
    return next(message for message in messages(socket) if isinstance(message, dict))


def next_audio(socket: Connection) -> bytes:
    message = next(messages(socket))
    assert isinstance(message, bytes)
    return message


def audio_until(socket: Connection, kind: str) -> tuple[bytes, dict[str, Any]]:
    audio = b""
    for message in messages(socket):
        if isinstance(message, dict):
            assert message["type"] == kind, message
            return audio, message
        audio += message
    raise AssertionError


@pytest.fixture
def socket(server: Server) -> Iterator[Connection]:
    with open_socket(server.url) as socket:
        yield socket


def seconds(audio: bytes) -> float:
    return len(audio) / 2 / 24_000


def test_what_the_synthesizer_cannot_do_is_refused_at_once(socket: Connection) -> None:
    send(socket, "session.update", instructions="sadly")
    assert event(socket)["error"]["code"] == "CS-CAP-002"
    send(socket, "session.update", interleave=True)
    assert event(socket)["error"]["code"] == "CS-CAP-003"
    send(socket, "session.update", seed=3)
    send(socket, "input_text.append", text=GREETING)
    send(socket, "input_text.flush")
    assert is_speech(from_s16le(audio_until(socket, "speech.audio.done")[0]))


def test_text_in_pieces_is_spoken(socket: Connection) -> None:
    for character in GREETING:
        send(socket, "input_text.append", text=character)
    send(socket, "input_text.end")
    audio, done = audio_until(socket, "speech.audio.done")
    assert is_speech(from_s16le(audio))
    assert done["usage"]["input_tokens"] == len(GREETING)
    with pytest.raises(ConnectionClosed) as closed:
        socket.recv(10)
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1000


def test_a_sentence_is_spoken_before_the_next_is_written(socket: Connection) -> None:
    send(socket, "input_text.append", text="The first sentence. And th")
    assert next_audio(socket)
    send(socket, "input_text.append", text="e second.")
    send(socket, "input_text.flush")
    audio_until(socket, "speech.audio.done")


def test_flush_ends_a_generation_and_the_next_may_begin(serving: Serving) -> None:
    with serving(ToneSynthesizer()) as url, open_socket(url) as socket:
        for text in ("abc", "defgh"):
            send(socket, "input_text.append", text=text)
            send(socket, "input_text.flush")
        for length in (3, 5):
            audio, _ = audio_until(socket, "speech.audio.done")
            assert seconds(audio) == pytest.approx(length * CHUNK_SECONDS)
        send(socket, "input_text.flush")  # no text: done at once
        audio, done = audio_until(socket, "speech.audio.done")
        assert (audio, done["usage"]["total_tokens"]) == (b"", 0)
        send(socket, "session.update", response_format="wav", speed=2.0, voice="tone")
        send(socket, "input_text.append", text="abcdefghij")
        send(socket, "input_text.end")
        audio, _ = audio_until(socket, "speech.audio.done")
        assert audio.startswith(b"RIFF")
        assert seconds(audio) == pytest.approx(5 * CHUNK_SECONDS, rel=0.2)


def test_cancel_is_heard_in_the_middle(serving: Serving) -> None:
    synthesizer = GatedSynthesizer()
    with serving(synthesizer) as url, open_socket(url) as socket:
        synthesizer.budget = 1
        send(socket, "input_text.append", text="One sentence. Another. ")
        assert next_audio(socket)
        send(socket, "input_text.cancel")
        assert event(socket)["type"] == "speech.audio.cancelled"
        assert synthesizer.inside == 0
        synthesizer.budget = math.inf
        send(socket, "input_text.append", text="ok")
        send(socket, "input_text.flush")
        audio, _ = audio_until(socket, "speech.audio.done")
        assert seconds(audio) == pytest.approx(2 * CHUNK_SECONDS)


@pytest.mark.parametrize(
    ("message", "code"),
    [
        ("not json", "CS-WS-001"),
        ("", "CS-WS-001"),
        ("[]", "CS-WS-001"),
        ('{"type": "nonsense"}', "CS-WS-001"),
        ('{"type": "input_text.append"}', "CS-WS-001"),
        ('{"type": "input_text.append", "text": 1}', "CS-WS-001"),
        ('{"type": "session.update", "speed": 100}', "CS-WS-001"),
        ('{"type": "session.update", "speed": NaN}', "CS-WS-001"),
        ('{"type": "session.update", "voice": "../x"}', "CS-VOICE-001"),
        ('{"type": "session.update", "response_format": "midi"}', "CS-WS-001"),
        ('{"type": "input_text.append", "text": "\\u0000"}', "CS-TEXT-003"),
        (b"bytes", "CS-WS-001"),
        (b'{"type": "input_text.flush"}', "CS-WS-001"),
        ("[" * 100_000, "CS-WS-001"),
        (json.dumps({"type": "session.update", **{f"field {n}": n for n in range(10_000)}}), "CS-WS-001"),
        ("1" * 5000, "CS-WS-001"),
        ("null", "CS-WS-001"),
        ('{"type": null}', "CS-WS-001"),
        ('{"type": ["input_text.flush"]}', "CS-WS-001"),
        ('{"type": "\\ud800"}', "CS-WS-001"),
        ('{"type": "input_text.append", "text": null}', "CS-WS-001"),
        ('{"type": "input_text.append", "text": "\\udc00"}', "CS-TEXT-003"),
        ('{"type": "session.update", "voise": "english"}', "CS-WS-001"),
        ('{"type": "session.update", "\\ud800": 1}', "CS-TEXT-003"),
        ('{"type": "session.update", "session": {"speed": 2}}', "CS-WS-001"),
        ('{"type": "session.update", "voice": {"id": "english"}}', "CS-WS-001"),
        ('{"type": "session.update", "instructions": "\\ud800"}', "CS-TEXT-003"),
        ('{"type": "session.update", "instructions": "a\\u0000"}', "CS-TEXT-003"),
        ('{"type": "session.update", "instructions": "%s"}' % ("a" * 1001), "CS-TEXT-006"),
        ('{"type": "session.update", "voice": "%s"}' % ("a" * 100_000), "CS-TEXT-006"),
    ],
)
def test_a_bad_message_is_answered_and_the_session_lives(socket: Connection, message: str | bytes, code: str) -> None:
    socket.send(message)
    error = event(socket)
    assert error["type"] == "error"
    assert error["error"]["code"] == code
    assert error["error"]["remedy_zh"]
    send(socket, "input_text.append", text="Still here.")
    send(socket, "input_text.flush")
    audio, _ = audio_until(socket, "speech.audio.done")
    assert audio


def test_text_without_sound_is_silence_and_too_much_text_an_error_of_its_generation(serving: Serving) -> None:
    with serving(ToneSynthesizer(), max_text_chars=10) as url, open_socket(url) as socket:
        send(socket, "input_text.append", text="😀")
        send(socket, "input_text.flush")
        silence, _ = audio_until(socket, "speech.audio.done")
        assert seconds(silence) == pytest.approx(SILENCE_SECONDS)
        assert not any(silence)
        send(socket, "input_text.append", text="x" * 11)
        assert event(socket)["error"]["code"] == "CS-TEXT-002"
        send(socket, "input_text.append", text="abc")
        send(socket, "input_text.flush")
        assert seconds(audio_until(socket, "speech.audio.done")[0]) == pytest.approx(3 * CHUNK_SECONDS)


def test_a_cancel_right_behind_the_text_is_heard(serving: Serving) -> None:
    synthesizer = GatedSynthesizer()
    with serving(synthesizer) as url, open_socket(url) as socket:
        synthesizer.budget = 0
        for _ in range(50):
            send(socket, "input_text.append", text="abc")
            send(socket, "input_text.flush")
            send(socket, "input_text.cancel")
            assert event(socket)["type"] == "speech.audio.cancelled"


def test_texts_do_not_pile_up_without_end(serving: Serving) -> None:
    synthesizer = GatedSynthesizer()
    with serving(synthesizer) as url, open_socket(url) as socket:
        synthesizer.budget = 0
        for _ in range(30):
            send(socket, "input_text.append", text="abc")
            send(socket, "input_text.flush")
        assert event(socket)["error"]["code"] == "CS-WS-001"


class Crossing:
    """Around the app: what comes behind `input_text.end` is read once the socket is closed."""

    def __init__(self, app: ASGIApp, failures: list[Exception]) -> None:
        self._app, self._failures = app, failures

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        late, closed = list[Message](), asyncio.Event()

        async def receive_late() -> Message:
            if late:
                await closed.wait()
                return late.pop()
            message = await receive()
            if "input_text.end" in message.get("text", ""):
                late.append(await receive())
            return message

        async def send_on(message: Message) -> None:
            await send(message)
            if message["type"] == "websocket.close":
                closed.set()

        try:
            await self._app(scope, receive_late, send_on)
        except Exception as problem:
            self._failures.append(problem)


@pytest.mark.parametrize("late", ['{"type": "input_text.cancel"}', "no message"])
def test_a_message_that_crosses_the_close_is_no_failure(serving: Serving, late: str) -> None:
    failures: list[Exception] = []
    with serving(ToneSynthesizer(), lambda app: Crossing(app, failures)) as url, open_socket(url) as socket:
        send(socket, "input_text.end")
        socket.send(late)
        with pytest.raises(ConnectionClosed):
            event(socket)
    assert failures == []


def test_a_failing_synthesizer_is_an_error_and_the_session_lives(serving: Serving) -> None:
    with serving(FailingSynthesizer()) as url, open_socket(url) as socket:
        send(socket, "input_text.append", text="fail")
        send(socket, "input_text.flush")
        assert event(socket)["error"]["code"] == "CS-SRV-003"
        send(socket, "input_text.append", text="good")
        send(socket, "input_text.flush")
        assert audio_until(socket, "speech.audio.done")[0]


def test_settings_merge(serving: Serving) -> None:
    synthesizer = CapableSynthesizer()
    with serving(synthesizer) as url, open_socket(url) as socket:
        send(socket, "session.update", response_format="WAV", instructions="sadly", seed=3)
        send(socket, "session.update", speed=2.0, instructions=None, seed=None, voice=None)
        send(socket, "session.update", speed=1.0, voise="tone")
        assert event(socket)["error"]["param"] == "voise"
        send(socket, "input_text.append", text="abcdefghij")
        send(socket, "input_text.flush")
        audio, _ = audio_until(socket, "speech.audio.done")
        assert audio.startswith(b"RIFF")
        assert seconds(audio) == pytest.approx(5 * CHUNK_SECONDS, rel=0.2)
        assert (synthesizer.asked[-1].instructions, synthesizer.asked[-1].seed) == ("sadly", 3)
        send(socket, "session.update", response_format="", instructions="")
        send(socket, "input_text.append", text="abc")
        send(socket, "input_text.flush")
        assert not audio_until(socket, "speech.audio.done")[0].startswith(b"RIFF")
        assert synthesizer.asked[-1].instructions == ""


def test_a_nested_session_is_told_where_its_fields_belong(socket: Connection) -> None:
    send(socket, "session.update", session={"voice": "english"})
    error = event(socket)["error"]
    assert error["param"] == "session"
    assert "top level" in error["message"]


def test_a_binary_frame_is_told_that_messages_are_text(socket: Connection) -> None:
    socket.send(b'{"type": "input_text.flush"}')
    assert "text frames" in event(socket)["error"]["message"]


def test_a_large_message_is_answered(socket: Connection) -> None:
    send(socket, "input_text.append", text="a" * 900_000)
    assert event(socket)["error"]["code"] == "CS-TEXT-002"


def test_a_flush_without_text_is_done_in_its_turn(serving: Serving) -> None:
    synthesizer = GatedSynthesizer()
    with serving(synthesizer) as url, open_socket(url) as socket:
        synthesizer.budget = 1
        send(socket, "input_text.append", text="abc")
        send(socket, "input_text.flush")
        send(socket, "input_text.flush")
        assert next_audio(socket)
        synthesizer.budget = math.inf
        assert audio_until(socket, "speech.audio.done")[1]["usage"]["input_tokens"] == 3
        assert audio_until(socket, "speech.audio.done")[1]["usage"]["input_tokens"] == 0


def pushed(pieces: list[str]) -> str:
    """What a generation is to speak after its text has come in these pieces, as JSON gives them."""

    async def run() -> str:
        generation = Generation(Update(type="session.update", normalize=False), 10_000, 10)
        for piece in pieces:
            generation.push(json.loads(json.dumps(piece)))
        generation.flush()
        return "".join([segment.text async for segment in generation.segments()])

    return asyncio.run(run())


@given(st.text(st.sampled_from("a😀🎉你. "), max_size=20), st.lists(st.integers(0, 40), max_size=6))
def test_text_may_be_cut_within_a_character(text: str, cuts: list[int]) -> None:
    """JavaScript's strings are cut between the halves of a surrogate pair as anywhere else."""
    units = text.encode("utf-16-le")
    places = [0, *sorted(cuts), len(units) // 2]
    pieces = [units[2 * a : 2 * b].decode("utf-16-le", "surrogatepass") for a, b in pairwise(places)]
    assert pushed(pieces) == text


@pytest.mark.parametrize(
    "pieces", [["a\ud83d"], ["\ud83d", "a"], ["\ud83d", "\ud83d\ude00"], ["\ude00"], ["\ud83d", ""]]
)
def test_half_a_character_alone_is_refused(pieces: list[str]) -> None:
    with pytest.raises(CosyError) as refused:
        pushed(pieces)
    assert refused.value.fault.id == "CS-TEXT-003"


def test_half_a_character_waits_for_the_next_append(socket: Connection) -> None:
    for half in ("Hello. \ud83d", "\ude00"):
        send(socket, "input_text.append", text=half)
    send(socket, "input_text.flush")
    assert audio_until(socket, "speech.audio.done")[1]["usage"]["input_tokens"] == 8
    send(socket, "input_text.append", text="Hello. \ud83d")
    send(socket, "input_text.flush")
    assert event(socket)["error"]["code"] == "CS-TEXT-003"


@pytest.mark.parametrize("offered", [True, False])
def test_a_client_that_stops_reading_loses_its_place_and_its_connection(serving: Serving, offered: bool) -> None:
    broken: list[str] = []
    wrap = breakable(broken) if offered else lambda app: app
    deaf = {"max_queue": 1, "compression": None}  # a tone would be compressed into what the kernel holds
    with serving(ToneSynthesizer(), wrap, stall_seconds=0.3) as url, open_socket(url, **deaf) as socket:
        send(socket, "input_text.append", text="x" * 3000)
        send(socket, "input_text.flush")
        eventually(lambda: 'outcome="stalled"} 1.0' in httpx.get(f"{url}/metrics").text)
        assert httpx.get(f"{url}/readyz").json()["active_streams"] == 0
        if offered:
            eventually(lambda: broken == ["websocket"])
        socket.socket.close()


def test_a_silent_writer_does_not_hold_a_stream_for_ever(serving: Serving) -> None:
    with serving(ToneSynthesizer(), stall_seconds=0.2) as url, open_socket(url) as socket:
        send(socket, "input_text.append", text="ab. c")
        assert event(socket)["error"]["code"] == "CS-WS-002"


def test_a_full_server_says_so(serving: Serving) -> None:
    synthesizer = GatedSynthesizer()
    with serving(synthesizer, max_streams=1, max_queue=0) as url, open_socket(url) as first, open_socket(url) as second:
        send(first, "input_text.append", text="abc. d")
        assert next_audio(first)
        send(second, "input_text.append", text="abc. d")
        assert event(second)["error"]["code"] == "CS-BUSY-001"


def test_a_client_that_leaves_frees_its_place(serving: Serving) -> None:
    synthesizer = GatedSynthesizer()
    with serving(synthesizer) as url:
        synthesizer.budget = 1
        with open_socket(url) as socket:
            send(socket, "input_text.append", text="One sentence. Another. ")
            assert next_audio(socket)
        eventually(lambda: synthesizer.inside == 0)


def test_a_key_is_needed_where_keys_are_set(serving: Serving) -> None:
    with serving(ToneSynthesizer(), api_keys="sesame") as url:
        with pytest.raises(InvalidStatus) as refused:
            open_socket(url)
        assert refused.value.response.status_code == 401
        with open_socket(url, additional_headers={"Authorization": "Bearer sesame"}) as socket:
            send(socket, "input_text.end")


def test_a_text_that_is_being_written_holds_no_stream(serving: Serving) -> None:
    with (
        serving(ToneSynthesizer(), max_streams=1, max_queue=0) as url,
        open_socket(url) as first,
        open_socket(url) as other,
    ):
        for text in ("", "a", " "):
            send(first, "input_text.append", text=text)
        send(other, "input_text.append", text="abc")
        send(other, "input_text.flush")
        assert audio_until(other, "speech.audio.done")[0]
        send(first, "input_text.flush")
        assert audio_until(first, "speech.audio.done")[0]


def test_whoever_writes_slowly_is_not_silent(serving: Serving) -> None:
    """A sentence takes longer than a writer may be silent, and each of its words does not."""
    with serving(ToneSynthesizer(), stall_seconds=3) as url, open_socket(url) as socket:
        began = time.monotonic()
        while time.monotonic() - began < 4:
            send(socket, "input_text.append", text="w")
            with pytest.raises(TimeoutError):
                socket.recv(0.1)
        send(socket, "input_text.flush")
        assert audio_until(socket, "speech.audio.done")[0]
