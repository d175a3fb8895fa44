from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cosyserve.errors import CosyError
from cosyserve.settings import Settings, load_settings, settings_in, unknown_keys


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_options_win_over_the_environment_and_that_over_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    Path(".env").write_text("COSYSERVE_PORT=7001\nCOSYSERVE_HOST=127.0.0.3\nCOSYSERVE_MAX_STREAMS=5\nOTHER=1\n")
    monkeypatch.setenv("COSYSERVE_HOST", "127.0.0.2")
    monkeypatch.setenv("COSYSERVE_MAX_STREAMS", "")  # as `VAR= command` leaves it: not set
    settings = load_settings(port=7002, host=None)
    assert (settings.port, settings.host, settings.max_streams) == (7002, "127.0.0.2", 5)


@pytest.mark.parametrize(
    ("name", "value"),
    [("PORT", "http"), ("PORT", "70000"), ("MAX_STREAMS", "0"), ("AUTH", "maybe"), ("STALL_SECONDS", "nan")],
)
def test_a_bad_value_is_named_with_its_remedy(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(f"COSYSERVE_{name}", value)
    with pytest.raises(CosyError) as refused:
        load_settings()
    assert refused.value.fault.id == "CS-SET-001"
    assert f"COSYSERVE_{name}" in refused.value.cause


def test_a_secret_can_come_from_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "keys").write_text("one\ntwo, three\n\n")
    monkeypatch.setenv("COSYSERVE_API_KEYS_FILE", str(tmp_path / "keys"))
    settings = load_settings()
    assert settings.key_list() == ["one", "two", "three"]
    assert "two" not in repr(settings)
    monkeypatch.setenv("COSYSERVE_API_KEYS", "four")
    with pytest.raises(CosyError, match="both set"):
        load_settings()


@pytest.mark.parametrize("file", ["missing", "."])
def test_a_secret_file_that_cannot_be_read(file: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COSYSERVE_API_KEYS_FILE", file)
    with pytest.raises(CosyError, match="COSYSERVE_API_KEYS_FILE cannot be read"):
        load_settings()


def test_no_secret_in_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COSYSERVE_API_KEYS", "sesame")
    monkeypatch.setenv("COSYSERVE_PORT", "x")
    with pytest.raises(CosyError) as refused:
        load_settings()
    assert "sesame" not in str(refused.value)


def test_settings_of_another_folder_are_those_of_a_server_that_starts_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path(".env").write_text("COSYSERVE_PORT=7001\n")
    monkeypatch.setenv("COSYSERVE_HOST", "127.0.0.2")
    there = tmp_path / "there"
    there.mkdir()
    (there / "keys").write_text("sesame")
    lines = ("MAX_STREAMS=5", "API_KEYS_FILE=keys", "STATE_DIR=state", "VOICES_DIR=~/voices", "LOG_FILE=/log")
    (there / ".env").write_text("".join(f"COSYSERVE_{line}\n" for line in lines))
    settings = settings_in(there)
    assert (settings.host, settings.port, settings.max_streams) == ("127.0.0.1", 6008, 5)
    assert settings.key_list() == ["sesame"]
    assert (settings.models_dir, settings.state_dir) == (there / "pretrained_models", there / "state")
    assert (settings.voices_dir, settings.log_file) == (Path("~/voices"), Path("/log"))
    assert Path.cwd() == tmp_path
    (there / ".env").write_text("COSYSERVE_PORT=http\n")
    with pytest.raises(CosyError, match="COSYSERVE_PORT"):
        settings_in(there)


def test_on_a_disk_of_windows_models_lie_elsewhere_unless_a_place_is_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cosyserve.settings.on_windows_disk", lambda machine, folder: folder == tmp_path)
    monkeypatch.setenv("HOME", "/home/anna")
    assert load_settings().models_dir == Path("/home/anna/.local/share/cosyserve/models")
    Path(".env").write_text("COSYSERVE_MODELS_DIR=here\n")
    assert load_settings().models_dir == Path("here")
    assert load_settings(models_dir=Path("there")).models_dir == Path("there")


def test_unknown_keys_come_with_the_nearest_real_one(monkeypatch: pytest.MonkeyPatch) -> None:
    Path(".env").write_text("COSYSERVE_MAX_STREEMS=1\nCOSYSERVE_PORT=1\n")
    monkeypatch.setenv("COSYSERVE_HSOT", "x")
    monkeypatch.setenv("COSYSERVE_QQQQQQQQ", "x")
    monkeypatch.setenv("SOMETHING_ELSE", "x")
    assert unknown_keys() == {
        "COSYSERVE_HSOT": "COSYSERVE_HOST",
        "COSYSERVE_MAX_STREEMS": "COSYSERVE_MAX_STREAMS",
        "COSYSERVE_QQQQQQQQ": None,
    }


@given(st.lists(st.text("aZ0-_~.!密钥"), max_size=5))
def test_keys_split_at_commas_and_lines(keys: list[str]) -> None:
    held = [key for key in keys if key]
    for separator in (",", "\n", "\r\n", " , "):
        given = separator.join(keys)
        if held or not given:
            assert Settings(api_keys=given).key_list() == held


def test_the_older_name_of_a_model_and_the_newer_setting_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Settings().named_model == ""
    assert Settings(model="cosyvoice3-0.5b").named_model == "cosyvoice3-0.5b"
    for model in ("auto", "cosyvoice2-0.5b"):
        settings = Settings(synthesizer="cosyvoice2", model=model)
        assert (settings.named_model, settings.insists) == ("cosyvoice2-0.5b", True)
    settings = Settings(synthesizer="cosyvoice", model="cosyvoice3-0.5b")
    assert (settings.named_model, settings.insists) == ("cosyvoice3-0.5b", True)
    assert not Settings(model="cosyvoice3-0.5b").insists
    monkeypatch.setenv("COSYSERVE_SYNTHESIZER", "cosyvoice2")
    monkeypatch.setenv("COSYSERVE_MODEL", "cosyvoice3-0.5b")
    with pytest.raises(CosyError, match="name two models"):
        load_settings()
