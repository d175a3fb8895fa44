"""`make run-local` as it is typed in a terminal: what is asked, what comes of each answer, and how it is ended.

One clone for all of it, since its set-up takes a while: its first start is that of whichever test comes first.
"""

import os
import re
import shutil
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest

from tests.assets.hub import Hub
from tests.running import HANGS, addresses
from tests.setup.clones import bare_environment, clone_into, manifest_of, with_pytorch
from tests.setup.terminal import Terminal

pytestmark = pytest.mark.slow

QUESTION = "Fetch CosyVoice2 now? [y/N]"
READY = "CosyServe: http"


@dataclass
class Clone:
    folder: Path
    environ: dict[str, str]
    hub: Hub
    model: Path
    settings: dict[str, str] = field(default_factory=dict)

    def types(self, command: str, **variables: str) -> Terminal:
        return Terminal(command, self.folder, {**self.environ, **self.settings, **variables})


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Clone]:
    from tests.cosyvoice.folder import make_model  # PyTorch, which not every environment of the tests has

    folder = tmp_path_factory.mktemp("machine")
    model = make_model(folder / "model")
    files = {str(path.relative_to(model)): path.read_bytes() for path in model.rglob("*") if path.is_file()}
    with Hub(files) as hub:
        environ = {
            **bare_environment(folder, uv=True),
            **with_pytorch(folder / "pytorch"),
            **manifest_of(files, folder / "models.json"),
            **dict.fromkeys(("HF_ENDPOINT", "MODELSCOPE_ENDPOINT", "COSYSERVE_HF_MIRROR"), hub.url),
        }
        yield Clone(clone_into(folder / "clone"), environ, hub, model)


@pytest.fixture
def clone(machine: Clone, tmp_path: Path) -> Iterator[Clone]:
    """The same clone for a user who has answered nothing yet."""
    machine.settings = {"COSYSERVE_STATE_DIR": str(tmp_path / "state"), "COSYSERVE_PORT": "0"}
    yield machine
    shutil.rmtree(machine.folder / "pretrained_models/CosyVoice2-0.5B", ignore_errors=True)
    (machine.folder / ".env").unlink(missing_ok=True)


def model_of(url: str) -> str:
    return str(httpx.get(f"{url}/v1/models", timeout=HANGS).json()["data"][0]["id"])


def speaks(terminal: Terminal, what: str) -> str:
    """Wait for the address, which stands last and alone, and have the server speak; the model's name."""
    (url,) = addresses(terminal.until(READY))
    terminal.until(f"{url}/")
    assert terminal.last_line == f"CosyServe: {url}/"
    print(f"{what}: ready after {terminal.seconds:.1f} s", end=", ")
    asked = {"input": "Hello, world.", "response_format": "pcm"}
    with httpx.stream("POST", f"{url}/v1/audio/speech", json=asked, timeout=HANGS) as speech:
        assert speech.status_code == 200
        assert any(speech.iter_bytes())
    print(f"first sound after {terminal.seconds:.1f} s")
    return model_of(url)


def test_yes_and_cosyvoice2_speaks_and_the_second_start_asks_nothing(clone: Clone) -> None:
    """Slow: it sets the clone up, if it comes first, and CosyVoice2 starts twice."""
    with clone.types("make run-local") as terminal:
        asked = terminal.until(QUESTION)
        assert "The model (64 MB) and PyTorch (about 0.2 GB) are downloaded" in asked
        assert "Without a graphics card it is slow" in asked
        terminal.types("y\n")
        assert "cosyvoice2" in speaks(terminal, "clone, yes")
        terminal.presses_ctrl_c()
        terminal.ends()
        assert "Traceback" not in terminal.shown
    with clone.types("make run-local") as terminal:
        assert "cosyvoice2" in speaks(terminal, "second start")
        assert QUESTION not in terminal.shown
        assert "set-up:" not in terminal.shown
    kept = [str(path.relative_to(clone.environ["HOME"])) for path in Path(clone.environ["HOME"]).rglob("*")]
    assert not [path for path in kept if "huggingface" in path or "modelscope" in path]


def test_no_and_the_preview_speaks_and_is_not_asked_again(clone: Clone) -> None:
    with clone.types("make run-local") as terminal:
        terminal.until(QUESTION)
        terminal.types("n\n")
        assert speaks(terminal, "clone, no") == "preview"
        (command,) = set(re.findall(r"run: (\S+) fetch; then", terminal.shown))
    assert command == ".venv/bin/cosyserve"
    with clone.types(f"{command} fetch --plan") as terminal:
        assert terminal.ends() == 0
    with clone.types("make run-local") as terminal:
        assert speaks(terminal, "second start") == "preview"
        assert QUESTION not in terminal.shown
    with clone.types("make run-local COSYSERVE_OFFER=always") as terminal:
        terminal.until(QUESTION)


def test_a_port_that_is_taken_is_said_before_anything_is_asked(clone: Clone) -> None:
    asked = len(clone.hub.asked)
    with (
        socket.create_server(("127.0.0.1", 0)) as taken,
        clone.types(f"make run-local COSYSERVE_PORT={taken.getsockname()[1]}") as terminal,
    ):
        assert terminal.ends() != 0
    assert "CS-SET-002" in terminal.shown
    assert QUESTION not in terminal.shown
    assert len(clone.hub.asked) == asked


def test_what_stands_in_env_holds_for_the_set_up_too(clone: Clone, tmp_path: Path) -> None:
    shutil.copytree(clone.model, tmp_path / "models/CosyVoice2-0.5B")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    (clone.folder / ".env").write_text(f"COSYSERVE_MODELS_DIR={tmp_path}/models\nCOSYSERVE_PORT={port}\n")
    del clone.settings["COSYSERVE_PORT"]
    with clone.types("make run-local") as terminal:
        assert "cosyvoice2" in speaks(terminal, ".env")
        assert addresses(terminal.shown) == [f"http://127.0.0.1:{port}"]
        assert QUESTION not in terminal.shown


def test_the_first_ctrl_c_lets_streams_finish_and_the_second_does_not(clone: Clone) -> None:
    """The grace time is longer than the test: without the second it would not end."""
    patient = {"COSYSERVE_GRACE_SECONDS": "100000", "COSYSERVE_STALL_SECONDS": "100000"}
    with clone.types("make run-local COSYSERVE_OFFER=never", **patient) as terminal:
        (url,) = addresses(terminal.until(f"{READY}://127.0.0.1")) or addresses(terminal.until("/\r\n"))
        long = {"input": "A sentence that nobody listens to. " * 500, "response_format": "pcm"}
        with httpx.stream("POST", f"{url}/v1/audio/speech", json=long, timeout=HANGS) as stream:
            assert stream.status_code == 200
            terminal.presses_ctrl_c()
            terminal.until("Ctrl-C again stops at once")
            terminal.presses_ctrl_c()
            terminal.ends()
    assert "Traceback" not in terminal.shown


def test_without_a_terminal_nothing_is_asked(clone: Clone) -> None:
    made = subprocess.Popen(
        ["make", "run-local"],
        cwd=clone.folder,
        env={**clone.environ, **clone.settings},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    assert made.stdout
    shown = ""
    while READY not in shown:
        line = made.stdout.readline()
        assert line, shown
        shown += line
    os.killpg(made.pid, 2)
    made.stdout.close()
    made.wait(HANGS)
    assert QUESTION not in shown
    assert "{" not in shown  # one kind of line, from the set-up to the server
