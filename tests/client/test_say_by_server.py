"""`say --server` against real servers, and against stand-ins for what is none."""

import asyncio
import io
import json
import math
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import httpx
import mutagen
import pytest
import uvicorn

from cosyserve.audiobook import ReaderHere, read_aloud
from cosyserve.client.address import address_of
from cosyserve.client.call import Call, RefusedError
from cosyserve.client.reader import ServerReader
from cosyserve.errors import CosyError
from cosyserve.keys.key import Limits
from cosyserve.keys.key_file import KeyFile
from cosyserve.say import say_by
from cosyserve.server.app import create_app
from cosyserve.server.run import listen
from cosyserve.settings import Settings
from cosyserve.speech.audio import SAMPLE_RATE
from cosyserve.speech.choice import Choice
from cosyserve.speech.label import rhythm
from cosyserve.text.book import Passage
from tests.conftest import Serving
from tests.running import HANGS, Server, eventually
from tests.standins import FailingSynthesizer, GatedSynthesizer, ToneSynthesizer
from tests.test_audiobook import said

BOOK = "# A book\n\nIt costs $5.\n\n## One\n\nab cd.\n\n…\n\n## Two\n\n" + "And so on, and on. " * 12 + "\n\nefg\n"
LISTEN = "/v1/audio/speech"


@pytest.fixture(scope="module")
def url(serving: Serving) -> Iterator[str]:
    with serving(ToneSynthesizer()) as url:
        yield url


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The seconds for which calls would have waited before they asked again; they do not wait."""
    waited: list[float] = []

    def wait(call: Call, seconds: float) -> bool:
        waited.append(seconds)
        return True

    monkeypatch.setattr(Call, "wait", wait)
    return waited


def reader_of(url: str, key: str = "") -> ServerReader:
    return ServerReader(address_of(url), key, "", longest=600)


def spoken(folder: Path, reader: Any, output: str, settings: Settings | None = None, text: str = BOOK) -> Path:
    (folder / "book.md").write_text(text)
    path = folder / output
    book, captions = folder / "book.md", path.with_suffix(".json")
    asyncio.run(read_aloud(settings or Settings(), reader, book, path, speed=2.0, captions=captions))
    return path


def captions_of(path: Path) -> Any:
    return json.loads(path.with_suffix(".json").read_text())["captions"]


def test_a_book_by_a_server_is_the_same_as_by_its_synthesizer_here(url: str, tmp_path: Path) -> None:
    here = spoken(tmp_path, ReaderHere(Settings(), ToneSynthesizer(), "", 2), "here.m4b")
    there = spoken(tmp_path, reader_of(url), "there.m4b")
    assert captions_of(there) == captions_of(here)
    told = [[(each.title, each.start) for each in mutagen.File(path).chapters] for path in (here, there)]
    assert told[0] == told[1]
    assert [title for title, _ in told[0]] == ["A book", "One", "Two"]


def test_a_server_speaks_as_many_passages_at_once_as_it_has_room_for(serving: Serving) -> None:
    synthesizer = GatedSynthesizer()
    with serving(synthesizer, max_streams=4) as url:
        reader = reader_of(url)
        assert reader.streams == 3  # one is left to others
    with serving(synthesizer, max_streams=1) as url:
        assert reader_of(url).streams == 1


def test_a_busy_server_is_asked_again_as_often_as_it_says(serving: Serving, monkeypatch: pytest.MonkeyPatch) -> None:
    synthesizer, waited = GatedSynthesizer(), []

    def wait(call: Call, seconds: float) -> bool:
        waited.append(seconds)
        if len(waited) == 8:  # more often than one that fails is asked
            synthesizer.budget = math.inf
            listener.join()
        return True

    monkeypatch.setattr(Call, "wait", wait)
    with serving(synthesizer, max_streams=1, max_queue=0) as url:
        synthesizer.budget = 0
        listener = threading.Thread(target=partial(httpx.post, url + LISTEN, json={"input": "ab"}))
        listener.start()
        eventually(lambda: synthesizer.inside == 1)
        assert sum(each.pcm.size for each in asyncio.run(reader_of(url).read(Passage("ab")))) == 0.2 * SAMPLE_RATE
    assert len(waited) == 8
    assert all(1 <= seconds <= 60 for seconds in waited)


def test_a_limit_of_a_day_ends_the_book_and_says_until_when(serving: Serving, tmp_path: Path) -> None:
    key = KeyFile(tmp_path / "state").add("anna", limits=Limits(requests_per_day=2))
    with serving(ToneSynthesizer(), state_dir=tmp_path / "state") as url:
        with pytest.raises(RefusedError, match="CS-QUOTA-003") as refused:
            spoken(tmp_path, reader_of(url, key), "book.mp3")
        assert "anna" in str(refused.value)
        assert len([*(tmp_path / ".book.mp3.passages").glob("*.flac")]) == 2
        assert not (tmp_path / "book.mp3").exists()


@pytest.mark.parametrize("key", ["", "wrong", "键"])
def test_a_server_that_does_not_know_the_key_says_so(serving: Serving, tmp_path: Path, key: str) -> None:
    with serving(ToneSynthesizer(), api_keys="sésame") as url:
        with pytest.raises(CosyError, match="CS-SAY-006"):
            reader_of(url, key)
        with pytest.raises(CosyError, match="CS-SAY-006"):
            say_by(Settings(), Call(address_of(url), key), "ab", "", 1.0, str(tmp_path / "a.wav"))
        assert reader_of(url, "sésame").streams
    assert not [*tmp_path.iterdir()]


def test_an_audible_label_of_the_server_stands_once_at_the_beginning(serving: Serving, tmp_path: Path) -> None:
    with serving(ToneSynthesizer(), label="audible") as url:
        path = spoken(tmp_path, reader_of(url), "there.wav", Settings(label="off"))
    here = ReaderHere(Settings(), ToneSynthesizer(), "", 2)
    captions = captions_of(spoken(tmp_path, here, "here.wav", Settings(label="audible")))
    assert captions_of(path) == captions
    assert captions[0]["begin"] == pytest.approx(rhythm().size / SAMPLE_RATE)


def test_a_failure_of_the_server_is_tried_again_and_told(serving: Serving, at_once: list[float]) -> None:
    with serving(FailingSynthesizer()) as url:
        with pytest.raises(RefusedError, match="CS-SRV-003"):
            asyncio.run(reader_of(url).read(Passage("good then fail")))
        assert len(at_once) == 5
        with pytest.raises(RefusedError, match="CS-VOICE-001") as refused:
            reader = ServerReader(address_of(url), "", "nobody", longest=600)
            asyncio.run(reader.read(Passage("good")))
        assert len(at_once) == 5  # a mistake stays one
        assert "tone" in str(refused.value)


@pytest.mark.anyio
async def test_what_is_cancelled_ends_at_once_here_and_on_the_server(serving: Serving) -> None:
    synthesizer = GatedSynthesizer()
    with serving(synthesizer) as url:
        synthesizer.budget = 0
        reader = reader_of(url)
        async with anyio.create_task_group() as group:
            group.start_soon(reader.read, Passage("abc"))
            await anyio.to_thread.run_sync(eventually, lambda: synthesizer.inside == 1)
            group.cancel_scope.cancel()
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(eventually, lambda: synthesizer.inside == 0)


def test_a_server_behind_a_prefix_is_reached(serving: Serving, tmp_path: Path) -> None:
    def behind(app: Any) -> Any:
        async def without_prefix(scope: Any, receive: Any, send: Any) -> None:
            if scope["type"] == "http" and (path := scope["path"].removeprefix("/a/speech")) != scope["path"]:
                scope = {**scope, "path": path, "raw_path": path.encode()}
            await app(scope, receive, send)

        return without_prefix

    with serving(ToneSynthesizer(), wrap=behind) as url:
        assert spoken(tmp_path, reader_of(f"{url}/a/speech/"), "book.opus").stat().st_size


@contextmanager
def answering(*answers: bytes) -> Iterator[str]:
    """A stand-in for a server: each connection gets the next of the answers, and is then closed."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(HANGS)

        def serve() -> None:
            for answer in answers:
                connection, _ = listening.accept()
                with connection, suppress(OSError):  # a client may have enough before the end
                    connection.settimeout(HANGS)
                    connection.recv(1 << 16)
                    connection.sendall(answer)
                    connection.shutdown(socket.SHUT_WR)
                    while connection.recv(1 << 16):  # or what is not read yet would reset the connection
                        pass

        thread = threading.Thread(target=serve)
        thread.start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        thread.join()


