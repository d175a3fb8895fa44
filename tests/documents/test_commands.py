"""What the documents say to type is typed: a block of commands is run as it stands, or is marked (reading.py).

All blocks are typed in one folder that looks like a clone after its set-up, beside a server and a stand-in hub. The one
thing that is changed in them is the address of the server: the preview's, and where voices are added that of a small,
seeded CosyVoice2. What is marked, and
what stands within the text, is held against the commands, targets and files that there are.
"""

import importlib.util
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from itertools import pairwise
from pathlib import Path

import click
import pytest
import torch

from cosyserve import errors
from cosyserve.cli import main
from cosyserve.settings import load_settings
from cosyserve.store.manifest import MODEL_FOLDER
from tests.assets.conftest import FILES, User, manifest
from tests.assets.hub import Hub
from tests.cosyvoice.folder import make_model
from tests.documents.reading import COMMANDS, OTHERS, Block, blocks, name_of, pages, spans, words
from tests.running import HANGS, ROOT, Server, leave_out
from tests.speech.recordings import speech

__all__ = ["manifest"]  # a fixture

ADDRESS = re.compile(r"(127\.0\.0\.1|localhost):6008")
BLOCKS = [
    block for page in pages() if page.name != "README.zh-CN.md" for block in blocks(page)
]  # README.md has the same
TYPED = [block for block in BLOCKS if block.kind in COMMANDS]
RUN = [block for block in TYPED if any(block.mark_of(command) is None for command in block.commands)]
SHELL = """set -euo pipefail
curl() { command curl --silent --show-error --fail-with-body "$@"; }  # an answer that is an error is one here
"""


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As `make run-local` and `make deploy-autodl` leave it, with the files of a user's that the documents name."""
    folder = tmp_path_factory.mktemp("clone")
    for name in subprocess.check_output(["git", "ls-files"], cwd=ROOT, text=True).splitlines():
        top = name.partition("/")[0]
        if top != "pretrained_models" and not (folder / top).exists():
            (folder / top).symlink_to(ROOT / top)
    for environment in (".venv", ".venv-deploy", ".venv-dev"):
        command = folder / environment / "bin/cosyserve"
        command.parent.mkdir(parents=True)
        command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m cosyserve "$@"\n')
        command.chmod(0o755)
    (folder / "home").mkdir()
    (folder / "anna.wav").write_bytes(speech())
    voice = {"speech_token": torch.arange(60, dtype=torch.int32)[None], "speech_feat": torch.randn(1, 120, 80)}
    torch.save({"Bea": {**voice, "embedding": torch.randn(1, 192)}}, folder / "spk2info.pt")
    return folder


@pytest.fixture(scope="module")
def model_server(clone: Path) -> Iterator[Server]:
    """Voices are added to a model; it shares the folder of voices with what is typed."""
    make_model(clone / "models" / MODEL_FOLDER)
    with Server(clone, synthesizer="cosyvoice2", models_dir=clone / "models", dtype="float32") as running:
        yield running


@pytest.fixture(scope="module")
def hub() -> Iterator[Hub]:
    with Hub(FILES) as hub:
        yield hub


@pytest.fixture
def environ(clone: Path, hub: Hub, manifest: Path) -> Iterator[dict[str, str]]:
    """A user's, who has no command of ours on the path."""
    user = User(manifest, clone / "pretrained_models", clone / "home")
    user.asks(huggingface=hub, mirror=hub, modelscope=hub)
    tools = Path(sys.executable).parent
    path = [each for each in os.environ["PATH"].split(":") if Path(each) != tools]
    yield {**user.environ, "PATH": ":".join(path), "COSYSERVE_STATE_DIR": str(clone / "home/state")}
    shutil.rmtree(clone / "voices", ignore_errors=True)


def _sh(text: str, environ: dict[str, str], clone: Path) -> "subprocess.CompletedProcess[str]":
    return _done(["bash", "-c", SHELL + text], environ, clone)


def _python(text: str, environ: dict[str, str], clone: Path) -> "subprocess.CompletedProcess[str]":
    return _done([sys.executable, "-c", text], environ, clone)


def _dotenv(text: str, environ: dict[str, str], clone: Path) -> "subprocess.CompletedProcess[str]":
    """Read as the server reads it, in a folder of its own."""
    folder = clone / "home/dotenv"
    folder.mkdir(exist_ok=True)
    (folder / ".env").write_text(text)
    (folder / "keys").write_text("a-key-of-twenty-letters\n")
    read = f"import {load_settings.__module__} as s; print(s.{load_settings.__name__}())"
    return _done([sys.executable, "-W", "error", "-c", read], environ, folder)


