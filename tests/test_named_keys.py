"""Named keys: their file, and which key a request has while it changes."""

import hashlib
import json
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cosyserve.errors import CosyError
from cosyserve.keys import MAIN
from cosyserve.keys.key import Limits, composed, fits
from cosyserve.keys.key_file import MOST, KeyFile
from cosyserve.keys.keyring import Keyring, expect_keys
from cosyserve.settings import Settings
from tests.test_cli import run
from tests.test_keys import EVERYWHERE, UNUSABLE
from tests.test_start import KINDS

DIGEST = hashlib.sha256(b"sesame").hexdigest()
_ENTRY = {"name": "anna", "sha256": DIGEST}
DAMAGED = {
    **UNUSABLE,
    "a key instead of its digest": json.dumps({"keys": [{"name": "anna", "sha256": "sesame"}]}).encode(),
    "no digest": b'{"keys": [{"name": "anna"}]}',
    "an empty digest": b'{"keys": [{"name": "anna", "sha256": ""}]}',
    "a list": b"[]",
    "no list": b"{}",
    "null": b"null",
    "an unknown field": json.dumps({"keys": [_ENTRY | {"sesame": 1}]}).encode(),
    "an unknown limit": json.dumps({"keys": [_ENTRY | {"limits": {"requests_per_hour": 1}}]}).encode(),
    "no number": json.dumps({"keys": [_ENTRY | {"limits": {"requests_per_day": "sesame"}}]}).encode(),
    "a limit of nothing": json.dumps({"keys": [_ENTRY | {"limits": {"requests_per_day": 0}}]}).encode(),
    "a name that is taken": json.dumps({"keys": [_ENTRY, _ENTRY | {"sha256": DIGEST[::-1]}]}).encode(),
    "a digest that is taken": json.dumps({"keys": [_ENTRY, _ENTRY | {"name": "bob"}]}).encode(),
    "the main keys' name": json.dumps({"keys": [_ENTRY | {"name": "main"}]}).encode(),
    "too many": json.dumps({"keys": [{"name": f"k{n}", "sha256": f"{n:064x}"} for n in range(MOST + 1)]}).encode(),
    "nested": b'{"keys": ' + b"[" * 100_000,
}


def ring(folder: Path, **settings: Any) -> Keyring:
    keyring = Keyring(Settings(state_dir=folder, **settings))
    keyring.open()
    return keyring


def name_of(keyring: Keyring, key: str) -> str | None:
    found = keyring.find([b"another", key.encode()])
    return found.name if found else None


def test_only_the_hash_of_a_key_is_kept_and_only_the_owner_may_read_it(tmp_path: Path) -> None:
    key = KeyFile(tmp_path / "state").add("anna")
    file = tmp_path / "state" / "keys.json"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert list(file.parent.iterdir()) == [file]  # no temporary file is left
    assert key not in file.read_text()
    assert hashlib.sha256(key.encode()).hexdigest() in file.read_text()
    assert len(key) > 40


def test_a_key_that_is_added_opens_and_one_that_is_revoked_does_not(tmp_path: Path) -> None:
    file, keyring = KeyFile(tmp_path), ring(tmp_path, api_keys="main-one,main-two")
    assert name_of(keyring, "main-two") == "main"
    anna = file.add("anna", "high", Limits(requests_per_day=5))
    team = file.add("团队")
    found = keyring.find([anna.encode()])
    assert found is not None and (found.name, found.priority, found.rank) == ("anna", "high", 0)
    assert name_of(keyring, team) == "团队"
    file.change("anna", lambda key: key.model_copy(update={"limits": Limits(requests_per_day=6)}))
    now = keyring.current(found)
    assert now is not None and now.limits.requests_per_day == 6
    file.revoke("anna")
    assert name_of(keyring, anna) is None
    assert keyring.current(found) is None
    file.add("anna")
    assert keyring.current(found) is None  # the name is another key's now
    assert name_of(keyring, "main-one") == name_of(keyring, "main-two") == "main"
    assert keyring.current(MAIN) is MAIN


def test_a_key_in_the_file_is_no_key_by_its_digest(tmp_path: Path) -> None:
    (tmp_path / "keys.json").write_text(json.dumps({"keys": [_ENTRY]}))
    keyring = ring(tmp_path)
    assert name_of(keyring, "sesame") == "anna"
    assert name_of(keyring, DIGEST) is name_of(keyring, "") is None


def test_the_first_named_key_closes_a_server_that_was_open(tmp_path: Path) -> None:
    keyring = ring(tmp_path)
    assert not keyring.needed
    key = KeyFile(tmp_path).add("anna")
    assert keyring.needed
    assert name_of(keyring, key) == "anna"
    assert name_of(keyring, (tmp_path / "api_key").read_text().strip()) == "main"  # the owner's own


@pytest.mark.parametrize("after", [None, b"", b"{", b'{"keys": []}'], ids=["removed", "empty", "damaged", "no keys"])
def test_a_server_that_needs_keys_goes_on_needing_them(tmp_path: Path, after: bytes | None) -> None:
    key = KeyFile(tmp_path).add("anna")
    keyring = ring(tmp_path)
    (tmp_path / "keys.json").unlink()
    if after is not None:
        (tmp_path / "keys.json").write_bytes(after)
    assert keyring.needed
    damaged = after in (b"", b"{")
    assert (name_of(keyring, key) == "anna") is damaged  # while nobody can tell, those that were known go on
    assert name_of(keyring, "another") is None


