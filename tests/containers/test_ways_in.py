"""`make docker-run` and compose, as they are typed: one container, one volume, and the next version in their place."""

import os
import re
import shlex
import shutil
import socket
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from docker.models.containers import Container

import docker
from cosyserve import __version__
from tests.containers.conftest import BASE, Running
from tests.running import HANGS, ROOT, eventually
from tests.setup.terminal import Terminal

pytestmark = pytest.mark.containers

MADE_OF = ["docker", "requirements", "src", "scripts/image", "scripts/requirements", "Makefile"]
MADE_OF += ["pyproject.toml", "README.md", "LICENSE", "NOTICE", ".dockerignore", ".gitignore"]
NEXT = "99.0.0"
KEPT = "sesame\nnotes\n"


class Clone:
    """The files that an image is made of, in a repository of their own, and an environment in which all names are its
    own: whoever runs these tests may have a container and a volume called cosyserve."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.name = folder, f"cosyserve-test-{uuid.uuid4().hex[:8]}"
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        others = {name: value for name, value in os.environ.items() if not name.startswith("COSYSERVE_")}
        self.environment = {
            **others,
            "COSYSERVE_NAME": self.name,
            "COSYSERVE_PORT": str(self.port),
            "COSYSERVE_IMAGE": f"{self.name}:preview",
            "FLAVOUR": "preview",
            "BASE_IMAGE": BASE,
            "BUILDKIT_PROGRESS": "plain",
        }
        for each in MADE_OF:
            (folder / each).parent.mkdir(parents=True, exist_ok=True)
            copy = shutil.copytree if (ROOT / each).is_dir() else shutil.copy
            copy(ROOT / each, folder / each)
        self.git("init", "--quiet")
        self.commit()

    def git(self, *arguments: str) -> None:
        who = ["-c", "user.name=test", "-c", "user.email=test@example.org"]
        subprocess.run(["git", *who, *arguments], cwd=self.folder, check=True)

    def commit(self) -> None:
        self.git("add", "--all")
        self.git("commit", "--quiet", "--message", "as it is now")

    def make(self, *arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            ["make", *arguments],
            cwd=self.folder,
            env={**self.environment, **environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )


def ends_with_the_address(said: str, clone: Clone) -> bool:
    """It is all that stands on the last line: people look for it there."""
    return said.strip().splitlines()[-1] == f"CosyServe: {clone.url}/"


def speaks(clone: Clone) -> bool:
    """With the README's own request, which has no key."""
    body = {"input": "你好，世界。Hello, world!", "voice": "alloy", "response_format": "mp3"}
    answer = httpx.post(f"{clone.url}/v1/audio/speech", json=body, timeout=HANGS)
    return answer.status_code == 200 and len(answer.content) > 5_000


def kept(container: Container) -> str:
    return Running(container, "").runs("cat", "/data/state/api_key", "/data/voices/notes.txt")


def asked_by_a_neighbour(container: Container) -> str:
    """What a container beside it is answered that has no key."""
    ask = (
        "import http.client, sys\n"
        "connection = http.client.HTTPConnection(sys.argv[1], 6008)\n"
        "connection.request('GET', '/v1/models', headers={'Host': '127.0.0.1:6008'})\n"
        "print(connection.getresponse().status)\n"
    )
    command = ["python3", "-c", ask, container.attrs["NetworkSettings"]["IPAddress"]]
    return str(container.client.containers.run(container.image, command, remove=True).decode().strip())


@contextmanager
def docker_run(clone: Clone, says: Callable[[str, float], None], way: str) -> Iterator[Terminal]:
    """`make docker-run` in a terminal, where a person could be asked something, until it speaks."""
    with Terminal("make docker-run", clone.folder, clone.environment) as terminal:
        terminal.until(f"CosyServe: {clone.url}/\r\n")
        assert ends_with_the_address(terminal.shown, clone)
        assert speaks(clone)
        says(f"make docker-run, {way}", terminal.seconds)
        yield terminal


def state(clone: Clone) -> tuple[str, int]:
    """The version that serves, and what docker/.env says of it."""
    said = httpx.get(f"{clone.url}/readyz", timeout=HANGS).json()
    return str(said["version"]), int(said["max_streams"])


@pytest.fixture(scope="module")
def clone(preview: str, engine: docker.DockerClient, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Clone]:
    """After `preview`, whose layers it takes."""
    made = Clone(tmp_path_factory.mktemp("clone"))
    yield made
    for mark in ({"name": f"^{made.name}$"}, {"label": f"com.docker.compose.project={made.name}"}):
        for container in engine.containers.list(all=True, filters=mark):
            container.remove(force=True)
    for volume in engine.volumes.list():
        if volume.name.startswith(made.name):
            volume.remove(force=True)
    for network in engine.networks.list(filters={"label": f"com.docker.compose.project={made.name}"}):
        network.remove()
    engine.images.remove(made.environment["COSYSERVE_IMAGE"], force=True)


@pytest.fixture
def says(clone: Clone, capsys: pytest.CaptureFixture[str]) -> Callable[[str, float], None]:
    def say(way: str, seconds: float) -> None:
        with capsys.disabled():
            print(f"\n{way}: speech after {seconds:.1f} s")

    return say