def _done(argv: list[str], environ: dict[str, str], folder: Path) -> "subprocess.CompletedProcess[str]":
    """In a session of its own, of which nothing is left: a server that was forgotten to be marked would go on."""
    process = subprocess.Popen(
        argv,
        cwd=folder,
        env=environ,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        out, err = process.communicate(timeout=HANGS)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    return subprocess.CompletedProcess(argv, process.returncode, out, err)


@pytest.mark.parametrize("block", RUN, ids=str)
def test_what_a_document_says_to_type_works(
    block: Block, environ: dict[str, str], clone: Path, request: pytest.FixtureRequest
) -> None:
    if "curl" in block.text and not shutil.which("curl"):
        leave_out("there is no curl")
    needs_model = "/v1/audio/voices" in block.text or "interleave" in block.text
    server: Server = request.getfixturevalue("model_server" if needs_model else "server")
    text = block.text
    if block.kind == "sh":
        text = "\n".join(command for command in block.commands if block.mark_of(command) is None)
    how = {"sh": _sh, "python": _python, "dotenv": _dotenv}[block.kind]
    done = how(ADDRESS.sub(f"127.0.0.1:{server.port}", text), environ, clone)
    assert done.returncode in block.statuses, f"{text}\n{done.stdout}{done.stderr}"
    assert "Traceback" not in done.stderr
    for name in re.findall(r"(?:-o |stream_to_file\(\")([\w.]+)", text):
        assert (clone / name).stat().st_size > 10_000, name
        (clone / name).unlink()


@pytest.mark.parametrize("block", BLOCKS, ids=str)
def test_every_block_says_what_it_is(block: Block) -> None:
    assert block.kind in COMMANDS | OTHERS, f"{block} is of a kind that no test knows"
    if block.kind in OTHERS:
        assert not [line for line in block.text.splitlines() if line.startswith("$ ") or problem_of(line) == ""]


@pytest.mark.parametrize("block", TYPED, ids=str)
def test_a_mark_says_why_or_who_runs_it_instead(block: Block) -> None:
    for mark in block.marks:
        assert mark.command is None or any(map(mark.covers, block.commands)), (
            f"{block}: no such command: {mark.command}"
        )
        if mark.file is None:
            assert mark.reason, f"{block}: why?"
            continue
        tested = (ROOT / mark.file).read_text(encoding="utf-8")
        for command in filter(mark.covers, block.commands):
            program, *rest = words(command)
            what = next((word for word in rest if re.fullmatch(r"[a-z][\w./-]*", word)), program)
            assert what in tested, f"{mark.file} does not run {command}"


def test_no_mark_is_without_a_block() -> None:
    for page in pages():
        read = sum(len(block.marks) for block in blocks(page))
        assert len(re.findall(r"^ *<!-- (?:not run|run by|may end)", page.read_text(encoding="utf-8"), re.M)) == read, (
            page
        )


@pytest.mark.parametrize("page", pages(), ids=name_of)
def test_commands_and_files_that_are_named_exist(page: Path) -> None:
    named = [*spans(page)]
    named += [
        (block.line, command) for block in blocks(page) if block.kind in ("sh", "console") for command in block.commands
    ]
    for line, text in named:
        problem = problem_of(text)
        assert not problem, f"{page.name}:{line}: {text}: {problem}"


@pytest.mark.parametrize("fault", errors.CATALOGUE, ids=lambda fault: fault.id)
def test_commands_that_an_error_names_exist(fault: errors.Fault) -> None:
    said = f"{fault.cause} {fault.remedy} {fault.cause_zh} {fault.remedy_zh}"
    for command, options in re.findall(r"cosyserve\}? ([a-z]+)((?: --[a-z-]+)*)", said):
        assert _problem_of_ours(main, [command, *options.split()]) == ""
    for target in re.findall(r"make ([a-z]+-[a-z-]+)", said):
        assert problem_of(f"make {target}") == ""


def problem_of(text: str) -> str | None:
    """What is wrong with a command, "" where nothing is; None where it is none."""
    typed = words(text)
    missing = [word for word in typed if _is_path(word) and not (ROOT / word).exists()]
    if missing:
        return f"there is no {missing[0]}"
    if not typed or typed[0].endswith("/"):
        return None
    program, arguments = Path(typed[0]).name, typed[1:]
    if program == "cosyserve":
        return _problem_of_ours(main, arguments)
    if program == "make":
        targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.M)
        return next((f"no target {word}" for word in arguments[:1] if "=" not in word and word not in targets), "")
    if program.startswith("python") and arguments[:1] == ["-m"]:
        return "" if importlib.util.find_spec(arguments[1]) else f"no module {arguments[1]}"
    return "" if program in ("docker", "curl", "pip", "git", "bash", "pytest") and arguments else None


def _is_path(word: str) -> bool:
    """A file or folder of the clone, rather than one of a user's or an example."""
    top, slash, rest = word.partition("/")
    return (
        bool(slash and rest and re.fullmatch(r"\w[\w./-]+", word))
        and (ROOT / top).is_dir()
        and top not in ("pretrained_models", "voices")
        and Path(word).name != ".env"
    )


def _problem_of_ours(command: click.Command, arguments: list[str]) -> str:
    """A command, or an option of one, that there is not."""
    if isinstance(command, click.Group) and arguments:
        return _problem_of_group(command, arguments)
    options = {name: option for option in command.params for name in (*option.opts, *option.secondary_opts)}
    for word, value in pairwise([*arguments, ""]):
        option = options.get(word.partition("=")[0])
        if word.startswith("-") and option is None and word not in ("--help", "-h", "-"):
            return f"no option {word}"
        choices = getattr(option and option.type, "choices", ())
        if choices and "|" in value and set(value.split("|")) != set(choices):
            return f"{word} is one of {'|'.join(choices)}"
    return ""


def _problem_of_group(group: click.Group, arguments: list[str]) -> str:
    """As in a synopsis, `COMMAND` is any of the group's, and `A | B` are alternatives."""
    context = click.Context(group)
    word, *rest = arguments
    if word.startswith("-"):
        return "" if word in ("--help", "-h", "--version") else f"no option {word}"
    commands = {name: group.get_command(context, name) for name in group.list_commands(context)}
    if isinstance(inner := commands.get(word), click.Group):
        return _problem_of_ours(inner, rest)
    rest, others = (rest[: rest.index("|")], rest[rest.index("|") + 1 :]) if "|" in rest else (rest, [])
    candidates = [commands.get(word)] if word.isascii() and word.islower() else list(commands.values())
    problems = [_problem_of_ours(each, rest) if each else f"no command {word}" for each in candidates]
    return min(problems, key=len) or _problem_of_ours(group, others)
