"""`cosyserve serve` where no model is: asked in a terminal, told anywhere else."""

import os
import pty
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.assets.conftest import FILES, User
from tests.assets.hub import Hub
from tests.running import Server, addresses


@contextmanager
def in_a_terminal(user: User, answer: bytes) -> Iterator[str]:
    """`cosyserve serve` until it has announced itself or ended: everything it wrote."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "cosyserve", "serve"],
        env={**user.environ, "COSYSERVE_PORT": "0", "COSYSERVE_STATE_DIR": str(user.folder / "state")},
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    )
    os.close(theirs)
    written = b""
    try:
        while not addresses(written.decode(errors="replace")):
            try:
                more = os.read(ours, 4096)
            except OSError:  # how a terminal says that nobody is left
                break
            if b"[y/N]" in more:
                os.write(ours, answer)
            written += more
        yield written.decode(errors="replace")
    finally:
        process.terminate()
        process.wait(30)
        os.close(ours)


def test_a_terminal_is_asked_and_yes_fetches(user: User) -> None:
    with Hub(FILES) as hub:
        user.asks(huggingface=hub)
        with in_a_terminal(user, b"y\n") as written:
            assert "26 MB" in written
            assert user.has() == FILES


def test_a_terminal_is_asked_and_no_gives_the_preview(user: User) -> None:
    with in_a_terminal(user, b"\n") as written:
        assert "Fetch it now" in written
        assert addresses(written)
        assert not user.model.exists()


def test_without_a_terminal_the_preview_speaks_and_names_the_command(user: User) -> None:
    with Server(user.folder.parent, models_dir=user.folder) as server:
        assert "cosyserve fetch" in server.text()


@pytest.mark.parametrize("folder_is_there", [False, True])
def test_who_asks_for_cosyvoice2_gets_the_command_and_no_server(user: User, folder_is_there: bool) -> None:
    if folder_is_there:
        user.model.mkdir(parents=True)
    done = user.runs("serve", COSYSERVE_SYNTHESIZER="cosyvoice2", COSYSERVE_PORT="0")
    assert done.returncode == 2
    assert "CS-FETCH-006" in done.stderr
    assert "cosyserve fetch" in done.stderr