def http(body: bytes, status: str = "200 OK", **headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status}", *(f"{name.replace('_', '-')}: {value}" for name, value in headers.items())]
    return "\r\n".join([*lines, "", ""]).encode() + body


READY = http(json.dumps({"model": "m", "voice": "v", "label": "off", "max_streams": 1, "active_streams": 0}).encode())
EVENTS = {"X_Sample_Rate": "24000", "Transfer_Encoding": "chunked"}


@pytest.mark.parametrize(
    ("answers", "fault"),
    [
        ([b"SSH-2.0-OpenSSH\r\n"], "CS-SAY-007"),
        ([http(b"<html>", "404 Not Found")], "CS-SAY-007"),
        ([http(b"", "302 Found", Location="http://other")], "CS-SAY-007"),
        ([http(b'{"status": "ready", "needs_key": false}')], "CS-SAY-007"),  # a version without what is asked for
        ([http(b"[" * 100_000)], "CS-SAY-007"),
        ([http(b'{"', Content_Length="100")], "CS-SAY-008"),
        ([b""], "CS-SAY-005"),
        ([READY, http(b"{}"), http(b"data: {}\n\n")], "CS-SAY-007"),  # no sample rate
        ([READY, http(b"{}"), *[http(b"5\r\ndata:", **EVENTS)] * 6], "CS-SAY-008"),
        ([READY, http(b"{}"), *[http(b'12\r\ndata: {"type": 1}\n\r\n0\r\n\r\n', **EVENTS)] * 6], "CS-SAY-008"),
    ],
)
def test_what_is_no_server_of_this_kind_says_so(answers: list[bytes], fault: str, at_once: list[float]) -> None:
    with answering(*answers) as url:
        with pytest.raises(CosyError, match=fault) as told:
            asyncio.run(reader_of(url).read(Passage("ab")))
        assert url in str(told.value)


