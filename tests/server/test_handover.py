"""A server is replaced while it is used: by another one on the same port, without a request noticing."""

import asyncio
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from cosyserve import errors
from cosyserve.errors import CosyError
from cosyserve.server.accepting import stop_accepting
from cosyserve.server.handover import Offer, has_predecessor, inherit
from cosyserve.settings import Settings
from cosyserve.speech.choice import Choice, choose
from tests.running import HANGS, Server, eventually, meanwhile
from tests.server.wyoming_client import Client, audio

LONG = {"input": "This is one of many sentences. " * 300, "response_format": "pcm"}
SHORT = {"input": "Hello.", "response_format": "pcm"}


def answer_of(url: str) -> int:
    """The status that a client is given on a connection of its own, 0 where it is given none."""
    try:
        return httpx.post(f"{url}/v1/audio/speech", json=SHORT, timeout=HANGS).status_code
    except httpx.TransportError:
        return 0


class Successor(Server):
    arguments = ("--take-over",)


@pytest.mark.anyio
async def test_who_is_accepted_while_the_port_is_left_is_served() -> None:
    """The listener is closed in the very turn of the loop in which asyncio would make the transport."""

    async def greet(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"Hello.")
        writer.close()

    loop = asyncio.get_running_loop()
    listener = await asyncio.start_server(greet, "127.0.0.1", 0)
    with socket.create_connection(listener.sockets[0].getsockname(), timeout=HANGS) as client:
        left = loop.create_future()
        loop.call_soon(lambda: left.set_result(loop.create_task(stop_accepting([listener]))))
        await (await left)
        assert await asyncio.to_thread(client.recv, 6) == b"Hello."


@pytest.mark.anyio
async def test_the_port_for_the_wyoming_protocol_is_taken_over_too(tmp_path: Path) -> None:
    async def spoken(client: Client) -> bytes:
        client.send("synthesize", text="Hello.")
        return audio(await client.until("audio-stop"))

    for name in ("old", "new"):
        (tmp_path / name).mkdir()
    with Server(tmp_path / "old", state_dir=tmp_path / "state", wyoming_port=0) as old:
        port = int(old.wyoming.rpartition(":")[2])
        async with await Client.of(port) as client:
            client.send("synthesize-start")
            client.send("synthesize-chunk", text="This is one of many sentences. And so on")
            await client.until("audio-chunk")
            with Successor(tmp_path / "new", state_dir=tmp_path / "state", port=old.port, wyoming_port=port) as new:
                async with await Client.of(port) as another:
                    assert await spoken(another)
                client.send("synthesize-chunk", text=", and so on.")
                client.send("synthesize-stop")
                assert audio(await client.until("synthesize-stopped"))
                assert await client.read() is None
                assert old.wait() == 0
                async with await Client.of(port) as another:
                    another.send("synthesize", text=LONG["input"])
                    await another.until("audio-chunk")
                    new.process.terminate()
                    assert await another.until("audio-stop")  # it has its grace time
                assert new.wait() == 0
                assert "Traceback" not in old.text() + new.text()


def test_a_successor_takes_the_port_over_and_no_request_is_lost(tmp_path: Path) -> None:
    def start(name: str, kind: type[Server], **settings: Any) -> Server:
        folder = tmp_path / name
        folder.mkdir()
        return servers.enter_context(kind(folder, **{"state_dir": tmp_path / "state", **settings}))

    with ExitStack() as servers:
        old = start("old", Server)
        with (
            meanwhile(lambda: answer_of(old.url)) as answers,
            httpx.stream("POST", f"{old.url}/v1/audio/speech", json=LONG, timeout=HANGS) as response,
        ):

            def asked_more() -> None:
                seen = len(answers)
                eventually(lambda: len(answers) > seen + 3)

            pieces = response.iter_raw()
            received = len(next(pieces))
            new = start("new", Successor, port=old.port, grace_seconds=0.1)
            asked_more()
            assert old.process.poll() is None  # it still has its stream
            received += sum(map(len, pieces))
            assert old.wait() == 0
            asked_more()
            assert new.process.poll() is None
            start("newest", Successor, port=old.port)  # relieves the one that has relieved the first
            assert new.wait() == 0
            asked_more()
        assert received / 2 / 24_000 > 200
        assert set(answers) == {200}
    for log in tmp_path.glob("*/server.log"):
        assert "Traceback" not in log.read_text()


