"""The log as its readers see it: whole lines in one format, whatever else happens."""

import json
import logging
import os
import pty
import re
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cosyserve import logs
from cosyserve.logs import File, JsonFormatter, LogStream, TextFormatter, record_of
from cosyserve.repeats import Repeats
from tests.launch.faults import PATH as FAULTS
from tests.launch.rungs import RUNGS, settings_of
from tests.launch.supervised import Supervised, speaks
from tests.running import HANGS, Server, addresses


def record(message: str, level: int = logging.INFO, **more: object) -> logging.LogRecord:
    fields = {"name": "test", "levelno": level, "levelname": logging.getLevelName(level), "msg": message}
    return logging.makeLogRecord({**fields, **more})


TEXTS = st.text(st.characters(codec="utf-8"))


@given(TEXTS, st.sampled_from([logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR]), TEXTS, TEXTS)
def test_a_record_survives_the_way_to_the_supervisor(message: str, level: int, about: str, exception: str) -> None:
    sent = record(message, level, request_id=about, trace_id=about, exc_text=exception or None)
    line = JsonFormatter().format(sent)
    assert "\n" not in line
    received = record_of(line)
    assert received is not None
    assert (received.getMessage(), received.levelno, received.name) == (message, level, "test")
    assert (getattr(received, "request_id", ""), received.exc_text) == (about, exception or None)
    assert getattr(received, "trace_id", "") == about
    assert abs(received.created - sent.created) < 0.001
    assert JsonFormatter().format(received) == line


@given(st.text() | st.from_type(dict).map(str) | st.builds(json.dumps, st.dictionaries(st.text(), st.integers())))
def test_what_libraries_print_is_no_record_of_ours(line: str) -> None:
    assert record_of(line) is None


def test_a_secret_is_hidden_whoever_prints_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "_secrets", set())
    logs.hide("sesame-open")
    logs.hide("")
    for formatter in (JsonFormatter(), TextFormatter()):
        line = formatter.format(record("key=sesame-open&x", exc_text="KeyError: 'sesame-open'"))
        assert "sesame" not in line
        assert "key=***&x" in line


def test_a_reader_that_is_stuck_costs_lines_and_is_told_how_many() -> None:
    reader, writer = os.pipe()
    stream = LogStream(writer)
    stream.setFormatter(TextFormatter())
    for number in range(3000):  # stuck, this never ends
        stream.handle(record(f"line {number} " + "x" * 100))
    os.set_blocking(reader, False)
    read = b""
    while True:
        try:
            read += os.read(reader, 1 << 20)
        except BlockingIOError:
            break
    stream.handle(record("the reader is back"))
    os.set_blocking(reader, True)
    read += os.read(reader, 1 << 20)
    os.close(reader)
    os.close(writer)
    lines = read.decode().splitlines()
    whole = [line for line in lines if re.search(r"line \d+ x{100}$", line)]
    (lost,) = [int(found[1]) for line in lines if (found := re.search(r"(\d+) log lines were dropped", line))]
    assert len(whole) + lost == 3000
    assert lines[-1].endswith("the reader is back")


def test_a_reader_that_is_gone_harms_nobody() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    stream = LogStream(writer)
    stream.handle(record("nobody reads this"))
    os.close(writer)
    stream.handle(record("nor this"))


def test_the_file_is_put_aside_at_its_size(tmp_path: Path) -> None:
    path = tmp_path / "server.log"
    file = File(path, max_bytes=2000, kept=2, other=logging.NullHandler())
    file.setFormatter(JsonFormatter())
    for number in range(200):
        file.handle(record(f"line {number}"))
    file.close()
    assert sorted(each.name for each in tmp_path.iterdir()) == ["server.log", "server.log.1", "server.log.2"]
    assert all(each.stat().st_size <= 2000 for each in tmp_path.iterdir())
    written = "".join((tmp_path / f"server.log{suffix}").read_text() for suffix in (".2", ".1", ""))
    kept = [json.loads(line)["message"] for line in written.splitlines()]
    assert kept == [f"line {number}" for number in range(200 - len(kept), 200)]


