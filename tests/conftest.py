"""Fixtures: a server as a user starts it, and servers around a stand-in voice."""

import gc
import inspect
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import httpx
import httpx._transports.default as _transports
import pytest
import uvicorn
from httpx._config import create_ssl_context
from hypothesis import HealthCheck, settings

from cosyserve.server.app import create_app
from cosyserve.server.connections import Connections, Limits, limits_of
from cosyserve.server.run import config_of, listen, url_of
from cosyserve.settings import Settings
from cosyserve.speech.choice import Choice
from cosyserve.speech.synthesizer import Synthesizer
from tests.running import HANGS, Server, wait_until_warm

# How long an example takes says how busy the machine is.
settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")

# A client of the tests waits five seconds for an answer unless it is told otherwise, which may be too little, too.
_patience = inspect.signature(httpx.get).parameters["timeout"].default
_patience.connect = _patience.read = _patience.write = _patience.pool = HANGS

# A client reads the certificates of the whole world before it asks a server next door, for 20 ms of a processor.
vars(_transports)["create_ssl_context"] = cache(create_ssl_context)

_TOGETHER = {"containers": "containers", "scale": "scale"}
# The longest first, or one worker would have it all to itself at the end; those that mostly wait for processes of their
# own among those that compute.
_FIRST = (
    "launch/test_faults.py",
    "containers",
    "scale",
    "remote",
    "cosyvoice/trtllm/test_commands.py",
    "launch/test_supervisor.py",
    "cosyvoice/test_parity.py",
    "assets/test_fetch.py",
    "host/test_mpi.py",
    "hostile",
    "cosyvoice/trtllm/test_check.py",
    "server/test_connections.py",
    "cosyvoice",
    "setup",
    "browser",
    "test_start.py",
)
_TESTS = Path(__file__).parent


@pytest.hookimpl(tryfirst=True)  # before pytest-xdist reads the groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Where tests run side by side, a file stays together, and so do those that share images or a cluster."""
    for item in items:
        item.add_marker(pytest.mark.xdist_group(_TOGETHER.get(item.path.parent.name, str(item.path))))
    items.sort(key=lambda item: _turn(item.path))


@cache
def _turn(path: Path) -> int:
    among = (path.relative_to(_TESTS), *path.relative_to(_TESTS).parents)
    return next((turn for turn, first in enumerate(_FIRST) if Path(first) in among), len(_FIRST))


def pytest_collection_finish(session: pytest.Session) -> None:
    """Groups that are silently lost let tests of one instance run side by side, and fail now and then."""
    if getattr(session.config.option, "loadgroup", False):
        assert all("@" in item.nodeid for item in session.items), "pytest-xdist does not group"
    gc.freeze()  # all that was collected stays until the end, and need not be looked through again and again


# Where make runs the tests, what they run by make says so in lines of its own.
for _name in ("MAKEFLAGS", "MFLAGS", "MAKELEVEL"):
    os.environ.pop(_name, None)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(autouse=True, scope="session")
def interruptible() -> None:
    """A shell that starts the tests in the background has SIGINT ignored, and nohup SIGHUP: every server would inherit
    that."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No setting of the developer's own shell reaches a test."""
    for name in [name for name in os.environ if name.upper().startswith("COSYSERVE_")]:
        monkeypatch.delenv(name)


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One server for all tests that leave it as they found it."""
    with Server(tmp_path_factory.mktemp("server")) as running:
        yield running
        assert running.stop() == 0
        assert "Traceback" not in running.text()


@pytest.fixture
def client(server: Server) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.url, timeout=HANGS) as client:
        yield client


Serving = Callable[..., AbstractContextManager[str]]


@contextmanager
def served(
    synthesizer: Synthesizer,
    wrap: Callable[[Any], Any] = lambda app: app,
    limits: Limits | None = None,
    **settings: Any,
) -> Iterator[str]:
    """A server in this process, in a thread."""
    bound = listen("127.0.0.1", 0)
    given = Settings(**settings)
    app = create_app(given, Choice(synthesizer, "a test asked for it", "测试需要"))
    uvicorn_server = uvicorn.Server(config_of(wrap(app), given, Connections(limits or limits_of(given))))
    thread = threading.Thread(target=uvicorn_server.run, args=([bound],))
    thread.start()
    try:
        wait_until_warm(url_of(bound).rstrip("/"))
        yield url_of(bound).rstrip("/")
    finally:
        uvicorn_server.should_exit = True
        thread.join()
        bound.close()


@pytest.fixture(scope="session")
def serving() -> Serving:
    """`with serving(synthesizer, max_streams=2) as url:` a server in this process, in a thread."""
    return served
