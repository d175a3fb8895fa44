"""What a start is refused for, by the real command: at once, with an id, a remedy and status 2, and never a stack trace
or a door that stands open."""

import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

_HANGS = 60  # seconds; what is waited for here ends at once or never

Make = Callable[[Path], object]


def a_socket(path: Path) -> None:
    """Its address is longer than the kernel takes, so it is bound in its folder."""
    before = Path.cwd()
    os.chdir(path.parent)
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(path.name)
    os.chdir(before)


KINDS: dict[str, Make] = {
    "file": Path.touch,
    "folder": Path.mkdir,
    "pipe": os.mkfifo,
    "socket": a_socket,
    "device": lambda path: path.symlink_to("/dev/zero"),
    "dangling link": lambda path: path.symlink_to(path.with_name("nowhere") / "x"),
    "looping link": lambda path: path.symlink_to(path),
}
FOLDERS = ["COSYSERVE_STATE_DIR", "COSYSERVE_VOICES_DIR", "COSYSERVE_MODELS_DIR"]
FILES = ["COSYSERVE_LOG_FILE", "COSYSERVE_API_KEYS_FILE", "COSYSERVE_REPLICA_PYTHON"]


def started(folder: Path, *arguments: str, **environment: str) -> "subprocess.CompletedProcess[bytes]":
    clean = {name: value for name, value in os.environ.items() if not name.startswith("COSYSERVE_")}
    return subprocess.run(
        [sys.executable, "-m", "cosyserve", *(arguments or ("serve", "--port", "0"))],
        cwd=folder,
        capture_output=True,
        timeout=_HANGS,
        stdin=subprocess.DEVNULL,
        env={**clean, "COSYSERVE_STATE_DIR": str(folder / "state"), **environment},
    )


def refusal(done: "subprocess.CompletedProcess[bytes]", fault: str = "CS-SET-001") -> str:
    text = done.stderr.decode()
    assert done.returncode == 2, text
    assert text.startswith(f"cosyserve: {fault}: ")
    assert text.count("→") == 2  # a remedy in either language
    assert "Traceback" not in text
    return text


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", FOLDERS + FILES)
def test_a_path_to_something_of_another_kind_is_refused(tmp_path: Path, name: str, kind: str) -> None:
    place = tmp_path / "place"
    KINDS[kind](place)
    if (name in FOLDERS and kind == "folder") or (name == "COSYSERVE_LOG_FILE" and kind == "file"):
        place = tmp_path / "a file" / "below"  # what is right in itself is wrong below a file
        place.parent.touch()
    assert name in refusal(started(tmp_path, **{name: str(place)}))


def test_a_log_file_that_can_never_be_written_is_refused(tmp_path: Path) -> None:
    assert "COSYSERVE_LOG_FILE" in refusal(started(tmp_path, COSYSERVE_LOG_FILE="/proc/nowhere/server.log"))


@pytest.mark.parametrize("line", ["COSYSERVE_API_KEYS='abc", "COSYSERVE_API_KEYS=${NOPE}", "COSYSERVE_HOST=a\0b"])
def test_a_line_that_comes_to_nothing_is_refused(tmp_path: Path, line: str) -> None:
    """A key that is lost so would leave the door open."""
    (tmp_path / ".env").write_text(f"# settings\n{line}\n")
    refusal(started(tmp_path), "CS-SET-004")


def test_a_home_of_nobody_is_refused(tmp_path: Path) -> None:
    assert "COSYSERVE_STATE_DIR" in refusal(started(tmp_path, COSYSERVE_STATE_DIR="~nosuchuser/x"))


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "file"])
def test_an_env_file_of_another_kind_is_refused(tmp_path: Path, kind: str) -> None:
    KINDS[kind](tmp_path / ".env")
    assert str(tmp_path / ".env") in refusal(started(tmp_path), "CS-SET-004")


@pytest.mark.parametrize("command", ["say hi -o -", "fetch", "doctor", "voices list", "build", "replica place"])
def test_every_command_refuses_it(tmp_path: Path, command: str) -> None:
    os.mkfifo(tmp_path / ".env")
    refusal(started(tmp_path, *command.split()), "CS-SET-004")


@pytest.mark.parametrize(
    "content",
    ["COSYSERVE_VOICE=你好\n".encode("gbk"), "COSYSERVE_PORT=0\n".encode("utf-16"), b"\xff", b"#" * (1 << 20) + b"\n"],
    ids=["GBK", "UTF-16", "a byte", "endless"],
)
def test_an_env_file_that_is_no_text_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / ".env").write_bytes(content)
    refusal(started(tmp_path), "CS-SET-004")


def test_keys_that_come_to_nothing_are_no_open_door(tmp_path: Path) -> None:
    (tmp_path / "keys").touch()
    given = [{"COSYSERVE_API_KEYS": ","}, {"COSYSERVE_API_KEYS_FILE": str(tmp_path / "keys")}]
    for keys in given:
        assert next(iter(keys)) in refusal(started(tmp_path, **keys))


def test_a_made_key_that_a_crash_has_emptied_is_no_open_door(tmp_path: Path) -> None:
    file = tmp_path / "state/api_key"
    file.parent.mkdir()
    file.touch()
    exposed = {"COSYSERVE_HOST": "0.0.0.0"}  # noqa: S104 - it is refused
    assert str(file) in refusal(started(tmp_path, **exposed), "CS-SET-005")
    assert file.read_bytes() == b""  # which a person may want to look at
