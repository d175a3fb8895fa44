"""Servers before replicas, made once for the tests that leave them as they found them."""

from collections.abc import Iterator

import httpx
import pytest

from tests.collector import Collector, collecting
from tests.running import HANGS, Server, wait_until_warm


class Scaled(Server):
    arguments = ("--replicas", "2")

    def wait_until_it_stands(self, times: int = 1) -> tuple[str, str]:
        """Replicas say in the log that they stand, too, and before it."""
        stands = super().wait_until_it_stands(times)
        wait_until_warm(self.url)
        return stands


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    with collecting() as running:
        yield running


@pytest.fixture(scope="module")
def server(collector: Collector, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in collector.environ.items():
            patch.setenv(name, value)
        started = Scaled(tmp_path_factory.mktemp("scaled"), synthesizer="preview", max_streams=4)
    with started as running:
        yield running
        assert running.stop() == 0


@pytest.fixture
def client(server: Server) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.url, timeout=HANGS) as client:
        yield client
