"""What is kept of a day's usage, in files."""

import asyncio
import json
import stat
from pathlib import Path

import pytest

from cosyserve.server.usage import NOTHING, Amount, Usage
from tests.running import HANGS
from tests.server.test_quotas import DAY, MORNING


def at(folder: Path, seconds: float = 0) -> Usage:
    return Usage(folder, lambda: MORNING + seconds)


def test_a_restart_forgets_nothing_of_the_day_and_the_next_day_all_of_it(tmp_path: Path) -> None:
    usage = at(tmp_path)
    usage.add("anna", Amount(1, 20), keep=True)
    usage.add("团队", Amount(2, 30), keep=True)
    assert usage.save()
    assert stat.S_IMODE((tmp_path / "usage.json").stat().st_mode) == 0o600
    later = at(tmp_path, DAY - 1)
    assert (later.of("anna"), later.of("团队"), later.of("bob")) == (Amount(1, 20), Amount(2, 30), NOTHING)
    assert at(tmp_path, DAY).of("anna") == NOTHING


def test_servers_that_share_a_folder_add_up(tmp_path: Path) -> None:
    servers = [at(tmp_path) for _ in range(3)]
    for server in servers:
        server.add("anna", Amount(1, 10), keep=True)
        server.save()
    servers[0].add("anna", Amount(1, 10), keep=True)
    assert servers[0].of("anna") == Amount(2, 20)  # until it saves again
    servers[0].save()
    assert servers[0].of("anna") == at(tmp_path).of("anna") == Amount(4, 40)


def test_what_changes_is_saved_and_the_last_of_it_at_the_end(tmp_path: Path) -> None:
    async def run() -> None:
        usage = at(tmp_path)
        keeping = asyncio.create_task(usage.keep())
        usage.add("anna", Amount(1, 1), keep=True)
        while not (tmp_path / "usage.json").exists():
            await asyncio.sleep(0)
        usage.add("anna", Amount(1, 1), keep=True)
        keeping.cancel()
        await asyncio.wait([keeping], timeout=HANGS)
        assert at(tmp_path).of("anna") == Amount(2, 2)

    asyncio.run(run())


def test_what_needs_no_keeping_writes_no_file(tmp_path: Path) -> None:
    async def run() -> None:
        usage = at(tmp_path / "state")
        keeping = asyncio.create_task(usage.keep())
        await asyncio.sleep(0)
        usage.add("main", Amount(1, 1), keep=False)
        keeping.cancel()
        await asyncio.wait([keeping], timeout=HANGS)

    asyncio.run(run())
    assert not (tmp_path / "state").exists()


@pytest.mark.parametrize(
    "content", ["", "{", "[]", '{"day": 1}', '{"day": "", "keys": {"a": {"requests": -1}}}', "\ufeff"]
)
def test_a_damaged_file_is_told_of_once_and_replaced(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, content: str
) -> None:
    (tmp_path / "usage.json").write_text(content)
    usage = at(tmp_path)
    usage.add("anna", Amount(1, 20), keep=True)
    assert usage.save()
    assert caplog.text.count("CS-KEY-007") == 1
    assert json.loads((tmp_path / "usage.json").read_text())["keys"] == {"anna": {"requests": 1, "characters": 20}}


def test_what_is_known_outlives_a_file_that_is_damaged_meanwhile(tmp_path: Path) -> None:
    usage = at(tmp_path)
    for _ in range(2):
        usage.add("anna", Amount(1, 20), keep=True)
        assert usage.save()
        (tmp_path / "usage.json").write_text("{")
    usage.add("anna", Amount(1, 20), keep=True)
    assert usage.save()
    assert at(tmp_path).of("anna") == Amount(3, 60)


def test_where_nothing_can_be_written_counting_goes_on(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "state").touch()  # a file where the folder should be
    usage = at(tmp_path / "state")
    for _ in range(3):
        usage.add("anna", Amount(1, 1), keep=True)
        assert not usage.save()
    assert usage.of("anna") == Amount(3, 3)
    assert caplog.text.count("CS-KEY-007") == 1
    (tmp_path / "state").unlink()
    assert usage.save()
    assert at(tmp_path / "state").of("anna") == Amount(3, 3)
