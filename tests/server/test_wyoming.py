"""The Wyoming protocol, spoken by hand, so that it can also be spoken wrongly. tests/clients uses its own library."""

import asyncio
import json
import math
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any
from unittest.mock import patch

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cosyserve.errors import CosyError
from cosyserve.server import listening
from cosyserve.server.connections import Limits
from cosyserve.server.service import Service
from cosyserve.server.wyoming import address
from cosyserve.server.wyoming import server as served
from cosyserve.server.wyoming.events import Event, Reader
from cosyserve.server.wyoming.messages import AskedVoice, voice_name
from cosyserve.settings import Settings
from cosyserve.speech.audio import SAMPLE_RATE
from cosyserve.speech.choice import Choice
from cosyserve.speech.synthesizer import Synthesizer
from cosyserve.speech.voices import Voice
from tests.running import HANGS
from tests.server.wyoming_client import Client, audio
from tests.signals import from_s16le
from tests.standins import CHUNK_SECONDS, FailingSynthesizer, GatedSynthesizer, ToneSynthesizer

LONGEST = 1000  # bytes of an event
SOON = Limits(body_seconds=0.2, body_bytes_per_second=1e9)
STALLED = Limits(stall_seconds=0.2)


class Running:
    def __init__(self, service: Service, port: int) -> None:
        self.service, self._port = service, port

    async def client(self) -> Client:
        return await Client.of(self._port)

    async def speaks(self) -> bool:
        async with await self.client() as client:
            client.send("synthesize", text="ab")
            return bool(audio(await client.until("audio-stop")))


@asynccontextmanager
async def wyoming(
    synthesizer: Synthesizer | None = None, limits: Limits | None = None, **settings: Any
) -> AsyncIterator[Running]:
    synthesizer = synthesizer or ToneSynthesizer()
    service = Service(Settings(**settings), Choice(synthesizer, "a test asked for it", "测试需要"))
    await service.warm_up()
    bound = listening.listen("127.0.0.1", 0)
    server = served.Wyoming(service, bound, limits=limits)
    await server.start()
    try:
        with anyio.fail_after(HANGS):
            yield Running(service, bound.getsockname()[1])
    finally:
        await server.stop()


class Unhurried(ToneSynthesizer):
    """Others have many turns between its chunks."""

    async def between_chunks(self) -> None:
        for _ in range(100):
            await anyio.lowlevel.checkpoint()


@pytest.mark.anyio
async def test_a_server_that_stops_ends_the_text_that_it_is_speaking_first() -> None:
    async with wyoming(Unhurried()) as running:
        client = await running.client()
        client.send("synthesize", text="abcd")
        await client.until("audio-chunk")
    async with client:
        assert await client.until("audio-stop")
        assert await client.read() is None


@pytest.mark.anyio
async def test_a_client_that_reads_late_has_the_whole_text_of_a_server_that_has_stopped() -> None:
    async with wyoming(limits=Limits(parting_seconds=0)) as running:
        client = await running.client()
        client.send("synthesize", text="ab" * 50)
        await client.until("audio-chunk")
        await running.service.admission.idle()
        for _ in range(100):  # turns in which the server writes its last event
            await anyio.lowlevel.checkpoint()
    async with client:
        assert (await client.until("audio-stop"))[-1].data == {"timestamp": 10_000}
        assert await client.read() is None


