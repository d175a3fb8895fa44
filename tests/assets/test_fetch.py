"""`cosyserve fetch` against hubs that work, break down, lie and hang. The hubs' own clients do the transfers."""

import os
import random
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.assets.conftest import FILES, FOLDER, TOTAL, UNKNOWN, User
from tests.assets.hub import Behaviour, Hub
from tests.running import HANGS, starts, with_longer_limits

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="mounting needs root")


@pytest.fixture
def hub() -> Iterator[Hub]:
    with Hub(FILES) as hub:
        yield hub


@pytest.mark.parametrize("source", ["huggingface", "hf-mirror", "modelscope", "auto"])
def test_a_model_is_fetched_whole(user: User, hub: Hub, source: str) -> None:
    user.asks(huggingface=hub, mirror=hub, modelscope=hub)
    done = user.runs("fetch", "--source", source)
    assert done.returncode == 0, done.stderr
    assert user.has() == FILES
    asked = len(hub.asked)
    assert user.runs("fetch", "--source", source).returncode == 0
    assert len(hub.asked) == asked


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(10))
def test_a_fetch_that_is_killed_at_any_byte_goes_on_where_it_was(user: User, seed: int) -> None:
    draw = random.Random(seed)
    source = ("huggingface", "modelscope")[seed % 2]
    at = draw.randrange(1, TOTAL)
    with Hub(FILES, Behaviour(after=at, pause=0.0005)) as hub:
        user.asks(huggingface=hub, modelscope=hub)
        process = user.starts("fetch", "--source", source)
        hub.behaviour.then = process.kill
        process.communicate(timeout=HANGS)
        assert process.returncode == -signal.SIGKILL
        assert user.has().items() <= FILES.items()
        done = user.runs("fetch", "--source", source)
        assert done.returncode == 0, done.stderr
        assert user.has() == FILES
        if at > 20_000_000:  # huggingface_hub writes ten megabytes at once, and the kernel has some more on the way
            assert any("bytes=" in line for line in hub.asked)
            assert hub.served < at + TOTAL - 5_000_000


BROKEN = {
    "asks for patience": Behaviour(status=429),
    "is overloaded": Behaviour(status=503),
    "refuses ranges": Behaviour(status=416),
    "hangs": Behaviour(hang=True),
    "has another file": Behaviour(files={"flow.pt": b"x" * len(FILES["flow.pt"])}),
    "has a file cut short": Behaviour(files={"llm.pt": FILES["llm.pt"][:-1]}),
    "lacks a file": Behaviour(status=404),
}


def behaviour(name: str) -> Behaviour:
    return Behaviour(**vars(BROKEN[name]))


@pytest.mark.slow
@pytest.mark.parametrize("source", ["huggingface", "modelscope"])
@pytest.mark.parametrize("name", BROKEN)
def test_a_source_that_fails_alone_is_said_with_a_remedy(user: User, name: str, source: str) -> None:
    """What hangs, or answers that it is busy, is waited for as long as a stall may last. That is short here, because no
    source is healthy: one that is given up too early fails as it has to."""
    with Hub(FILES, behaviour(name)) as hub:
        user.asks(huggingface=hub, modelscope=hub)
        done = user.runs("fetch", "--source", source, COSYSERVE_FETCH_STALL_SECONDS="1")
    assert done.returncode == 2
    assert "CS-FETCH-002" in done.stderr
    assert "Traceback" not in done.stderr
    assert user.has().items() <= FILES.items()


@pytest.mark.parametrize("name", BROKEN)
@with_longer_limits
def test_the_next_source_takes_over(user: User, hub: Hub, name: str) -> None:
    with Hub(FILES, behaviour(name)) as broken:
        user.asks(huggingface=broken, modelscope=hub)
        done = user.runs("fetch", COSYSERVE_FETCH_STALL_SECONDS=str(starts(5)))
    assert done.returncode == 0, done.stderr
    assert user.has() == FILES


def test_a_source_that_dies_midway_keeps_what_it_has_brought(user: User, hub: Hub) -> None:
    with Hub(FILES, Behaviour(after=TOTAL - 1000)) as dying:
        dying.behaviour.then = lambda: setattr(dying.behaviour, "status", 503)
        user.asks(huggingface=dying)
        assert user.runs("fetch", "--source", "huggingface").returncode == 2
        user.asks(huggingface=dying, modelscope=hub)
        done = user.runs("fetch")
    assert done.returncode == 0, done.stderr
    assert user.has() == FILES
    assert (user.source_of("flow.pt"), user.source_of("llm.pt")) == ("huggingface", "modelscope")
    assert not any("flow.pt" in line for line in hub.asked)


