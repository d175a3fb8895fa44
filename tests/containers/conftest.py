"""The image, built for real on a base made on the spot, and containers of it in a real engine.

What needs NVIDIA's index or a graphics card is not built; what was left out is printed.
"""

import contextlib
import json
import os
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from docker.models.containers import Container

import docker
from tests.running import HANGS, ROOT, eventually

BASE = os.environ.get("COSYSERVE_TEST_BASE", "local/base:12")
PORT = "6008/tcp"
SECOND = 1_000_000_000  # in the nanoseconds of Docker's interface
# As the image has it, but quicker. Each look starts a process in the container.
HEALTH = {"interval": 2 * SECOND, "timeout": 2 * SECOND, "retries": 2, "start_period": 60 * SECOND}


def build(flavour: str, *options: str, target: str = "image") -> str:
    """Build a flavour with BuildKit, which the SDK does not speak; its tag."""
    tag = f"cosyserve-test:{flavour}-{target}"
    command = ["docker", "build", "--network", "host", "--file", "docker/Dockerfile", "--target", target]
    for argument in (f"BASE_IMAGE={BASE}", f"FLAVOUR={flavour}", f"IMAGE={tag}"):
        command += ["--build-arg", argument]
    command += [*options, "--tag", tag, "."]
    done = subprocess.run(command, cwd=ROOT, env={**os.environ, "DOCKER_BUILDKIT": "1"}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-4000:]
    return tag


@pytest.fixture(scope="session")
def engine() -> Iterator[docker.DockerClient]:
    client = docker.from_env(timeout=HANGS)
    yield client
    client.close()


@pytest.fixture(scope="session")
def preview() -> str:
    return build("preview")


@pytest.fixture(scope="session")
def slim(tmp_path_factory: pytest.TempPathFactory) -> str:
    """With a PyTorch for processors: the base's Python is 3.11, whatever this one is."""
    wheels = ROOT / ".cache" / "wheels"
    if not list(wheels.glob("torch-*")):
        platforms = [f"--platform={each}" for each in ("linux_x86_64", "manylinux_2_28_x86_64", "manylinux2014_x86_64")]
        exact = [] if sys.version_info[:2] == (3, 11) else ["--python-version=3.11", "--only-binary=:all:", *platforms]
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "torch==2.13.0", *exact, "--dest", str(wheels)]
        subprocess.run(pip, check=True)
    return build("slim", "--build-context", f"wheels={wheels}")


@dataclass
class Running:
    container: Container
    url: str

    def logs(self) -> str:
        return str(self.container.logs().decode(errors="replace"))

    def health(self) -> str:
        self.container.reload()
        return str(self.container.attrs["State"]["Health"]["Status"])

    def wait_for(self, health: str, seconds: float = HANGS) -> None:
        def reached() -> bool:
            now = self.health()
            assert self.container.status == "running", self.logs()
            return now == health

        try:
            eventually(reached, seconds)
        except AssertionError as error:
            raise AssertionError(self.logs()) from error

    def runs(self, *command: str, user: str = "") -> str:
        status, output = self.container.exec_run(list(command), user=user)
        assert status == 0, output.decode()
        return str(output.decode())

    def processes(self) -> dict[int, str]:
        """Every process in the container by its number there: the base has no ps."""
        script = (
            "import json, os, pathlib\n"
            "others = [p for p in pathlib.Path('/proc').glob('[0-9]*') if int(p.name) != os.getpid()]\n"
            "print(json.dumps({p.name: (p / 'cmdline').read_text().replace(chr(0), ' ') for p in others}))\n"
        )
        found: dict[str, str] = json.loads(self.runs("python3", "-c", script, user="0"))
        return {int(number): command for number, command in found.items()}

    def server(self) -> int:
        """The process that serves: not its supervisor, nor mpirun."""
        return max(number for number, command in self.processes().items() if "-m cosyserve serve" in command)

    def speaks(self, key: str = "none") -> bool:
        body = {"input": "Hello.", "response_format": "wav"}
        headers = {"Authorization": f"Bearer {key}"}
        answer = httpx.post(f"{self.url}/v1/audio/speech", json=body, headers=headers, timeout=HANGS)
        return answer.status_code == 200 and len(answer.content) > 10_000


Start = Callable[..., Running]


@pytest.fixture
def run(engine: docker.DockerClient) -> Iterator[Start]:
    """`run(image, *command, **options)`: a container with a volume of its own; all is gone afterwards."""
    started: list[Container] = []
    volumes: list[Any] = []

    def start(image: str, *command: str, environment: dict[str, str] | None = None, **options: Any) -> Running:
        name = f"cosyserve-test-{uuid.uuid4().hex[:8]}"
        if "volumes" not in options:
            volumes.append(engine.volumes.create(name))
            options["volumes"] = {name: {"bind": "/data", "mode": "rw"}}
        if "network_mode" not in options:
            options["ports"] = {PORT: ("127.0.0.1", None)}
        container = engine.containers.run(
            image,
            list(command),
            name=name,
            detach=True,
            healthcheck=HEALTH,
            environment={"COSYSERVE_AUTH": "off", **(environment or {})},
            **options,
        )
        started.append(container)
        container.reload()
        published = (container.attrs["NetworkSettings"]["Ports"] or {}).get(PORT)
        return Running(container, f"http://127.0.0.1:{published[0]['HostPort']}" if published else "")

    yield start
    for container in started:
        with contextlib.suppress(docker.errors.NotFound):
            container.remove(force=True)
    for volume in volumes:
        volume.remove(force=True)


@pytest.fixture
def ended(run: Start) -> Callable[..., tuple[int, str]]:
    """The status and the output of a container that ends by itself."""

    def end(*arguments: str, **options: Any) -> tuple[int, str]:
        running = run(*arguments, **options)
        status = running.container.wait(timeout=HANGS)["StatusCode"]
        return int(status), running.logs()

    return end


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of the host that a container may be given."""
    tmp_path.chmod(0o755)
    return tmp_path