@pytest.mark.anyio
async def test_a_text_is_spoken_and_says_that_a_machine_spoke() -> None:
    async with wyoming() as running, await running.client() as client:
        client.send("synthesize", text="abcd", voice={"name": "tone"}, context={"any": "thing"})
        start, *chunks, stop = await client.until("audio-stop")
        assert start.type == "audio-start"
        assert (start.data["rate"], start.data["width"], start.data["channels"]) == (SAMPLE_RATE, 2, 1)
        assert start.data["aigc"]["Label"] == "1"
        assert [chunk.data["timestamp"] for chunk in chunks] == [0, 100, 200, 300]
        assert stop.data == {"timestamp": 400}
        samples = from_s16le(audio(chunks))
        assert samples.any()
        assert samples.size == 4 * CHUNK_SECONDS * SAMPLE_RATE
        client.send("synthesize", text="<ab", text_format="ssml")  # a connection may be used again
        assert await client.code() == "CS-TEXT-007"
        metric = running.service.metrics.requests.labels
        assert metric("wyoming", "ok")._value.get() == metric("wyoming", "refused")._value.get() == 1


@pytest.mark.anyio
async def test_what_it_says_of_itself() -> None:
    async with wyoming() as running, await running.client() as client:
        client.send("describe")
        (program,) = (await client.answer()).data["tts"]
        assert program["supports_synthesize_streaming"] is program["installed"] is True
        assert [(voice["name"], voice["languages"]) for voice in program["voices"]] == [("tone", ["en", "zh"])]
        client.send("of-another-service", with_="data")
        client.send("ping", text="here")
        assert await client.answer() == Event("pong", {"text": "here"})


@pytest.mark.anyio
async def test_a_text_that_is_being_written_is_spoken_meanwhile() -> None:
    """As Home Assistant does it: it sends the whole text once more at the end, for servers that take no pieces."""
    async with wyoming() as running, await running.client() as client:
        client.send("synthesize-start", voice={"language": "en-GB"})
        client.send("synthesize-chunk", text="Abcd efgh ijkl. ")
        client.send("synthesize-chunk", text="Mn")
        first = await client.until("audio-chunk")  # the last word is not there yet
        client.send("synthesize-chunk", text="op.")
        client.send("synthesize", text="Abcd efgh ijkl. Mnop.")
        client.send("synthesize-stop")
        events = first + await client.until("synthesize-stopped")
        assert [event.type for event in events if event.type != "audio-chunk"] == [
            *("audio-start", "audio-stop", "synthesize-stopped")
        ]
        assert len(audio(events)) == 16 * round(CHUNK_SECONDS * SAMPLE_RATE) * 2


@pytest.mark.anyio
async def test_texts_are_spoken_in_their_order_and_an_empty_stream_ends() -> None:
    async with wyoming(label="off") as running, await running.client() as client:
        for text in ("a", "ab", "abc"):
            client.send("synthesize", text=text)
        client.send("synthesize-start")
        client.send("synthesize-stop")
        stops = [(await client.until("audio-stop"))[-1].data["timestamp"] for _ in range(4)]
        assert stops == [100, 200, 300, 200]
        assert (await client.answer()).type == "synthesize-stopped"


VOICES = (Voice("hua", "", "", ("zh", "en")), Voice("tim", "", "", ("en",)), Voice("all", "", "", ("zh", "en", "ja")))


@pytest.mark.parametrize(
    ("asked", "name"),
    [
        ({}, ""),
        ({"name": "tim", "language": "zh"}, "tim"),
        ({"language": "zh-CN"}, "hua"),
        ({"language": "en_US"}, "tim"),
        ({"language": "JA"}, "all"),
        ({"language": "fi"}, ""),
    ],
)
def test_a_voice_is_chosen_by_its_name_or_a_language(asked: dict[str, str], name: str) -> None:
    assert voice_name(AskedVoice(**asked), VOICES[0], VOICES) == name


def line(**fields: Any) -> bytes:
    return json.dumps(fields).encode() + b"\n"