@pytest.mark.parametrize("source", ["huggingface", "modelscope"])
def test_a_body_that_ends_early_is_taken_up_again(user: User, source: str) -> None:
    with Hub(FILES, Behaviour(cut=1000)) as hub:
        user.asks(huggingface=hub, modelscope=hub)
        done = user.runs("fetch", "--source", source)
    assert done.returncode == 0, done.stderr
    assert user.has() == FILES


def test_two_fetches_at_once_do_the_work_once(user: User) -> None:
    with Hub(FILES, Behaviour(pause=0.0005)) as hub:
        user.asks(huggingface=hub)
        fetches = [user.starts("fetch", "--source", "huggingface") for _ in range(2)]
        said = [each.communicate(timeout=HANGS)[1] for each in fetches]
    assert [each.returncode for each in fetches] == [0, 0], said
    assert sum("waiting for it" in text for text in said) == 1
    assert hub.served == TOTAL + 1  # and a byte, to see that it is there
    assert user.has() == FILES


def test_a_file_without_a_known_digest_is_held_to_the_first_that_was_verified(user: User, hub: Hub) -> None:
    user.asks(huggingface=hub)
    assert user.runs("fetch", "--source", "huggingface").returncode == 0
    (user.model / UNKNOWN).unlink()
    with Hub({**FILES, UNKNOWN: b"another"}) as other:
        user.asks(modelscope=other)
        done = user.runs("fetch", "--source", "modelscope")
    assert done.returncode == 2
    assert UNKNOWN in done.stderr
    assert UNKNOWN not in user.has()


def test_a_token_goes_to_its_own_hub_only(user: User, hub: Hub) -> None:
    with Hub(FILES) as mirror:
        user.asks(huggingface=hub, mirror=mirror)
        user.environ["HF_TOKEN"] = "hf_x"  # noqa: S105
        for source in ("hf-mirror", "huggingface"):
            assert user.runs("fetch", "--source", source, "--to", str(user.folder / source)).returncode == 0
        assert mirror.asked
        assert not mirror.authorised
    assert "Bearer hf_x" in hub.authorised


def test_without_any_hub_one_sentence_says_so(user: User) -> None:
    done = user.runs("fetch")
    assert done.returncode == 2
    assert "CS-FETCH-007" in done.stderr
    assert len(done.stderr.splitlines()) == 5  # what it does, and the error with its remedy in two languages
    assert user.runs("fetch", "--plan").returncode == 0


@pytest.mark.parametrize("source", ["huggingface", "modelscope"])
def test_the_clients_leave_nothing_in_the_home_folder(user: User, hub: Hub, source: str) -> None:
    user.asks(huggingface=hub, modelscope=hub)
    done = user.runs("fetch", "--source", source)
    assert done.returncode == 0, done.stderr
    assert list(Path(user.environ["HOME"]).iterdir()) == []
    assert [path.name for path in user.folder.iterdir() if not path.name.startswith(".")] == [FOLDER]


def test_a_folder_that_was_filled_by_hand_is_verified_and_kept(user: User) -> None:
    for path, data in FILES.items():
        (user.model / path).parent.mkdir(parents=True, exist_ok=True)
        (user.model / path).write_bytes(data)
    done = user.runs("fetch", HF_HUB_OFFLINE="1")
    assert done.returncode == 0, done.stderr
    assert user.source_of("llm.pt") == "found"


def test_offline_is_respected(user: User, hub: Hub) -> None:
    user.asks(huggingface=hub, modelscope=hub)
    done = user.runs("fetch", HF_HUB_OFFLINE="1")
    assert done.returncode == 2
    assert "CS-FETCH-005" in done.stderr
    assert not hub.asked


def test_a_complete_model_needs_no_network(user: User, hub: Hub) -> None:
    user.asks(huggingface=hub)
    assert user.runs("fetch").returncode == 0
    before = ("unshare", "--net", "--map-root-user") if os.geteuid() else ("unshare", "--net")
    assert user.runs("fetch", before=before).returncode == 0


