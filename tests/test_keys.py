"""Where keys come from: what is set, and what is made."""

import os
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cosyserve.addresses import is_loopback
from cosyserve.errors import CosyError
from cosyserve.keys import accepted_keys, made_key
from cosyserve.machine import IMAGE
from cosyserve.settings import Settings, keys_in, load_settings
from tests.test_start import KINDS

EVERYWHERE = "0.0.0.0"  # noqa: S104 - nothing listens in these tests

UNUSABLE = {
    "empty": b"",
    "white space": b" \t\n\n",
    "commas": b",\n,",
    "byte order mark": "\ufeffsesame\n".encode(),
    "only a byte order mark": "\ufeff".encode(),
    "space inside": b"sesame open\n",
    "tab inside": b"one\nsesame\topen\n",
    "wide space inside": "sesame\u3000open\n".encode(),
    "invisible space": "sesame\u200bopen".encode(),
    "control character": b"sesame\x1bopen\n",
    "NUL": b"sesame\0open",
    "GBK": "密钥\n".encode("gbk"),
    "UTF-16": "sesame\n".encode("utf-16"),
    "endless": b"sesame," * (1 << 18),
}


@pytest.mark.parametrize("content", UNUSABLE.values(), ids=UNUSABLE)
def test_a_file_of_keys_that_cannot_be_used_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "keys").write_bytes(content)
    with pytest.raises(CosyError, match="COSYSERVE_API_KEYS_FILE") as refused:
        load_settings(api_keys_file=tmp_path / "keys")
    assert refused.value.fault.id == "CS-SET-001"
    assert "sesame" not in str(refused.value)


@pytest.mark.parametrize(
    "given", [",", " ", "\n", " , \n", "\ufeffsesame", "sesame open", "sesame\x7f", "one,se\tsame", b"sesame\xff"]
)
def test_keys_in_the_environment_that_cannot_be_used_are_refused(
    monkeypatch: pytest.MonkeyPatch, given: str | bytes
) -> None:
    monkeypatch.setenv("COSYSERVE_API_KEYS", os.fsdecode(given))
    with pytest.raises(CosyError, match="COSYSERVE_API_KEYS") as refused:
        load_settings()
    assert "sesame" not in str(refused.value)


def test_an_empty_variable_is_no_key_and_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """As compose passes on what is not set."""
    monkeypatch.setenv("COSYSERVE_API_KEYS", "")
    assert accepted_keys(load_settings()) == []


@given(st.text(min_size=1), st.sampled_from(["", "\n", "\r\n", ","]))
def test_keys_are_some_that_a_header_can_hold_or_an_error(text: str, end: str) -> None:
    try:
        found = keys_in(text + end)
    except ValueError:
        return
    assert found
    assert all(key.isprintable() and key.split() == [key] for key in found)
    assert keys_in("\n".join(found)) == found


@pytest.mark.parametrize("content", [*UNUSABLE.values(), b"one\ntwo\n"], ids=[*UNUSABLE, "two lines"])
def test_a_made_key_that_is_damaged_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "api_key").write_bytes(content)
    with pytest.raises(CosyError) as refused:
        accepted_keys(Settings(host=EVERYWHERE, state_dir=tmp_path))
    assert refused.value.fault.id == "CS-SET-005"
    assert str(tmp_path / "api_key") in refused.value.cause
    assert "sesame" not in str(refused.value)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "file"])
def test_a_made_key_of_another_kind_is_refused(tmp_path: Path, kind: str) -> None:
    KINDS[kind](tmp_path / "api_key")
    with pytest.raises(CosyError) as refused:
        made_key(Settings(state_dir=tmp_path))
    assert refused.value.fault.id == "CS-SET-005"


def test_a_key_of_ones_own_is_taken(tmp_path: Path) -> None:
    (tmp_path / "api_key").write_text("密钥\r\n", encoding="utf-8")
    assert made_key(Settings(state_dir=tmp_path)) == "密钥"


def test_loopback_needs_no_key_and_other_addresses_make_one(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert accepted_keys(load_settings(state_dir=tmp_path)) == []
    exposed = load_settings(host=EVERYWHERE, state_dir=tmp_path)
    made = accepted_keys(exposed)
    file = tmp_path / "api_key"
    assert made == [file.read_text().strip()]
    assert len(made[0]) >= 32
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert list(tmp_path.iterdir()) == [file]
    assert accepted_keys(exposed) == made  # kept over restarts
    assert str(file) in caplog.text
    assert made[0] not in caplog.text


@pytest.mark.parametrize(
    ("environment", "line"),
    [
        ({}, "cat {}"),
        ({IMAGE: "cosyserve:slim"}, "docker exec box cat {}"),
        ({IMAGE: "cosyserve:slim", "KUBERNETES_SERVICE_HOST": "10.0.0.1"}, "kubectl exec box -- cat {}"),
    ],
    ids=["here", "docker", "kubernetes"],
)
def test_the_line_that_shows_a_made_key_works_where_it_is_read(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    environment: dict[str, str],
    line: str,
) -> None:
    """A container is named by its host name, which Docker and Kubernetes give it."""
    monkeypatch.setattr("socket.gethostname", lambda: "box")
    for name in (IMAGE, "KUBERNETES_SERVICE_HOST"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    accepted_keys(load_settings(host=EVERYWHERE, state_dir=tmp_path))
    assert f"this shows: {line.format(tmp_path / 'api_key')} / " in caplog.text


def test_of_two_starts_at_once_both_have_the_first_ones_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings(state_dir=tmp_path)
    first = made_key(settings)
    monkeypatch.setattr(os.path, "lexists", lambda path: False)  # the other one has looked before
    assert made_key(settings) == first
    assert [each.name for each in tmp_path.iterdir()] == ["api_key"]


def test_a_made_key_is_on_the_disk_before_it_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []

    def noted(name: str) -> None:
        really = getattr(os, name)

        def note(*arguments: object) -> object:
            done.append(name)
            return really(*arguments)

        monkeypatch.setattr(os, name, note)

    noted("fsync")
    noted("link")
    made_key(Settings(state_dir=tmp_path))
    assert done == ["fsync", "link", "fsync"]  # the file, and at last the folder


def test_auth_off_is_loud(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert accepted_keys(load_settings(host=EVERYWHERE, auth="off", state_dir=tmp_path)) == []
    assert "ANYBODY" in caplog.text
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("host", "loopback"),
    [("127.0.0.1", True), ("127.8.9.1", True), ("::1", True), ("localhost", True), (EVERYWHERE, False)]
    + [("::", False), ("10.0.0.1", False), ("example.org", False)],
)
def test_what_loopback_is(host: str, loopback: bool) -> None:
    assert is_loopback(host) is loopback


def test_a_client_s_key_is_not_taken_for_a_server_s(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert accepted_keys(Settings(api_key="sesame", state_dir=tmp_path)) == []
    assert "COSYSERVE_API_KEYS" in caplog.text
    assert "sesame" not in caplog.text
    caplog.clear()
    assert accepted_keys(Settings(api_key="sesame", api_keys="other", state_dir=tmp_path)) == ["other"]
    assert not caplog.text


@pytest.mark.parametrize("given", ["one,two", "one two", "one\ntwo", ","])
def test_a_client_has_one_key(given: str) -> None:
    with pytest.raises(ValueError, match="key"):
        Settings(api_key=given)