def test_a_file_that_cannot_be_written_is_told_once() -> None:
    told: list[str] = []

    class Told(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            told.append(record.getMessage())

    file = File(Path("/dev/full"), max_bytes=2000, kept=1, other=Told())
    for number in range(10):
        file.handle(record(f"line {number} " + "x" * 1000))
    with suppress(OSError):
        file.close()
    assert len(told) == 1
    assert "No space left" in told[0]


def test_a_burst_of_one_line_is_counted_and_buries_nothing() -> None:
    written: list[str] = []

    class Kept(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            written.append(record.getMessage())

    handler = Kept()
    handler.addFilter(Repeats(handler))
    for number in range(100_000):
        handler.handle(record("no descriptor is left", created=1000.0 + number / 50_000))
        if number % 10_000 == 0:
            handler.handle(record(f"another line {number}", created=1000.0 + number / 50_000))
    assert len(written) < 100
    assert sum(line.startswith("another line") for line in written) == 10
    handler.handle(record("much later", created=2000.0))
    told = next(line for line in written if "more lines" in line)
    assert "99950 more lines" in told
    assert "no descriptor is left" in told
    assert written[-1] == "much later"


@given(st.lists(st.tuples(st.sampled_from("abc"), st.floats(0, 60)), max_size=400))
def test_no_line_is_lost_without_being_counted(lines: list[tuple[str, float]]) -> None:
    seen, counted = 0, 0

    class Kept(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            nonlocal seen, counted
            if found := re.match(r"(\d+) more lines", record.getMessage()):
                counted += int(found[1])
            else:
                seen += 1

    handler = Kept()
    handler.addFilter(Repeats(handler))
    for message, when in sorted(lines, key=lambda line: line[1]):
        handler.handle(record(message, created=when))
    handler.handle(record("the end", created=1000.0))
    assert seen + counted == len(lines) + 1


@pytest.mark.parametrize("rung", RUNGS)
def test_every_line_of_a_server_is_json_and_requests_are_known_by_their_ids(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rung: str
) -> None:
    """Also where libraries print long lines on both streams at once, and through mpirun's terminal."""
    monkeypatch.setenv("PYTHONPATH", str(FAULTS))
    monkeypatch.setenv("STAND_IN_FAULT", "chatter")
    with Supervised(tmp_path, **settings_of(rung)) as server:
        body = {"input": "Hello.", "response_format": "pcm"}
        about = httpx.post(f"{server.url}/v1/audio/speech", json=body, timeout=HANGS).headers["X-Request-Id"]
        assert server.stop() == 0
    records = [json.loads(line) for line in server.text().splitlines()]
    assert all({"time", "level", "logger", "message"} <= each.keys() for each in records)
    printed = [each["message"] for each in records if each["logger"] == "output"]
    assert printed.count("o" * 9000) == 20
    assert printed.count("e" * 9000) == 20
    assert "\\xff\\xfe broken" in printed
    of_request = [each for each in records if each.get("request_id") == about]
    assert any("first chunk after" in each["message"] for each in of_request)
    assert any("200" in each["message"] and each["logger"] == "cosyserve.access" for each in of_request)
    assert not any(about in each["message"] for each in records)


def test_a_terminal_reads_text(tmp_path: Path) -> None:
    terminal, server_side = pty.openpty()
    command = [sys.executable, "-m", "cosyserve", "serve", "--port", "0"]
    with subprocess.Popen(command, cwd=tmp_path, stderr=server_side) as server:
        os.close(server_side)
        shown = ""
        while not addresses(shown):
            shown += os.read(terminal, 4096).decode()
        assert re.fullmatch(r"CosyServe: http://127\.0\.0\.1:\d+/", shown.splitlines()[-1])  # last, and alone
        server.terminate()
        assert server.wait(HANGS) == 0
    os.close(terminal)
    (url,) = addresses(shown)
    assert f"\nCosyServe: {url}/\r\n" in shown
    assert "{" not in shown


def test_the_format_can_be_asked_for(tmp_path: Path) -> None:
    file = tmp_path / "logs" / "server.log"  # whose folder is made
    with Server(tmp_path, log_format="text", log_file=file) as server:
        assert speaks(server.url)
        assert server.stop() == 0
    assert f"\nCosyServe: {server.url}/\n" in server.text()
    assert re.search(r" INFO /v1/audio/speech ok: .* \[[0-9a-f]{16}\]$", server.text(), re.MULTILINE)
    assert file.read_text() == server.text()