START, CHUNK = Event("synthesize-start").written(), Event("synthesize-chunk", {"text": "a"}).written()
WRONG = {
    b"GET / HTTP/1.1\r\n": "CS-WYO-004",
    b"\n": "CS-WYO-004",
    b"[1]\n": "CS-WYO-004",
    b"{]\n": "CS-WYO-004",
    b"{" * 5000 + b"\n": "CS-WYO-004",
    b'{"type": "\xff"}\n': "CS-WYO-004",
    line(): "CS-WYO-004",
    line(type=7): "CS-WYO-004",
    line(type="a" * 1001): "CS-TEXT-006",
    line(type="ping", data=[]): "CS-WYO-004",
    line(type="ping", data_length=-1): "CS-WYO-004",
    line(type="ping", data_length=True): "CS-WYO-004",
    line(type="ping", data_length=1e300): "CS-WYO-004",
    line(type="ping", data_length=10**9): "CS-WYO-005",
    line(type="ping", payload_length=10**30): "CS-WYO-005",
    line(type="ping", data_length=2) + b"[]": "CS-WYO-004",
    line(type="ping", data={"text": 1}): "CS-WYO-004",
    line(type="ping", data=dict.fromkeys(map(str, range(65)))): "CS-WYO-004",
    line(type="synthesize"): "CS-WYO-004",
    line(type="synthesize", data={"text": ""}): "CS-TEXT-001",
    line(type="synthesize", data={"text": "a" * 101}): "CS-TEXT-002",
    line(type="synthesize", data={"text": "\ud800"}): "CS-TEXT-003",
    line(type="synthesize", data={"text": "a", "voice": {"name": "nobody"}}): "CS-VOICE-001",
    line(type="synthesize", data={"text": "a", "voice": {"name": "a" * 1001}}): "CS-TEXT-006",
    line(type="synthesize", data={"text": "a", "voice": "tone"}): "CS-WYO-004",
    line(type="synthesize", data={"text": "a", "text_format": "html"}): "CS-WYO-004",
    CHUNK: "CS-WYO-004",
    Event("synthesize-stop").written(): "CS-WYO-004",
    START + START: "CS-WYO-004",
    START + CHUNK * 101: "CS-TEXT-002",
    line(type="synthesize", data={"text": "a"}) * 40: "CS-WYO-004",
    line(type="unknown") * 1001: "CS-WYO-004",
    b'{"type": "' + b"a" * 100_000: "CS-WYO-005",
}


@pytest.mark.anyio
async def test_what_is_wrong_ends_its_connection_alone() -> None:
    gated = GatedSynthesizer()
    async with wyoming(gated, max_text_chars=100) as running:
        gated.budget = 0  # or some of them would be spoken before their end is read
        for sent, code in WRONG.items():
            async with await running.client() as client:
                client.writer.write(sent)
                assert await client.code() == code, sent[:80]
        gated.budget = math.inf
        assert gated.inside == 0
        assert await running.speaks()


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("sent", "limits"),
    [
        (b"{", SOON),
        (line(type="ping", data_length=5), SOON),
        (line(type="ping", payload_length=5) + b"abcd", SOON),
        (line(type="ping", payload_length=50_000) + b"abcd", STALLED),
    ],
)
async def test_half_an_event_is_waited_for_within_bounds(sent: bytes, limits: Limits) -> None:
    async with wyoming(limits=limits) as running:
        async with await running.client() as client:
            client.writer.write(sent)
            assert await client.code() == "CS-REQ-007"
        assert await running.speaks()


@pytest.mark.anyio
async def test_a_client_that_leaves_within_an_event_is_let_go() -> None:
    async with wyoming() as running:
        for sent in (b"", b"{", line(type="ping", data_length=5) + b"{", START, START + CHUNK):
            async with await running.client() as client:
                client.writer.write(sent)
                client.writer.write_eof()
                assert await client.read() is None
        assert await running.speaks()


@pytest.mark.anyio
async def test_a_client_that_says_nothing_is_let_go() -> None:
    async with wyoming(limits=Limits(idle_seconds=0.1)) as running, await running.client() as client:
        client.send("ping")
        assert (await client.answer()).type == "pong"
        assert await client.read() is None


