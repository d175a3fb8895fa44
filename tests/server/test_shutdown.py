import signal
import socket
from contextlib import suppress
from pathlib import Path

import httpx
import pytest

from tests.running import HANGS, Server

# Ten minutes of speech: far more than fits into the socket's buffers, so the stream is still running.
LONG = {"input": "This is one of many sentences. " * 500, "response_format": "pcm"}


@pytest.mark.parametrize("sig", [signal.SIGTERM, signal.SIGINT])
def test_what_runs_is_finished_and_the_exit_is_clean(tmp_path: Path, sig: signal.Signals) -> None:
    with Server(tmp_path) as server:
        with httpx.stream("POST", f"{server.url}/v1/audio/speech", json=LONG, timeout=HANGS) as response:
            pieces = response.iter_raw()
            received = len(next(pieces))
            server.process.send_signal(sig)
            with pytest.raises(ConnectionRefusedError):
                while True:
                    # Nothing is sent: what the kernel accepts in the listener's last moment, it resets.
                    with suppress(ConnectionResetError):
                        socket.create_connection(("127.0.0.1", server.port)).close()
            received += sum(map(len, pieces))  # a cut-off stream would raise here
        assert received / 2 / 24_000 > 300
        assert server.wait() == 0
    assert "Traceback" not in server.text()


def test_the_grace_time_ends_and_so_does_the_server(tmp_path: Path) -> None:
    with (
        Server(tmp_path, grace_seconds=0.2) as server,
        httpx.stream("POST", f"{server.url}/v1/audio/speech", json=LONG, timeout=HANGS) as response,
    ):
        pieces = response.iter_raw()  # held: a dropped iterator closes the response
        next(pieces)
        assert server.stop() == 0  # while the stream is not being read
    assert "Traceback" not in server.text()


def test_a_taken_port_is_told_with_its_remedy(tmp_path: Path, server: Server) -> None:
    second = Server(tmp_path, port=server.port)
    assert second.wait() == 2
    assert "CS-SET-002" in second.text()
    assert "COSYSERVE_PORT" in second.text()
    assert "Traceback" not in second.text()
