"""Traces of requests, as a collector gets them, and what a server does without what they need."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextvars import copy_context
from pathlib import Path

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cosyserve import logs
from cosyserve.traces import start as traces
from cosyserve.traces.pieces import Pieces
from cosyserve.traces.span import UNTRACED, current
from cosyserve.traces.start import asked_by
from tests.collector import Collector, Seen, collecting
from tests.running import HANGS, Server
from tests.server.test_socket import audio_until, open_socket, send

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
PRIVATE = "Nobody is to read this in a trace"
SPEECH = "POST /v1/audio/speech"


@pytest.fixture(autouse=True)
def no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("OTEL_")]:
        monkeypatch.delenv(name)


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    with collecting() as running:
        yield running


@pytest.fixture(scope="module")
def server(collector: Collector, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The address of the collector is in its environment, the name of the service in its `.env`."""
    folder = tmp_path_factory.mktemp("traced")
    (folder / ".env").write_text("OTEL_SERVICE_NAME=loud\n")
    with pytest.MonkeyPatch.context() as patch:
        for name, value in collector.environ.items():
            patch.setenv(name, value)
        running = Server(folder)
    with running:
        yield running
        assert running.stop() == 0
        assert "Traceback" not in running.text()


def within(inner: Seen, outer: Seen) -> bool:
    return inner.parent == outer.id and outer.began <= inner.began <= inner.ended <= outer.ended


def test_a_requests_spans_go_on_with_the_trace_that_it_came_with(
    server: Server, client: httpx.Client, collector: Collector
) -> None:
    headers = {"traceparent": f"00-{TRACE}-{PARENT}-01"}
    body = {"input": f"{PRIVATE}. And another sentence that is spoken.", "response_format": "wav"}
    answer = client.post("/v1/audio/speech", json=body, headers=headers)
    spans = collector.trace(TRACE, SPEECH)
    (root,), (speech,) = spans[SPEECH], spans["speech"]
    assert (root.parent, root.kind, root.service, root.failed) == (PARENT, 2, "loud", False)
    assert root.facts["cosyserve.request_id"] == answer.headers["X-Request-Id"]
    assert (root.facts["http.route"], root.facts["http.response.status_code"]) == ("/v1/audio/speech", 200)
    assert within(speech, root)
    assert all(within(spans[name][0], speech) for name in ("queue", "encode", "send"))
    assert all(within(segment, speech) for segment in spans["segment"])
    assert len(spans["segment"]) > 1
    assert speech.facts["cosyserve.audio_seconds"] > 1
    assert 0 < speech.facts["cosyserve.first_chunk_seconds"] <= root.seconds
    assert PRIVATE not in str(spans)
    lines = [json.loads(line) for line in server.says(TRACE)]
    assert {line["request_id"] for line in lines} == {answer.headers["X-Request-Id"]}
    assert {line["trace_id"] for line in lines} == {TRACE}


def test_a_socket_is_one_trace_with_each_text_in_it(server: Server, collector: Collector) -> None:
    with open_socket(server.url) as connection:
        for _ in range(2):
            send(connection, "input_text.append", text="Hello.")
            send(connection, "input_text.flush")
            audio_until(connection, "speech.audio.done")
    name = "GET /v1/audio/speech/stream"
    (root,) = (
        each for each in collector.wait(lambda spans: any(each.name == name for each in spans)) if each.name == name
    )
    speeches = collector.trace(root.trace, name)["speech"]
    assert [within(each, root) for each in speeches] == [True, True]


def test_a_refusal_names_its_error_and_is_no_failure(client: httpx.Client, collector: Collector) -> None:
    client.post("/v1/audio/speech", json={"input": "Hi.", "voice": "nobody"})
    refused = collector.wait(lambda spans: any("error.type" in each.facts for each in spans))
    (root,) = (each for each in refused if "error.type" in each.facts)
    assert (root.name, root.facts["error.type"], root.failed) == (SPEECH, "CS-VOICE-001", False)
    assert root.facts["http.response.status_code"] == 400


def test_what_asks_every_few_seconds_is_not_traced(client: httpx.Client, collector: Collector) -> None:
    for path in ("/livez", "/readyz", "/metrics", "/", "/web/page.js"):
        client.get(path)
    client.get("/v1/models/nothing%20of%20ours")
    spans = collector.wait(lambda spans: any(each.name == "GET /v1/models/{model}" for each in spans))
    assert {each.facts["url.path"].split("/")[1] for each in spans if "url.path" in each.facts} == {"v1"}


