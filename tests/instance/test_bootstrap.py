"""autodl/bootstrap.sh up to the command that does the work: the real script, with stand-ins for the set-up and the
command, which tell what they were given. tests/remote/test_odd.py runs all of it."""

import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.running import ROOT

NOBODY = "http://127.0.0.1:1/simple"
TELLS = f"""#!{sys.executable}
import json, os, sys
print("told", json.dumps([sys.argv[1:], dict(os.environ)]))
"""
SETS_UP = f"""{TELLS}
command = sys.argv[1] + "/bin/cosyserve"
os.makedirs(os.path.dirname(command))
with open(command, "w") as file:
    file.write({TELLS!r})
os.chmod(command, 0o755)
"""


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    folder = tmp_path / "clone"
    for name in ("autodl/bootstrap.sh", "autodl/fastest_index.py", "src/cosyserve"):
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.symlink_to(ROOT / name) if (ROOT / name).is_dir() else shutil.copy(ROOT / name, target)
    for name, text in (
        ("autodl/python.sh", f"#!/bin/sh\necho {sys.executable}\n"),
        ("scripts/get-uv", "#!/bin/sh\nexit 1\n"),
        ("scripts/setup", SETS_UP),
    ):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    (tmp_path / "tmp").mkdir()
    (tmp_path / "disk").mkdir()
    return folder


@pytest.fixture
def index(tmp_path: Path) -> Iterator[str]:
    (tmp_path / "index/uv").mkdir(parents=True)
    handler = partial(SimpleHTTPRequestHandler, directory=str(tmp_path / "index"))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


def runs(clone: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    environ = {**os.environ, "TMPDIR": str(clone.parent / "tmp"), "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run([clone / "autodl/bootstrap.sh", *arguments], env=environ, capture_output=True, text=True)


def told(done: "subprocess.CompletedProcess[str]") -> list[tuple[list[str], dict[str, Any]]]:
    """What the set-up was given, and what the command."""
    assert done.returncode == 0, done.stderr
    return [tuple(json.loads(line)) for line in done.stdout.split("told ")[1:]]


@pytest.mark.parametrize("written", ["{} {}", "{}={}"])
def test_index_and_folder_reach_the_set_up(clone: Path, index: str, written: str) -> None:
    folder = clone.parent / "disk/cosyserve"
    typed = " ".join(written.format(*each) for each in (("--folder", folder), ("--index", NOBODY), ("--index", index)))
    (set_up, environ), (command, _) = told(runs(clone, *typed.split(), "--port", "6006"))
    assert set_up == [f"{folder}/tools/deployer", "main", "base"]
    assert (environ["PIP_INDEX_URL"], environ["UV_DEFAULT_INDEX"]) == (index, index)
    assert environ["PIP_CACHE_DIR"].startswith(f"{folder}/")
    assert environ["UV_CACHE_DIR"].startswith(f"{folder}/")
    assert command == ["deploy", "autodl", "--here", *typed.split(), "--port", "6006"]


@pytest.mark.parametrize("looks", ["--plan", "--help"])
def test_who_only_looks_leaves_nothing_behind(clone: Path, index: str, looks: str) -> None:
    before = sorted(clone.parent.rglob("*"))
    _, (command, _) = told(runs(clone, looks, "--folder", str(clone.parent / "disk/cosyserve"), "--index", index))
    assert looks in command
    assert sorted(clone.parent.rglob("*")) == before


def test_without_an_index_that_answers_it_ends_in_the_words_of_the_catalogue(clone: Path) -> None:
    done = runs(clone, "--folder", str(clone.parent / "disk/cosyserve"), "--index", NOBODY)
    assert done.returncode == 2
    assert done.stderr.startswith("CS-DEP-011: ")
    assert done.stderr.count("  → ") == 2
    assert not list((clone.parent / "disk").iterdir())


def test_what_is_set_up_already_needs_no_index(clone: Path, index: str) -> None:
    folder = ("--folder", str(clone.parent / "disk/cosyserve"))
    told(runs(clone, *folder, "--index", index))
    (clone / "scripts/setup").write_text("#!/bin/sh\n")
    assert told(runs(clone, *folder, "--index", NOBODY))


def test_the_status_is_that_of_the_command(clone: Path, index: str) -> None:
    (clone / "scripts/setup").write_text('#!/bin/sh\nmkdir -p "$1/bin"; ln -s /bin/false "$1/bin/cosyserve"\n')
    for options in ((), ("--plan",)):
        folder = clone.parent / "disk" / f"cosyserve{len(options)}"
        assert runs(clone, "--folder", str(folder), "--index", index, *options).returncode == 1