@pytest.mark.parametrize("content", DAMAGED.values(), ids=DAMAGED)
def test_a_file_that_cannot_be_used_ends_the_start(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "keys.json").write_bytes(content)
    for settings in (Settings(state_dir=tmp_path), Settings(state_dir=tmp_path, api_keys="one", host=EVERYWHERE)):
        for start in (Keyring(settings).open, lambda settings=settings: expect_keys(settings)):
            with pytest.raises(CosyError) as refused:
                start()
            assert refused.value.fault.id == "CS-KEY-001"
            assert str(tmp_path / "keys.json") in refused.value.cause
            assert "sesame" not in str(refused.value)


@pytest.mark.parametrize("content", [b"", b"{"])
def test_a_damaged_file_that_comes_while_the_server_runs_closes_it(tmp_path: Path, content: bytes) -> None:
    keyring = ring(tmp_path)
    (tmp_path / "keys.json").write_bytes(content)
    assert keyring.needed
    with pytest.raises(CosyError):
        KeyFile(tmp_path).add("anna")
    assert (tmp_path / "keys.json").read_bytes() == content  # and is left as it is


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "file"])
def test_a_file_of_another_kind_is_refused(tmp_path: Path, kind: str) -> None:
    KINDS[kind](tmp_path / "keys.json")
    with pytest.raises(CosyError) as refused:
        ring(tmp_path)
    assert refused.value.fault.id == "CS-KEY-001"


def test_who_switches_keys_off_needs_none(tmp_path: Path) -> None:
    KeyFile(tmp_path).add("anna")
    assert not ring(tmp_path, auth="off").needed


def test_many_at_once_lose_nothing(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(KeyFile(tmp_path).add, map(str, range(24))))
    assert {key.name for key in KeyFile(tmp_path).read()} == set(map(str, range(24)))


@given(st.text(max_size=60))
def test_a_name_is_kept_as_it_is_found_or_refused(name: str) -> None:
    name = composed(name)
    if fits(name):
        assert composed(name) == name != "main"
        assert name.isprintable() and " " not in name and len(name) <= 48


@pytest.mark.parametrize("name", ["", " ", "main", "-x", "a b", "a\nb", "a/b", "a" * 49, 'a"b', "a\u200bb", "*"])
def test_what_is_no_name_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(CosyError) as refused:
        KeyFile(tmp_path).add(name)
    assert refused.value.fault.id == "CS-KEY-002"


def test_there_are_only_so_many(tmp_path: Path) -> None:
    keys = [{"name": f"k{n}", "sha256": f"{n:064x}"} for n in range(MOST)]
    (tmp_path / "keys.json").write_text(json.dumps({"keys": keys}))
    with pytest.raises(CosyError) as refused:
        KeyFile(tmp_path).add("anna")
    assert refused.value.fault.id == "CS-KEY-005"


def test_where_nothing_can_be_written_the_command_says_so(tmp_path: Path) -> None:
    (tmp_path / "state").touch()
    with pytest.raises(CosyError) as refused:
        KeyFile(tmp_path / "state").add("anna")
    assert refused.value.fault.id == "CS-KEY-006"


def test_the_commands(tmp_path: Path) -> None:
    here = {"COSYSERVE_STATE_DIR": str(tmp_path)}
    added = run("keys", "add", "anna", "--requests-per-minute", "5", "--priority", "low", **here)
    assert added.returncode == 0, added.stderr
    key = added.stdout.decode().strip()
    assert f"cat {tmp_path}/api_key" in added.stderr.decode()
    assert name_of(ring(tmp_path), key) == "anna"
    again = run("keys", "add", "anna", **here)
    assert (again.returncode, again.stdout) == (2, b"")
    assert "CS-KEY-003" in again.stderr.decode()
    changed = run("keys", "set", "anna", "--requests-per-minute", "0", "--characters-per-day", "900", **here)
    assert changed.returncode == 0, changed.stderr
    (kept,) = KeyFile(tmp_path).read()
    assert (kept.priority, kept.limits) == ("low", Limits(characters_per_day=900))
    listed = run("keys", "list", **here).stdout.decode().splitlines()[1].split("\t")
    assert listed == ["anna", "low", kept.created, "-", "-", "0 of -", "0 of 900"]
    assert run("keys", "revoke", "anna", **here).returncode == 0
    assert KeyFile(tmp_path).read() == []
    gone = run("keys", "revoke", "anna", **here)
    assert gone.returncode == 2
    assert "CS-KEY-004" in gone.stderr.decode()


def test_a_server_does_not_start_with_a_damaged_file(tmp_path: Path) -> None:
    (tmp_path / "keys.json").write_text("\ufeff")
    started = run("serve", "--port", "0", COSYSERVE_STATE_DIR=str(tmp_path))
    assert started.returncode == 2
    assert "CS-KEY-001" in started.stderr.decode()
    assert "→" in started.stderr.decode()
