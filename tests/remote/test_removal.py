"""What is taken away of an installation that has no command of its own (any more), and what is not ours."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from cosyserve import errors
from cosyserve.errors import CosyError
from cosyserve.remote.deployment import uninstall
from cosyserve.remote.machine import Here
from cosyserve.store.kernels import FOLDER

RELEASE = '{"version": "1", "flavour": "preview"}'


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "the server's"


def write(folder: Path, *names: str, text: str = "") -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


def removed(folder: Path, *, everything: bool) -> str:
    said: list[bytes] = []
    uninstall(Here(), str(folder), everything=everything, take=said.append)
    return b"".join(said).decode()


def test_what_was_kept_is_named_and_goes_with_all(folder: Path) -> None:
    write(folder, "shared/.env", text="# settings\nCOSYSERVE_STATE_DIR=state\n")
    write(folder, "shared/state/api_key", "shared/pretrained_models/CosyVoice2-0.5B/llm.pt")
    write(folder, f"shared/state/{FOLDER}/card/compiled.so")  # which could be made again
    said = removed(folder, everything=False)
    assert f"kept: {folder}/shared" in said
    assert "--all" in said
    assert f"{folder}/shared/state/{FOLDER}" in said
    assert not (folder / "shared/state" / FOLDER).exists()
    assert (folder / "shared/state/api_key").exists()
    assert "nothing is left" in removed(folder, everything=True)
    assert not folder.exists()
    with pytest.raises(CosyError) as caught:
        removed(folder, everything=True)
    assert caught.value.fault is errors.NOT_INSTALLED


@pytest.mark.parametrize(
    "left",
    [
        {
            "releases/1-a/release.json": RELEASE,
            "releases/1-a/venv/bin/python": "",
            "run/job.id": "1-a 0",
            "cache/x": "",
        },
        {"run/job.sh": "exec venv/bin/python -m cosyserve instance activate", "cache/new-1-a.tar.gz": ""},
        {"tools/deployer/pyvenv.cfg": ""},
    ],
    ids=["sent", "begun", "bootstrapped"],
)
def test_what_was_broken_off_is_taken_away(folder: Path, left: dict[str, str]) -> None:
    for name, text in left.items():
        write(folder, name, text=text)
    assert "nothing is left" in removed(folder, everything=False)
    assert not folder.exists()


OTHERS: dict[str, Callable[[Path], None]] = {
    "nothing": lambda folder: None,
    "an application of the same layout": lambda folder: write(
        folder, "releases/1/app.py", "current/app.py", "shared/.env", "run/x", "tools/x", "cache/x", text="SECRET=1"
    ),
}


@pytest.mark.parametrize("what", OTHERS)
def test_what_is_not_ours_is_left_alone(folder: Path, what: str) -> None:
    OTHERS[what](folder)
    before = sorted(folder.rglob("*"))
    with pytest.raises(CosyError) as caught:
        removed(folder, everything=True)
    assert caught.value.fault is errors.NOT_INSTALLED
    assert sorted(folder.rglob("*")) == before


def test_others_files_in_our_folder_stay(folder: Path) -> None:
    write(folder, "releases/1-a/release.json", text=RELEASE)
    write(folder, "mine.txt")
    assert "other files" in removed(folder, everything=True)
    assert [path.name for path in folder.iterdir()] == ["mine.txt"]


def test_nothing_is_taken_from_under_an_installation_at_work(folder: Path) -> None:
    write(folder, "releases/1-a/release.json", text=RELEASE)
    write(folder, "run/lock")
    with subprocess.Popen(["flock", folder / "run/lock", "sh", "-c", "echo; cat"], stdin=-1, stdout=-1) as job:
        assert job.stdout is not None
        job.stdout.readline()
        with pytest.raises(CosyError) as caught:
            removed(folder, everything=True)
        assert caught.value.fault is errors.BUSY
        job.communicate()
    assert (folder / "releases").exists()