def test_the_next_version_takes_the_place_of_the_last_one_whichever_way(
    clone: Clone, preview: str, engine: docker.DockerClient, says: Callable[[str, float], None]
) -> None:
    """One test, since each step goes on from the one before: compose's volumes of old, docker-run, a new version,
    docker-run, compose."""
    image = clone.environment["COSYSERVE_IMAGE"]
    before = {f"{clone.name}_{part}": {"bind": f"/data/{part}"} for part in ("models", "voices", "state")}
    writes = "umask 77; echo sesame >/data/state/api_key; echo notes >/data/voices/notes.txt"
    labels = {"com.docker.compose.project": clone.name, "com.docker.compose.service": "cosyserve"}
    old = engine.containers.run(preview, ["sh", "-c", writes], volumes=before, labels=labels, detach=True)
    assert old.wait(timeout=HANGS)["StatusCode"] == 0

    (clone.folder / "docker/.env").write_text("COSYSERVE_MAX_STREAMS=3\nCOSYSERVE_HOST=127.0.0.1\n")

    with docker_run(clone, says, "the layers of its packages built before") as first:
        assert state(clone) == (__version__, 3)
        assert kept(container := engine.containers.get(clone.name)) == KEPT
        assert old not in engine.containers.list(all=True)
        assert container.attrs["Config"]["StopTimeout"] == 45
        layers = engine.images.get(image).attrs["RootFS"]["Layers"]
        assert f"The image {image} has no PyTorch" in first.shown
        assert "?" not in first.shown.partition("CS-HOST-001")[2]  # nobody is asked anything
        shows_the_key = re.search(r"docker exec \S+ cat \S+", first.shown)
        assert shows_the_key
        assert subprocess.check_output(shows_the_key[0].split(), text=True) in KEPT
        assert asked_by_a_neighbour(container) == "401"

        (clone.folder / "src/cosyserve/__init__.py").write_text(f'__version__ = "{NEXT}"\n')
        with (clone.folder / "pyproject.toml").open("a") as project:
            project.write("# a change that changes no dependency\n")
        clone.commit()
        with docker_run(clone, says, "again, with a new version") as second:
            assert first.ends() == 0  # its streams were finished
            assert "building what has changed" in second.shown
            assert state(clone) == (NEXT, 3)
            assert engine.images.get(image).labels["org.opencontainers.image.version"] == NEXT
            assert kept(engine.containers.get(clone.name)) == KEPT
            new = engine.images.get(image).attrs["RootFS"]["Layers"]
            assert new != layers
            # All but what is ours, and the last two that follow it, are the very same: no package was installed again.
            assert new[:-3] == layers[:-3]

            began = time.monotonic()
            composed = clone.make("compose-up", "ARGS=--detach --wait")
            assert composed.returncode == 0, composed.stdout
            container = engine.containers.get(clone.name)
            eventually(lambda: ends_with_the_address(container.logs().decode(), clone))
            assert speaks(clone)
            says("make compose-up on the same volume", time.monotonic() - began)
            assert second.ends() == 0
            assert "is of this clone's revision" in composed.stdout  # so nothing is built
            assert "not created by Docker Compose" not in composed.stdout
            assert state(clone) == (NEXT, 3)
            assert kept(container) == KEPT
            container.remove(force=True)


def lines_of_the_guide() -> list[str]:
    """The run lines of docs/docker.md: with a card, and without."""
    guide = (ROOT / "docs/docker.md").read_text(encoding="utf-8").replace("\\\n", " ")
    return re.findall(r"^docker run --rm --name .*", guide, flags=re.M)


def test_make_image_ends_with_the_line_of_the_guide(clone: Clone, tmp_path: Path) -> None:
    (tmp_path / "nvidia-smi").write_text("#!/bin/sh\necho 'CUDA Version: 12.8'\n")  # a stand-in for a card
    (tmp_path / "nvidia-smi").chmod(0o755)
    with_card = f"{tmp_path}:{clone.environment['PATH']}"
    for path, line in zip((with_card, clone.environment["PATH"]), lines_of_the_guide(), strict=True):
        ours = re.sub(r"127.0.0.1:6008(?=:| |$)", f"127.0.0.1:{clone.port}", line.replace("cosyserve:/data", "/data"))
        ours = re.sub(r"(?<=name )cosyserve", clone.name, ours).replace("/data", f"{clone.name}:/data")
        ours = re.sub(r"\S+$", clone.environment["COSYSERVE_IMAGE"], ours)
        made = clone.make("image", PATH=path)
        assert made.returncode == 0, made.stdout
        assert shlex.split(made.stdout.rstrip().splitlines()[-1]) == shlex.split(ours)


@pytest.mark.parametrize("target", ["docker-run", "compose-up"])
def test_a_mistake_is_a_sentence_with_a_remedy_before_anything_is_built(clone: Clone, target: str) -> None:
    def refused(*said: str, **environment: str) -> None:
        made = clone.make(target, **environment)
        assert made.returncode != 0
        assert all(each in made.stdout for each in said), made.stdout
        assert "Dockerfile" not in made.stdout  # which a build would name

    refused("does not answer", "systemctl start docker", DOCKER_HOST="unix:///nowhere.sock")
    refused("COSYSERVE_API_KEYS_FILE", "docs/docker.md", COSYSERVE_API_KEYS_FILE="keys")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        refused(f"127.0.0.1:{port} is taken", "COSYSERVE_PORT=", COSYSERVE_PORT=str(port))


def test_a_container_of_somebody_else_is_left_alone(clone: Clone, engine: docker.DockerClient, preview: str) -> None:
    theirs = engine.containers.create(preview, ["sleep", "60"], name=clone.name)
    try:
        made = clone.make("docker-run")
        assert made.returncode != 0
        assert f"docker rm -f {clone.name}" in made.stdout
        assert theirs.status == "created"
    finally:
        theirs.remove(force=True)
