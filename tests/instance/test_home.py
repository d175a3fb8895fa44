import json
import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from cosyserve import errors
from cosyserve.errors import CosyError
from cosyserve.host import system
from cosyserve.instance import activation, servers
from cosyserve.instance.home import KEPT_RELEASES, Home, Release
from cosyserve.machine import Machine
from cosyserve.settings import Settings, settings_in


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "cosyserve")


def install(home: Home, name: str, flavour: str = "preview", *, complete: bool = True) -> Release:
    release = home.release(name)
    release.folder.mkdir(parents=True)
    (release.folder / "release.json").write_text(json.dumps({"version": "1", "flavour": flavour}))
    if complete:
        (release.folder / ".complete").touch()
    return release


def test_a_release_counts_once_it_is_complete(home: Home) -> None:
    install(home, "1-a")
    install(home, "2-b", complete=False)
    assert [each.name for each in home.releases()] == ["1-a"]
    assert home.current() is None
    with pytest.raises(CosyError) as caught:
        activation.activate(home, home.release("2-b"), {}, print)
    assert caught.value.fault is errors.RELEASE_BROKEN
    assert home.current() is None


def test_the_link_is_relative_so_that_the_disk_may_be_mounted_elsewhere(home: Home, tmp_path: Path) -> None:
    home.make_current(install(home, "1-a"))
    moved = Home(home.root.rename(tmp_path / "elsewhere"))
    current = moved.current()
    assert current is not None
    assert current.complete


def test_a_rollback_goes_to_the_one_that_served_before(home: Home) -> None:
    with pytest.raises(CosyError) as caught:
        activation.roll_back(home, print)
    assert caught.value.fault is errors.NO_PREVIOUS
    for name in ("1-a", "2-b", "3-c"):
        home.make_current(install(home, name))
    (home.release("2-b").folder / ".complete").unlink()  # and is there no more
    previous = home.previous()
    assert previous is not None
    assert previous.name == "1-a"
    home.make_current(previous)
    again = home.previous()
    assert again is not None
    assert again.name == "3-c"


def test_only_the_last_few_are_kept_and_those_that_run(home: Home) -> None:
    names = [f"{number}-x" for number in range(KEPT_RELEASES + 3)]
    for name in names:
        home.make_current(install(home, name))
    install(home, "never-served", complete=False)
    gone = home.prune({names[0]})
    assert gone == ["1-x", "2-x", "never-served"]
    assert [each.name for each in home.releases()] == [names[0], *names[-KEPT_RELEASES:]]


def test_settings_are_written_beside_those_of_the_user(home: Home) -> None:
    activation.configure(home, {})
    file = home.shared / ".env"
    with file.open("a") as lines:
        lines.write("# mine\nCOSYSERVE_VOICE='cosy'\n")
    activation.configure(home, {"PORT": "6006", "HOST": "::1"})
    activation.configure(home, {"PORT": "6008", "HOST": ""})
    text = file.read_text()
    assert file.stat().st_mode & 0o777 == 0o600
    assert "# mine\nCOSYSERVE_VOICE='cosy'\n" in text
    assert "COSYSERVE_PORT=6008\n" in text
    assert "HOST" not in text
    settings = settings_in(home.shared)
    assert (settings.port, settings.voice, settings.grace_seconds) == (6008, "cosy", 3600)
    assert settings.state_dir == home.shared / "state"


def test_settings_that_are_no_text_are_left_alone(home: Home) -> None:
    file = home.shared / ".env"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes("COSYSERVE_VOICE=密\n".encode("gbk"))
    with pytest.raises(CosyError) as refused:
        activation.configure(home, {"PORT": "6006"})
    assert refused.value.fault is errors.ENV_FILE_UNUSABLE
    assert file.read_bytes() == "COSYSERVE_VOICE=密\n".encode("gbk")


def test_a_number_that_has_come_again_is_no_server_of_ours(home: Home) -> None:
    own = psutil.Process()
    fields = {"pid": own.pid, "release": "1-a", "host": "127.0.0.1", "port": 1, "start": "x"}
    home.run.mkdir(parents=True)
    (home.run / "servers.json").write_text(json.dumps([{**fields, "created": own.create_time()}]))
    assert [each.pid for each in servers.running(home)] == [own.pid]
    (home.run / "servers.json").write_text(json.dumps([{**fields, "created": own.create_time() - 100}]))
    assert servers.running(home) == []
    (home.run / "servers.json").write_text("[{")
    assert servers.running(home) == []