def test_nothing_that_listens_says_so(tmp_path: Path) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as bound:
        url = f"http://127.0.0.1:{bound.getsockname()[1]}"
    with pytest.raises(CosyError, match="CS-SAY-005"):
        reader_of(url)


def test_a_file_that_is_cut_in_the_middle_is_not_there(tmp_path: Path) -> None:
    cut = http(b"RIFF", Content_Length="1000", Content_Type="audio/wav")
    with answering(cut) as url, pytest.raises(CosyError, match="CS-SAY-008"):
        say_by(Settings(), Call(address_of(url)), "ab", "", 1.0, str(tmp_path / "a.wav"))
    assert not [*tmp_path.iterdir()]


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("tls")
    key, made = folder / "key.pem", folder / "certificate.pem"
    names = ("-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1")
    kind = ("-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2")
    subprocess.run(["openssl", "req", *kind, "-keyout", key, "-out", made, *names], check=True, capture_output=True)
    return key, made


def test_https_needs_a_certificate_that_the_system_trusts(
    certificate: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key, made = certificate
    app = create_app(Settings(), Choice(ToneSynthesizer(), "a test asked for it", "测试需要"))
    bound = listen("127.0.0.1", 0)
    server = uvicorn.Server(uvicorn.Config(app, ssl_keyfile=key, ssl_certfile=made, log_config=None))
    thread = threading.Thread(target=server.run, args=([bound],))
    thread.start()
    url = f"https://127.0.0.1:{bound.getsockname()[1]}"
    try:
        trusting = ssl.create_default_context(cafile=made)
        eventually(lambda: bool(httpx.get(f"{url}/readyz", verify=trusting).status_code == 200))
        with pytest.raises(CosyError, match="certificate"):
            reader_of(url)
        monkeypatch.setenv("SSL_CERT_FILE", str(made))
        assert spoken(tmp_path, reader_of(url), "book.mp3").stat().st_size
    finally:
        server.should_exit = True
        thread.join()
        bound.close()


def test_a_server_that_never_ends_is_left(tmp_path: Path) -> None:
    with answering(http(bytes(200_000))) as url, pytest.raises(CosyError, match="CS-TEXT-004"):
        say_by(Settings(max_audio_seconds=1), Call(address_of(url)), "ab", "", 1.0, str(tmp_path / "a.wav"))
    assert not [*tmp_path.iterdir()]


def test_a_text_waits_for_a_busy_server_and_says_so(
    tmp_path: Path, at_once: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    told = {name: f"It is {name}." for name in ("code", "message", "remedy", "message_zh", "remedy_zh")}
    busy = http(json.dumps({"error": told}).encode(), "429 Too Many Requests", Retry_After="7")
    with answering(busy, http(b"RIFF", Content_Length="4")) as url:
        say_by(Settings(), Call(address_of(url)), "ab", "", 1.0, str(tmp_path / "a.wav"))
    assert at_once == [7]
    assert "It is message" in capsys.readouterr().err
    assert (tmp_path / "a.wav").read_bytes() == b"RIFF"


TEXT = "It costs $5. And this is the second sentence."


def test_a_text_is_spoken_by_a_server_into_a_file_with_captions(server: Server, tmp_path: Path) -> None:
    run = said(tmp_path, TEXT, "-o", "a.mp3", "--captions", "a.srt", "--speed", "2", "--server", server.url)
    assert run.returncode == 0, run.stderr
    fields = {"input": TEXT, "speed": 2, "stream": False, "response_format": "mp3"}
    other = httpx.post(server.url + LISTEN, json=fields).content
    assert mutagen.File(tmp_path / "a.mp3").info.length == mutagen.File(io.BytesIO(other)).info.length
    assert "It costs $5." in (tmp_path / "a.srt").read_text()
    assert not (tmp_path / "state").exists()  # nothing is needed here


@pytest.mark.parametrize(
    "keys",
    [
        {"COSYSERVE_API_KEY": "sesame", "COSYSERVE_API_KEYS": "another"},
        {"COSYSERVE_API_KEYS": "sesame"},  # of the server on this machine, whose settings these are
    ],
)
def test_the_command_sends_the_key_of_the_settings(serving: Serving, tmp_path: Path, keys: dict[str, str]) -> None:
    with serving(ToneSynthesizer(), api_keys="sesame") as url:
        run = said(tmp_path, "ab", "-o", "a.wav", "--server", url, keys=keys)
    assert run.returncode == 0, run.stderr
