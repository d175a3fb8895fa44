"""What the tests share: the real server as a user starts it, and servers around a stand-in voice."""

import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
import uvicorn

from cosyserve.server.app import create_app
from cosyserve.server.run import listen, url_of
from cosyserve.settings import Settings
from cosyserve.speech.choice import Choice
from cosyserve.speech.synthesizer import Synthesizer

ROOT = Path(__file__).parent.parent
GREETING = "你好，世界。Hello, world 3.14!"


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No setting of the developer's own shell reaches a test."""
    for name in [name for name in os.environ if name.upper().startswith("COSYSERVE_")]:
        monkeypatch.delenv(name)


class Server:
    """`cosyserve serve` in a process of its own, on a free port of loopback."""

    def __init__(self, folder: Path, **settings: object) -> None:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("COSYSERVE_")}
        environment |= {f"COSYSERVE_{name.upper()}": str(value) for name, value in settings.items()}
        self.log = folder / "server.log"
        with self.log.open("wb") as log:
            self.process = psutil.Popen(
                [sys.executable, "-m", "cosyserve", "serve", "--port", "0"],
                env=environment,
                cwd=folder,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        line = self.process.stdout.readline()
        match = re.match(r"CosyServe: (http://\S+)/$", line)
        assert match, line + self.log.read_text()
        self.url = match[1]
        # Its first lines are all it prints; the pipe is kept drained all the same.
        self._drain = threading.Thread(target=self.process.stdout.read)
        self._drain.start()
        wait_until_warm(self.url)

    def stop(self) -> int:
        self.process.terminate()
        return self.wait()

    def wait(self) -> int:
        """The exit status, once the process has ended by itself."""
        status = int(self.process.wait(30))
        self._drain.join()
        self.process.stdout.close()
        return status


def eventually(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline, "it did not happen within ten seconds"
        time.sleep(0.01)


def wait_until_warm(url: str) -> None:
    """The server answers /readyz from the moment it listens; its warm-up ends a moment later, well or not."""
    with httpx.Client(base_url=url, transport=httpx.HTTPTransport(retries=5), timeout=10) as client:
        eventually(lambda: client.get("/readyz").json()["status"] != "starting")


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One server for all tests that leave it as they found it."""
    running = Server(tmp_path_factory.mktemp("server"))
    yield running
    assert running.stop() == 0
    assert "Traceback" not in running.log.read_text()


@pytest.fixture
def client(server: Server) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.url, timeout=30) as client:
        yield client


def _config(app: Any) -> uvicorn.Config:
    return uvicorn.Config(app, log_config=None, ws="websockets-sansio", timeout_graceful_shutdown=1)


Serving = Callable[..., AbstractContextManager[str]]


@pytest.fixture
def serving() -> Serving:
    """`with serving(synthesizer, max_streams=2) as url:` a server in this process, in a thread."""

    @contextmanager
    def run(synthesizer: Synthesizer, wrap: Callable[[Any], Any] = lambda app: app, **settings: Any) -> Iterator[str]:
        bound = listen("127.0.0.1", 0)
        app = create_app(Settings(**settings), Choice(synthesizer, "a test asked for it", "测试需要"))
        uvicorn_server = uvicorn.Server(_config(wrap(app)))
        thread = threading.Thread(target=uvicorn_server.run, args=([bound],))
        thread.start()
        try:
            wait_until_warm(url_of(bound).rstrip("/"))
            yield url_of(bound).rstrip("/")
        finally:
            uvicorn_server.should_exit = True
            thread.join()
            bound.close()

    return run