def test_a_server_without_the_variables_imports_nothing_of_it(tmp_path: Path) -> None:
    line = (
        "import sys; from cosyserve.server import run; from cosyserve.traces import start; start.start();"
        # The interface alone belongs to FastAPI: it does nothing by itself.
        "print([name for name in sys.modules if name.startswith(('opentelemetry.sdk', 'opentelemetry.exporter'))])"
    )
    done = subprocess.run([sys.executable, "-c", line], cwd=tmp_path, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("[]\n", "")


# What Python does at its start: OpenTelemetry's SDK is not to be found.
HIDDEN = """
import sys
class Hidden:
    def find_spec(self, name, *_):
        if name.startswith("opentelemetry.sdk"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Hidden())
"""


def closed_port() -> int:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        return int(bound.getsockname()[1])


@pytest.mark.parametrize(
    ("variables", "says"),
    [
        ({"OTEL_TRACES_EXPORTER": "otlp", "PYTHONPATH": "hidden"}, "CS-OTEL-001"),
        ({"OTEL_TRACES_EXPORTER": "otlp", "OTEL_PROPAGATORS": "nothing"}, "CS-OTEL-002"),
        # Nobody listens there: what cannot be sent is dropped.
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:{closed}"}, "OTEL_EXPORTER_OTLP_ENDPOINT is set"),
    ],
    ids=["no package", "a bad value", "no collector"],
)
def test_a_server_that_cannot_trace_says_why_and_speaks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], says: str
) -> None:
    (tmp_path / "hidden").mkdir()
    (tmp_path / "hidden" / "sitecustomize.py").write_text(HIDDEN)
    for name, value in variables.items():
        monkeypatch.setenv(name, value.format(closed=closed_port()))
    if "PYTHONPATH" in variables:
        monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path / "hidden"), *sys.path]))
    with Server(tmp_path, synthesizer="preview") as server:
        answer = httpx.post(f"{server.url}/v1/audio/speech", json={"input": "Hi."}, timeout=HANGS)
        assert answer.status_code == 200
        assert server.says(says)
        assert server.stop() == 0
    assert "Traceback" not in server.text()


def test_an_exporter_that_is_not_there_is_named(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "console, otlp")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "pigeon")
    traces.start()
    assert [record.getMessage().splitlines()[0] for record in caplog.records] == [
        "CS-OTEL-001: OpenTelemetry's variables ask for traces, but opentelemetry-exporter-pigeon is not installed. "
        "The server runs without traces."
    ]


@pytest.mark.parametrize(
    ("variables", "asking"),
    [
        ({}, ""),
        ({"OTEL_SERVICE_NAME": "cosyserve", "OTEL_TRACES_EXPORTER": " "}, ""),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://a:4318"}, "OTEL_EXPORTER_OTLP_ENDPOINT"),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://a/v1/traces"}, "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"),
        ({"OTEL_TRACES_EXPORTER": "console"}, "OTEL_TRACES_EXPORTER"),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://a:4318", "OTEL_TRACES_EXPORTER": "None"}, ""),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://a:4318", "OTEL_SDK_DISABLED": "TRUE"}, ""),
    ],
)
def test_what_asks_for_traces(variables: dict[str, str], asking: str) -> None:
    assert asked_by(variables) == asking


@pytest.fixture(scope="module")
def tracing(collector: Collector) -> Iterator[None]:
    """In this process."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in collector.environ.items():
            patch.setenv(name, value)
        traces.start()
    yield
    traces.stop()


@pytest.mark.filterwarnings("ignore:Do not use the `random` module")  # OpenTelemetry's exporter does, in a thread
@given(st.dictionaries(st.sampled_from(["traceparent", "tracestate", "baggage"]), st.lists(st.text(), max_size=3)))
def test_whatever_a_client_says_of_its_trace_there_is_one(tracing: None, headers: dict[str, list[str]]) -> None:
    def serve() -> str:
        with traces.arrived("POST", headers, {}) as span:
            assert logs.trace_id.get() == span.trace_id
            assert span.carrier()["traceparent"].split("-")[1] == span.trace_id
            return span.trace_id

    assert int(copy_context().run(serve), 16) > 0


def test_work_in_many_pieces_is_one_span(tracing: None, collector: Collector) -> None:
    pieces = Pieces("sum")
    with traces.arrived("all", {}, {}) as root:
        pieces.tell(root)
        for _ in range(1000):
            with pieces.piece():
                pass
        pieces.tell(root)
    current.set(UNTRACED)
    (told,) = collector.trace(root.trace_id, "all")["sum"]
    assert told.facts["cosyserve.pieces"] == 1000
    assert 0 < told.facts["cosyserve.seconds"] <= told.seconds
