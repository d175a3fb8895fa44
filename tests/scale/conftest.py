"""Servers before replicas, made once for the tests that leave them as they found them."""

from collections.abc import Iterator

import httpx
import pytest

from tests.running import HANGS, Server, wait_until_warm


class Scaled(Server):
    arguments = ("--replicas", "2")

    def wait_until_it_stands(self, times: int = 1) -> tuple[str, str]:
        """Replicas say in the log that they stand, too, and before it."""
        stands = super().wait_until_it_stands(times)
        wait_until_warm(self.url)
        return stands


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Scaled(tmp_path_factory.mktemp("scaled"), synthesizer="preview", max_streams=4) as running:
        yield running
        assert running.stop() == 0


@pytest.fixture
def client(server: Server) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.url, timeout=HANGS) as client:
        yield client
