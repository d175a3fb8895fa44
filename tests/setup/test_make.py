"""What is typed behind `make TARGET` is data, however it looks: the real make, with stand-ins for the scripts."""

import json
import os
import shutil
import subprocess
import sys
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.running import ROOT

TARGETS = [
    "help",
    "run-local",
    "deploy-autodl",
    "test",
    "image",
    "docker-run",
    "compose-up",
    "lock",
    "release",
    "format",
    "bench",
]
NAMES = ["HOST", "PORT", "ARGS", "FLAVOUR", "MAKEFILE_LIST", "COSYSERVE_PORT", "TORCH_INDEX", "VERSION", "ANYTHING"]
EVIL = [
    "$(touch {0})",
    "$$(touch {0})",
    "$(shell touch {0})",
    "$(eval $(shell touch {0}))",
    "${{shell touch {0}}}",
    "`touch {0}`",
    "; touch {0}",
    "' ; touch {0} ; '",
    '" ; touch {0} ; "',
    "a\ntouch {0}\n",
    "a # $(shell touch {0})",
    "& touch {0} | cat <{0}",
    "$(HOST)",
    "$",
    "密钥 'it''s' \\",
]
TELLS = """#!{python}
import json, os, sys
print("told", json.dumps([sys.argv[1:], dict(os.environ)]))
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the Makefile, where each script only tells what it was given."""
    folder = tmp_path_factory.mktemp("made")
    shutil.copy(ROOT / "Makefile", folder)
    (folder / "scripts").mkdir()
    (folder / ".venv-dev/bin").mkdir(parents=True)
    names = [f"scripts/{each.name}" for each in (ROOT / "scripts").iterdir()]
    for name in [*names, *(f".venv-dev/bin/{each}" for each in ("python", "ruff", "shfmt"))]:
        (folder / name).write_text(TELLS.format(python=sys.executable))
        (folder / name).chmod(0o755)
    return folder


def make(folder: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    environ = {name: value for name, value in os.environ.items() if name not in ("MAKEFLAGS", "MFLAGS", "MAKELEVEL")}
    return subprocess.run(["make", *arguments], cwd=folder, env=environ, capture_output=True, text=True)


@pytest.mark.parametrize("target", TARGETS)
def test_nothing_typed_is_run(made: Path, tmp_path: Path, target: str) -> None:
    trap = tmp_path / "trap"
    for value in EVIL:
        make(made, target, *(f"{name}={value.format(trap)}" for name in NAMES))
        assert not trap.exists(), value


def test_the_script_gets_what_was_typed(made: Path) -> None:
    for value in EVIL:
        told = make(made, "deploy-autodl", f"HOST={value}", f"ARGS={value}").stdout.partition("told ")[2]
        arguments, environ = json.loads(told)
        assert (arguments, environ["HOST"], environ["ARGS"]) == ([], value, value)


@pytest.fixture(scope="module")
def deploying(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with the real script of `deploy-autodl`, and a stand-in for what it runs."""
    folder = tmp_path_factory.mktemp("deploying")
    shutil.copy(ROOT / "Makefile", folder)
    (folder / "scripts").mkdir()
    (folder / ".venv-deploy/bin").mkdir(parents=True)
    shutil.copy(ROOT / "scripts/deploy-autodl", folder / "scripts")
    for name in ("scripts/setup", ".venv-deploy/bin/cosyserve"):
        (folder / name).write_text(TELLS.format(python=sys.executable))
        (folder / name).chmod(0o755)
    return folder


@pytest.mark.parametrize(
    ("typed", "words"),
    [
        ("", []),
        (" \t ", []),
        ("--plan  --port 6006", ["--plan", "--port", "6006"]),
        ("--identity '~/a key' --folder \"/b c\"", ["--identity", "~/a key", "--folder", "/b c"]),
        ("--set A=$(id) * $HOME `id` ; id", ["--set", "A=$(id)", "*", "$HOME", "`id`", ";", "id"]),
    ],
)
def test_arguments_are_words_and_nothing_more(deploying: Path, typed: str, words: list[str]) -> None:
    told = make(deploying, "deploy-autodl", "HOST=$(id)@box", "PORT=1;id", f"ARGS={typed}").stdout
    arguments, _ = json.loads(told.rpartition("told ")[2])
    assert arguments == ["deploy", "autodl", "--ssh", "$(id)@box:1;id", *words]


def test_an_open_quote_is_refused(deploying: Path) -> None:
    assert make(deploying, "deploy-autodl", "HOST=box", "ARGS=--plan 'x").returncode != 0


def test_an_index_that_is_named_reaches_the_first_step_where_it_answers(deploying: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(deploying, tmp_path / "clone")
    (folder / ".venv-deploy/bin/cosyserve").unlink()
    (folder / "autodl").mkdir()
    shutil.copy(ROOT / "autodl/fastest_index.py", folder / "autodl")
    (tmp_path / "index/uv").mkdir(parents=True)
    handler = partial(SimpleHTTPRequestHandler, directory=str(tmp_path / "index"))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever).start()
        index, nobody = f"http://127.0.0.1:{server.server_port}/", "http://127.0.0.1:1/"
        try:
            for typed, reached in (
                (f"--index {nobody} --index={index}", index),
                (f"--index {nobody}", None),
                ("", None),
            ):
                told = make(folder, "deploy-autodl", "HOST=box", f"ARGS={typed}").stdout
                assert json.loads(told.split("told ")[1])[1].get("PIP_INDEX_URL") == reached
        finally:
            server.shutdown()
