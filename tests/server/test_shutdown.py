import signal
from pathlib import Path

import httpx
import pytest

from tests.conftest import Server

# Ten minutes of speech: far more than fits into the socket's buffers, so the stream is still running.
LONG = {"input": "This is one of many sentences. " * 500, "response_format": "pcm"}


@pytest.mark.parametrize("sig", [signal.SIGTERM, signal.SIGINT])
def test_what_runs_is_finished_and_the_exit_is_clean(tmp_path: Path, sig: signal.Signals) -> None:
    server = Server(tmp_path)
    with httpx.stream("POST", f"{server.url}/v1/audio/speech", json=LONG, timeout=30) as response:
        pieces = response.iter_raw()
        received = len(next(pieces))
        server.process.send_signal(sig)
        with pytest.raises(httpx.ConnectError):
            while True:
                httpx.get(f"{server.url}/livez")  # until nothing listens any more
        received += sum(map(len, pieces))  # a cut-off stream would raise here
    assert received / 2 / 24_000 > 300
    assert server.wait() == 0
    assert "Traceback" not in server.log.read_text()


def test_the_grace_time_ends_and_so_does_the_server(tmp_path: Path) -> None:
    server = Server(tmp_path, grace_seconds=0.2)
    with httpx.stream("POST", f"{server.url}/v1/audio/speech", json=LONG, timeout=30) as response:
        pieces = response.iter_raw()  # held: a dropped iterator closes the response
        next(pieces)
        assert server.stop() == 0  # while the stream is not being read
    assert "Traceback" not in server.log.read_text()


def test_a_taken_port_is_told_with_its_remedy(tmp_path: Path, server: Server) -> None:
    import subprocess
    import sys

    port = server.url.rsplit(":", 1)[1]
    second = subprocess.run(
        [sys.executable, "-m", "cosyserve", "serve", "--port", port], capture_output=True, text=True, cwd=tmp_path
    )
    assert second.returncode == 2
    assert "CS-SET-002" in second.stderr
    assert "COSYSERVE_PORT" in second.stderr
    assert "Traceback" not in second.stderr