@pytest.mark.anyio
async def test_a_client_that_writes_no_end_is_told_so() -> None:
    async with wyoming(stall_seconds=0.2) as running, await running.client() as client:
        client.send("synthesize-start")
        client.send("synthesize-chunk", text="ab")
        assert await client.code() == "CS-WS-002"


@pytest.mark.anyio
async def test_the_connection_that_waits_longest_makes_room() -> None:
    gated = GatedSynthesizer()
    async with wyoming(gated, limits=Limits(connections=2)) as running:
        gated.budget = 0
        async with await running.client() as speaking, await running.client() as waiting:
            speaking.send("synthesize", text="ab")
            waiting.send("synthesize-start")
            waiting.send("ping")
            assert (await waiting.answer()).type == "pong"
            async with await running.client() as newest:
                newest.send("synthesize", text="cd")
                assert await waiting.read() is None
                while gated.inside < 2:
                    await asyncio.sleep(0.005)  # there is nothing that tells it
                async with await running.client() as refused:
                    assert await refused.code() == "CS-BUSY-004"
                gated.budget = math.inf
                assert audio(await speaking.until("audio-stop"))
                assert audio(await newest.until("audio-stop"))


@pytest.mark.anyio
async def test_it_has_the_same_streams_and_the_same_queue_as_http() -> None:
    gated = GatedSynthesizer()
    async with wyoming(gated, max_streams=1, max_queue=0) as running:
        gated.budget = 1
        async with await running.client() as first, await running.client() as second:
            first.send("synthesize", text="abc")
            await first.until("audio-chunk")
            second.send("synthesize", text="abc")
            refused = await second.answer()
            assert (refused.data["code"], refused.data["retry_after"]) == ("CS-BUSY-001", 1)
        gated.budget = math.inf
        await running.service.admission.idle()  # the first has left, and with it its stream
        assert await running.speaks()


@pytest.mark.anyio
async def test_a_client_that_does_not_read_loses_its_stream() -> None:
    endless = "a" * 20_000
    async with wyoming(stall_seconds=0.3) as running, await running.client() as client:
        client.writer.transport.pause_reading()  # type: ignore[attr-defined]
        client.send("synthesize", text=endless)
        while not running.service.admission.active:
            await asyncio.sleep(0.005)  # there is nothing that tells it
        await running.service.admission.idle()
        assert running.service.metrics.requests.labels("wyoming", "stalled")._value.get() == 1


@pytest.mark.anyio
async def test_a_failure_in_the_middle_is_no_end() -> None:
    async with wyoming(FailingSynthesizer()) as running, await running.client() as client:
        client.send("synthesize", text="good then fail")
        *spoken, error = await client.until("error")
        assert audio(spoken)
        assert "audio-stop" not in {event.type for event in spoken}
        assert error.data["code"] == "CS-SRV-003"
        assert await client.read() is None


@pytest.mark.anyio
async def test_a_stranger_is_told_so() -> None:
    async with wyoming() as running:
        with patch.object(served, "is_welcome", return_value=False):
            async with await running.client() as client:
                assert await client.code() == "CS-WYO-003"
        assert await running.speaks()


@pytest.mark.parametrize(
    ("listed", "client", "welcome"),
    [
        ("", "127.0.0.1", True),
        ("", "::1", True),
        ("", "::ffff:127.0.0.1", True),
        ("", "192.168.1.20", False),
        ("192.168.1.20", "192.168.1.20", True),
        ("192.168.1.20", "::ffff:192.168.1.20", True),
        ("192.168.1.20", "192.168.1.21", False),
        ("10.0.0.0/8, fe80::/10", "fe80::1%eth0", True),
        ("*", "203.0.113.9", True),
        ("*", "2001:db8::1", True),
        ("*", "", False),
        ("gateway", "172.17.0.1", True),
        ("gateway, 10.0.0.0/8", "172.17.0.2", False),
    ],
)
def test_who_may_connect(listed: str, client: str, welcome: bool) -> None:
    networks = Settings(wyoming_clients=listed).wyoming_networks(["172.17.0.1"])
    assert address.is_welcome(client, networks) is welcome


