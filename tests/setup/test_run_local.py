"""The first promise: a fresh clone, a machine with nothing but Python, `make run-local`, and it speaks."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import psutil
import pytest

from tests.running import GREETING, HANGS, ROOT, addresses, wait_until_warm
from tests.signals import from_wav, is_speech

pytestmark = pytest.mark.slow

TOOLS = ("bash", "make", "dirname", "cksum", "cmp", "env", "cat")
# What a company's or a mirror's network needs; everything else of this environment stays outside.
NETWORK = (
    "PIP_",
    "UV_INDEX",
    "UV_DEFAULT",
    "SSL_CERT",
    "REQUESTS_CA",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "http_proxy",
    "https_proxy",
)


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """The committed state and what is not committed yet, as a stranger would get it after the next push."""
    files = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    )
    folder = tmp_path / "clone"
    for name in filter(None, files.stdout.decode().split("\0")):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    return folder


def bare_environment(folder: Path, *, uv: bool) -> dict[str, str]:
    """A home of its own and a PATH with the base tools, one Python and, where asked for, uv."""
    tools, home = folder / "bin", folder / "home"
    tools.mkdir()
    home.mkdir()
    for name in TOOLS:
        (tools / name).symlink_to(str(shutil.which(name)))
    base_python = Path(sys.base_prefix) / "bin" / f"python3.{sys.version_info.minor}"
    (tools / "python3").symlink_to(base_python)
    if uv:
        (tools / "uv").symlink_to(Path(sys.executable).with_name("uv"))
    network = {name: value for name, value in os.environ.items() if name.startswith(NETWORK)}
    return {"PATH": str(tools), "HOME": str(home), "LANG": "C.UTF-8", **network}


@contextmanager
def run_local(clone: Path, environment: dict[str, str], *command: str) -> Iterator[tuple[str, str]]:
    """`make run-local` (or `command`) until it prints its address: that, and what it printed before."""
    make = psutil.Popen(
        command or ("make", "run-local", "COSYSERVE_PORT=0"),
        cwd=clone,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        printed = ""
        while not (found := addresses(printed)):
            line = make.stdout.readline()
            assert line, printed
            printed += line
        wait_until_warm(found[0])
        yield found[0], printed
    finally:
        os.killpg(make.pid, signal.SIGINT)  # Ctrl-C
        make.stdout.read()
        make.stdout.close()
        make.wait(HANGS)  # make itself ends by the signal it was sent


@pytest.mark.parametrize("installer", ["venv", "uv"])
def test_a_fresh_clone_speaks_and_the_second_start_sets_nothing_up(clone: Path, tmp_path: Path, installer: str) -> None:
    environment = bare_environment(tmp_path, uv=installer == "uv")
    with run_local(clone, environment) as (url, printed):
        assert "set-up: making .venv" in printed
        assert ("with uv" in printed) == (installer == "uv")
        page = httpx.get(url)
        assert "CosyServe" in page.text
        speech = httpx.post(f"{url}/v1/audio/speech", json={"input": GREETING, "response_format": "wav"}, timeout=HANGS)
        audio = from_wav(speech.content)
        assert is_speech(audio)
        assert 3 < audio.size / 24_000 < 5
    with run_local(clone, environment) as (url, printed):
        assert "set-up" not in printed
        assert httpx.post(f"{url}/tts", data={"text": GREETING}, timeout=HANGS).status_code == 200
    with run_local(clone, environment, "autodl/start_server_mpi.sh", "--port", "0") as (url, printed):
        assert "set-up" not in printed
        assert "语音合成服务" in printed
        assert httpx.post(f"{url}/tts", data={"text": GREETING}, timeout=HANGS).status_code == 200
    if installer == "uv":  # the decision is the same, and pip takes a minute to carry it out
        with (clone / "pyproject.toml").open("a") as project:
            project.write("# changed\n")
        with run_local(clone, environment) as (_, printed):
            assert "set-up: making .venv" in printed


def test_without_a_suitable_python_the_remedy_is_told(clone: Path, tmp_path: Path) -> None:
    environment = bare_environment(tmp_path, uv=False)
    (tmp_path / "bin" / "python3").unlink()
    made = subprocess.run(["make", "run-local"], cwd=clone, env=environment, capture_output=True, text=True)
    assert made.returncode != 0
    assert "python3-venv" in made.stderr
    assert "请安装" in made.stderr