def test_a_successor_that_cannot_speak_leaves_everything_as_it_was(tmp_path: Path) -> None:
    (tmp_path / "new").mkdir()
    with Server(tmp_path) as old:
        shared: dict[str, Any] = {"port": old.port, "state_dir": tmp_path / "state"}
        new = Successor(tmp_path / "new", voice="nobody", **shared)
        assert new.wait() == 2
        assert httpx.post(f"{old.url}/v1/audio/speech", json=SHORT).status_code == 200


def test_a_successor_whose_warm_up_fails_never_serves_anybody(tmp_path: Path) -> None:
    (tmp_path / "new").mkdir()
    (tmp_path / "new/sitecustomize.py").write_text("import cosyserve.server.service as s\ns._WARM_UP = None\n")
    with Server(tmp_path) as old:
        shared: dict[str, Any] = {"port": old.port, "state_dir": tmp_path / "state"}
        before = ("env", f"PYTHONPATH={tmp_path / 'new'}")
        with meanwhile(lambda: answer_of(old.url)) as answers:
            assert Successor(tmp_path / "new", before, **shared).wait() != 0
        assert set(answers) == {200}


def test_where_nobody_is_to_be_relieved_it_listens_by_itself(tmp_path: Path) -> None:
    with Successor(tmp_path) as server:
        assert httpx.post(f"{server.url}/v1/audio/speech", json=SHORT).status_code == 200


@pytest.fixture
def bound() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as bound:
        yield bound


def test_only_the_very_address_is_inherited(tmp_path: Path, bound: socket.socket) -> None:
    port = bound.getsockname()[1]
    offer = Offer(tmp_path, bound, lambda: None)
    assert inherit(tmp_path, "127.0.0.2", port) is None
    assert inherit(tmp_path, "127.0.0.1", 1) is None
    heritage = inherit(tmp_path, "127.0.0.1", port)
    assert heritage is not None
    assert heritage.socket.getsockname() == bound.getsockname()
    heritage.close()
    offer.close()
    assert list(tmp_path.iterdir()) == []


def test_nobody_else_may_ask_for_the_socket(tmp_path: Path, bound: socket.socket) -> None:
    offer = Offer(tmp_path, bound, lambda: None)
    assert [path.stat().st_mode & 0o777 for path in tmp_path.iterdir()] == [0o600]
    offer.close()


def test_a_server_that_could_be_relieved_is_seen_and_left_alone(tmp_path: Path, bound: socket.socket) -> None:
    host, port = bound.getsockname()
    assert not has_predecessor(tmp_path, host, port)
    retired = threading.Event()
    offer = Offer(tmp_path, bound, retired.set)
    assert has_predecessor(tmp_path, host, port)
    assert has_predecessor(tmp_path, host, port)
    offer.close()
    assert not has_predecessor(tmp_path, host, port)
    assert not retired.is_set()


def test_for_want_of_memory_the_preview_does_not_relieve_what_speaks(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> Choice:
        raise CosyError(errors.GPU_MEMORY, gib="0.1", seconds="15")

    monkeypatch.setattr("cosyserve.speech.choice._cosyvoice", full)
    monkeypatch.setattr("cosyserve.speech.choice.Folder.exists", True)
    assert choose(Settings()).synthesizer.name == "preview"
    with pytest.raises(CosyError) as refused:
        choose(Settings(), relieves=True)
    assert refused.value.fault is errors.GPU_MEMORY


def test_a_successor_that_dies_on_the_way_changes_nothing(tmp_path: Path, bound: socket.socket) -> None:
    retired = threading.Event()
    offer = Offer(tmp_path, bound, retired.set)
    port = bound.getsockname()[1]
    first = inherit(tmp_path, "127.0.0.1", port)
    assert first is not None
    first.close()  # as the kernel does for a process that dies
    second = inherit(tmp_path, "127.0.0.1", port)
    assert second is not None
    assert not retired.is_set()
    second.socket.close()
    second.retire_predecessor()
    assert retired.wait(HANGS)
    offer.close()


def test_a_folder_whose_path_is_too_long_costs_the_handover_and_nothing_else(
    tmp_path: Path, bound: socket.socket
) -> None:
    folder = tmp_path / ("long" * 40)
    Offer(folder, bound, lambda: None).close()
    assert inherit(folder, "127.0.0.1", bound.getsockname()[1]) is None