def test_an_address_that_cannot_be_used_is_known_at_the_start() -> None:
    def code(**settings: Any) -> str:
        with pytest.raises(CosyError) as refused:
            address.expect_usable(Settings(**settings), is_free=True)
        return refused.value.fault.id

    with socket.create_server(("127.0.0.1", 0)) as taken:
        assert code(wyoming_port=taken.getsockname()[1]) == "CS-WYO-002"
    assert code(wyoming_port=7000, port=7000) == "CS-WYO-002"
    assert code(wyoming_port=7000, wyoming_host="nowhere.invalid", wyoming_clients="*") == "CS-WYO-002"
    for host in ("0.0.0.0", "::", "192.168.1.20", "nowhere.invalid"):  # noqa: S104
        assert code(wyoming_port=0, wyoming_host=host) == "CS-WYO-001"
        address.expect_usable(Settings(wyoming_host=host), is_free=True)  # nothing was asked for
    address.expect_usable(Settings(wyoming_port=0), is_free=True)
    address.expect_usable(
        Settings(wyoming_port=0, wyoming_host="0.0.0.0", wyoming_clients="10.0.0.0/8"),  # noqa: S104
        is_free=True,
    )


def test_what_is_no_network_is_a_bad_setting() -> None:
    for clients in ("livingroom", "10.0.0.1/8", "10.0.0.0/33"):
        with pytest.raises(ValueError, match="COSYSERVE_WYOMING_CLIENTS"):
            Settings(wyoming_clients=clients)


KINDS = st.text("synthesize-é", max_size=20)
SOME_JSON = st.dictionaries(st.text(max_size=8), st.text(max_size=20) | st.integers() | st.none(), max_size=4)


@settings(max_examples=40)
@given(
    kinds=st.lists(
        st.tuples(st.text("synthesize-é", max_size=20), SOME_JSON, st.binary(max_size=50), st.booleans()), max_size=5
    ),
    cuts=st.lists(st.integers(1, 40), min_size=1),
)
def test_events_are_the_same_however_they_arrive(
    kinds: list[tuple[str, dict[str, Any], bytes, bool]], cuts: list[int]
) -> None:
    def written(kind: str, data: dict[str, Any], payload: bytes, in_line: bool) -> bytes:
        if not in_line:
            return Event(kind, data, payload).written()
        return line(type=kind, data=data, payload_length=len(payload)) + payload

    async def read() -> list[Event | None]:
        stream = asyncio.StreamReader(limit=LONGEST)
        reader = Reader(stream, LONGEST, Limits())
        reading = asyncio.create_task(_all(reader))
        sent, at = b"".join(written(*each) for each in kinds), 0
        while at < len(sent):
            for cut in cuts:
                stream.feed_data(sent[at : at + cut])
                at += cut
                await asyncio.sleep(0)
        stream.feed_eof()
        return await reading

    assert asyncio.run(read()) == [Event(kind, data) for kind, data, _, _ in kinds]


@given(st.binary(max_size=60) | st.binary(max_size=40).map(lambda rest: b'{"type": "a", "data_length": 3}\n' + rest))
def test_no_bytes_do_more_than_end_a_connection(sent: bytes) -> None:
    async def read() -> None:
        stream = asyncio.StreamReader(limit=LONGEST)
        stream.feed_data(sent)
        stream.feed_eof()
        try:
            await _all(Reader(stream, LONGEST, replace(SOON, body_seconds=HANGS)))
        except CosyError as error:
            assert error.fault.status < 500

    asyncio.run(read())


async def _all(reader: Reader) -> list[Event | None]:
    events = []
    while (event := await reader.read()) is not None:
        events.append(event)
    return [*events]