def test_the_plan_says_what_would_be_done_and_does_nothing(user: User, hub: Hub) -> None:
    user.asks(modelscope=hub)
    done = user.runs("fetch", "--plan")
    assert done.returncode == 0
    for words in ("llm.pt", "24 MB", "size unknown", f"from modelscope: {hub.url}", "room enough", str(user.folder)):
        assert words in done.stdout
    assert not user.model.exists()


def test_an_unknown_model_is_named_with_those_there_are(user: User) -> None:
    done = user.runs("fetch", "--model", "cosyvoice9")
    assert done.returncode == 2
    assert "CS-FETCH-001" in done.stderr
    assert "cosyvoice2-0.5b" in done.stderr


def test_a_damaged_file_is_named_and_fetched_again(user: User, hub: Hub) -> None:
    user.asks(huggingface=hub)
    assert user.runs("fetch").returncode == 0
    file = user.model / "flow.pt"
    times = file.stat()
    with file.open("r+b") as opened:
        opened.seek(1000)
        opened.write(b"damage")
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))  # nothing but its bytes tells
    hub.asked.clear()
    done = user.runs("models", "verify")
    assert done.returncode == 1
    assert "damaged\tflow.pt" in done.stdout
    assert not hub.asked
    done = user.runs("models", "verify", "--fetch")
    assert done.returncode == 0, done.stderr
    assert "damaged\tflow.pt" in done.stdout
    assert "whole\tllm.pt" in done.stdout
    assert user.has() == FILES


def test_models_are_listed_and_removed(user: User, hub: Hub) -> None:
    user.asks(huggingface=hub)
    assert "0 of 3 files" in user.runs("models", "list").stdout
    assert user.runs("fetch").returncode == 0
    assert "whole" in user.runs("models", "list").stdout
    assert user.runs("models", "remove", "cosyvoice2-0.5b", "--yes").returncode == 0
    assert not user.model.exists()


@pytest.fixture
def small_disk(user: User) -> Iterator[Path]:
    """100 MB: the model and its margin fit, and little else."""
    user.folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=100m", "tmpfs", str(user.folder)], check=True)
    yield user.folder
    subprocess.run(["umount", str(user.folder)], check=True)


@as_root
def test_a_disk_that_is_too_small_is_said_before_anything_is_fetched(user: User, hub: Hub, small_disk: Path) -> None:
    user.asks(huggingface=hub)
    (small_disk / "filler").write_bytes(b"\0" * 50_000_000)
    done = user.runs("fetch", "--source", "huggingface")
    assert done.returncode == 2
    assert "CS-FETCH-003" in done.stderr
    assert " MB more." in done.stderr
    assert not hub.served


@as_root
@pytest.mark.parametrize("source", ["huggingface", "modelscope"])
def test_a_disk_that_fills_up_midway_keeps_what_was_verified(user: User, small_disk: Path, source: str) -> None:
    filler = small_disk / "filler"

    def fill() -> None:
        with filler.open("wb", buffering=0) as file:
            try:
                while True:
                    file.write(b"\0" * 100_000)
            except OSError:
                pass

    with Hub(FILES, Behaviour(after=len(FILES["flow.pt"]) + 2_000_000)) as hub:
        hub.behaviour.then = fill
        user.asks(huggingface=hub, modelscope=hub)
        done = user.runs("fetch", "--source", source)
        assert done.returncode == 2
        assert "CS-FETCH-003" in done.stderr
        assert user.has() == {path: data for path, data in FILES.items() if path != "llm.pt"}
        filler.unlink()
        assert user.runs("fetch", "--source", source).returncode == 0
        assert user.has() == FILES


@as_root
def test_a_read_only_folder_is_refused_unless_nothing_is_to_be_written(user: User, hub: Hub, small_disk: Path) -> None:
    user.asks(huggingface=hub)

    def remount(how: str) -> None:
        subprocess.run(["mount", "-o", f"remount,{how}", str(small_disk)], check=True)

    remount("ro")
    done = user.runs("fetch")
    assert done.returncode == 2
    assert "CS-FETCH-004" in done.stderr
    remount("rw")
    assert user.runs("fetch").returncode == 0
    (small_disk / FOLDER / ".cosyserve.json").unlink()
    remount("ro")
    assert user.runs("fetch").returncode == 0
