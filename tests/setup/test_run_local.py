"""The first promise: a fresh clone, a machine with nothing but Python, `make run-local`, and it speaks."""

import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import psutil
import pytest

from tests.running import GREETING, HANGS, addresses, wait_until_warm
from tests.setup.clones import bare_environment, clone_into
from tests.signals import from_wav, is_speech

pytestmark = pytest.mark.slow


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    return clone_into(tmp_path / "clone")


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
    """Slow: packages are installed, by pip and by uv."""
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
        marker = clone / ".venv/marker"
        marker.touch()
        with (clone / "pyproject.toml").open("a") as project:
            project.write("# changed\n")
        with run_local(clone, environment) as (_, printed):
            assert "nothing is downloaded" in printed
        with (clone / "requirements/main.txt").open("a") as requirements:
            requirements.write("# dev\nof-another-part==1\n")
        with run_local(clone, environment) as (_, printed):
            assert "set-up" not in printed
        with (clone / "requirements/main.txt").open("a") as requirements:
            requirements.write("# preview\n    # changed\n")
        with run_local(clone, environment) as (_, printed):
            assert "bringing .venv up to date for main preview" in printed
        assert marker.exists()  # the environment and what else was put into it


def with_a_stamp_for_all(clone: Path) -> None:
    for stamp in (clone / ".venv").glob(".cosyserve-*"):
        stamp.unlink()
    (clone / ".venv/.cosyserve-stamp").write_text(f"1 1 requirements/base.txt\n2 2 pyproject.toml\n{clone} \n")


def with_a_stamp_for_each_file(clone: Path) -> None:
    (clone / ".venv/.cosyserve-main-preview").unlink()
    (clone / ".venv/.cosyserve-preview.txt").write_text("1 1 requirements/preview.txt\n")


@pytest.mark.parametrize("before", [with_a_stamp_for_all, with_a_stamp_for_each_file])
def test_an_environment_of_the_version_before_is_kept(
    clone: Path, tmp_path: Path, before: Callable[[Path], None]
) -> None:
    """PyTorch in it is gigabytes. There was once one stamp for requirements, project and place."""
    environment = bare_environment(tmp_path, uv=True)
    setup = [str(clone / "scripts/setup"), ".venv", "main", "preview"]
    subprocess.run(setup, cwd=clone, env=environment, check=True)
    before(clone)
    (clone / ".venv/marker").touch()
    done = subprocess.run(setup, cwd=clone, env=environment, capture_output=True, text=True, check=True)
    assert "bringing .venv up to date" in done.stderr
    assert (clone / ".venv/marker").exists()
    again = subprocess.run(setup, cwd=clone, env=environment, capture_output=True, text=True, check=True)
    assert again.stderr == ""


def test_without_a_suitable_python_the_remedy_is_told(clone: Path, tmp_path: Path) -> None:
    environment = bare_environment(tmp_path, uv=False)
    (tmp_path / "bin" / "python3").unlink()
    made = subprocess.run(["make", "run-local"], cwd=clone, env=environment, capture_output=True, text=True)
    assert made.returncode != 0
    assert "python3-venv" in made.stderr
    assert "请安装" in made.stderr