def machine_with(folder: Path, card: str, limit: int) -> Machine:
    """One whose control group grants `limit` bytes, and whose nvidia-smi, a stand-in, lists `card`."""
    group = folder / "sys/fs/cgroup"
    group.mkdir(parents=True)
    (group / "memory.max").write_text(f"{limit}\n")
    if card:
        (folder / "nvidia-smi").write_text(f"#!/bin/sh\necho '{card}'\n")
        (folder / "nvidia-smi").chmod(0o755)
    return Machine(folder, {"PATH": f"{folder}:/bin"})


@pytest.mark.parametrize(
    ("flavour", "card", "limit", "waits"),
    [
        ("cuda12", "", 2 << 30, True),
        ("slim", "", 2 << 30, True),
        ("preview", "", 2 << 30, False),
        ("slim", "", 64 << 30, False),
        ("cuda12", "RTX 4090, 550.54, 8.9, 24564, 24000", 2 << 30, False),
    ],
)
def test_what_waits_for_a_card(home: Home, tmp_path: Path, flavour: str, card: str, limit: int, waits: bool) -> None:
    machine = machine_with(tmp_path, card, limit)
    assert activation.waits_for_card(install(home, "1-a", flavour), machine) == waits


def test_without_a_card_the_model_is_fetched_and_nothing_else_is_done(home: Home, tmp_path: Path) -> None:
    release = install(home, "1-a", "cuda12")
    done = tmp_path / "done"
    python = release.folder / "venv/bin/python"
    python.parent.mkdir(parents=True)
    python.write_text(f"#!/bin/sh\necho \"$*\" >>'{done}'\nexit 1\n")  # and the hub cannot be reached
    python.chmod(0o755)
    activation.configure(home, {})
    said: list[str] = []
    here = Path.cwd()
    try:
        activation.put_to_work(home, release, said.append, machine_with(tmp_path, "", 2 << 30))
    finally:
        os.chdir(here)
    assert done.read_text() == "-m cosyserve fetch\n"
    assert any("next boot" in line for line in said)
    assert any("下次有卡开机" in line for line in said)


def test_no_other_folder_is_taken_for_an_installation(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "cache").mkdir()
    command = [sys.executable, "-m", "cosyserve", "instance", "--root", str(tmp_path), "uninstall", "--all"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2
    assert "CS-DEP-016" in done.stderr
    assert {path.name for path in tmp_path.iterdir()} == {"run", "cache"}
    assert subprocess.run([*command[:4], "status"], capture_output=True).returncode == 2  # nor is this clone


@pytest.mark.parametrize(
    ("used", "free", "cards", "fits"),
    [
        (4_000, 5_000, [], True),
        (4_000, 4_500, [], False),
        (4_000, 64_000, [(24_564, 19_000)], True),
        (4_000, 64_000, [(8_192, 3_000)], False),
        (4_000, 64_000, [(24_564, 19_000), (8_192, 3_000)], False),
    ],
)
def test_a_second_server_is_started_beside_the_first_where_as_much_is_free(
    used: int, free: int, cards: list[tuple[int, int]], fits: bool
) -> None:
    assert activation.fits(used, free, cards) == fits


def test_no_server_is_started_beside_one_that_has_its_port() -> None:
    old = [servers.Running(1, 0.0, "release", "127.0.0.1", 7000, "")]
    assert not activation._can_run_beside(old, Settings(port=7000, host="127.0.0.2"))
    assert not activation._can_run_beside(old, Settings(port=7001, wyoming_port=10200))


@pytest.mark.parametrize(
    ("folder", "files"),
    [
        ("", {"memory.max": "9000", "memory.current": "5000", "memory.stat": "anon 1\ninactive_file 3000"}),
        (
            "memory/",
            {
                "memory.limit_in_bytes": "9000",
                "memory.usage_in_bytes": "5000",
                "memory.stat": "inactive_file 1\ntotal_inactive_file 3000",
            },
        ),
    ],
)
def test_free_is_what_the_control_group_has_left_in_either_version(
    tmp_path: Path, folder: str, files: dict[str, str]
) -> None:
    group = tmp_path / "sys/fs/cgroup" / folder
    group.mkdir(parents=True)
    for name, text in files.items():
        (group / name).write_text(text + "\n")
    assert system.free_memory(Machine(tmp_path, {})) == 9000 - (5000 - 3000)
