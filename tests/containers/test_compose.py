"""The compose files, as a user brings them up."""

import os
import subprocess
import uuid
from collections.abc import Callable, Iterator

import httpx
import pytest

from tests.running import HANGS, ROOT

pytestmark = pytest.mark.containers
Compose = Callable[..., str]


@pytest.fixture
def compose(preview: str) -> Iterator[Compose]:
    """`compose(*arguments)` of a project of its own, without a card; all of it is gone afterwards."""
    project = f"cosyserve-test-{uuid.uuid4().hex[:8]}"
    files = ["--file", "docker/compose.yaml", "--file", "docker/compose.cpu.yaml"]
    environment = {**os.environ, "COSYSERVE_IMAGE": preview, "COSYSERVE_PUBLISH": "127.0.0.1:0"}

    def run(*arguments: str) -> str:
        command = ["docker", "compose", "--project-name", project, *files, *arguments]
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    yield run
    run("down", "--volumes")


def test_it_comes_up_speaks_and_keeps_its_key(compose: Compose) -> None:
    keys = []
    for _ in range(2):
        compose("up", "--detach", "--wait", "--no-build")
        key = compose("exec", "cosyserve", "cat", "/data/state/api_key").strip()
        address = compose("port", "cosyserve", "6008").strip()
        answer = httpx.post(
            f"http://{address}/v1/audio/speech",
            json={"input": "Hello.", "response_format": "wav"},
            headers={"Authorization": f"Bearer {key}"},
            timeout=HANGS,
        )
        assert answer.status_code == 200
        assert len(answer.content) > 10_000
        keys.append(key)
        compose("down")
    assert keys[0] == keys[1]
