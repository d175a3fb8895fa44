"""The commands, as a shell runs them."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from cosyserve import __version__
from tests.running import GREETING
from tests.signals import decoded_by_ffmpeg, from_s16le, from_wav, is_speech
from tests.speech.test_captions import read
from tests.speech.test_label import TAGGED, entry_of


def run(*arguments: str, **environment: str) -> "subprocess.CompletedProcess[bytes]":
    return subprocess.run(
        [sys.executable, "-m", "cosyserve", *arguments], capture_output=True, env={**os.environ, **environment}
    )


def test_version_and_help() -> None:
    assert __version__ in run("--version").stdout.decode()
    helped = run("--help").stdout.decode()
    assert "serve" in helped
    assert "say" in helped


@pytest.mark.parametrize("name", ["speech.wav", "speech.mp3", "speech.opus", "speech.aac", "SPEECH.FLAC"])
def test_say_writes_a_file(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    said = run("say", GREETING, "-o", str(path))
    assert said.returncode == 0, said.stderr
    audio = decoded_by_ffmpeg(path.read_bytes())
    assert audio.size > 60_000
    assert list(tmp_path.iterdir()) == [path]


def test_say_writes_to_standard_output() -> None:
    said = run("say", GREETING, "-o", "-", "--voice", "english", "--speed", "1.5")
    assert is_speech(from_wav(said.stdout))


def test_say_says_that_a_machine_spoke(tmp_path: Path) -> None:
    for name in TAGGED:
        path = tmp_path / f"speech.{name}"
        said = run("say", "hi", "-o", str(path), COSYSERVE_LABEL_PRODUCER="Example")
        assert said.returncode == 0, said.stderr
        assert entry_of(path.read_bytes(), name)["ContentProducer"] == "Example"
    assert entry_of(run("say", "hi", "-o", "-").stdout, "wav")["ContentProducer"] == "CosyServe"
    assert entry_of(run("say", "hi", "-o", "-", COSYSERVE_LABEL="off").stdout, "wav") is None


def test_say_writes_captions(tmp_path: Path) -> None:
    path = tmp_path / "speech.SRT"
    text = 'Hello!<break time="1s"/>It is $5.'
    said = run("say", text, "--ssml", "-o", "-", "--captions", str(path), "--speed", "1.3")
    first, second = read(path.read_text("utf-8"), "srt")
    assert [first["text"], second["text"]] == ["Hello!", "It is $5."]
    assert first["begin"] == 0
    assert second["begin"] == pytest.approx(first["end"] + 1, abs=0.002)
    assert second["end"] == pytest.approx(from_wav(said.stdout).size / 24_000, abs=0.001)
    assert list(tmp_path.iterdir()) == [path]


def test_say_reads_standard_input() -> None:
    said = subprocess.run(
        [sys.executable, "-m", "cosyserve", "say", "-", "-o", "-"], input=GREETING.encode(), capture_output=True
    )
    assert is_speech(from_wav(said.stdout))


def test_say_takes_a_text_as_it_is_where_it_is_told_to() -> None:
    """The preview voice reads signs out."""
    cleaned, as_it_is = (
        from_wav(run("say", "# **Hi** there", "-o", "-", "--voice", "english", *options).stdout).size
        for options in ((), ("--no-normalize",))
    )
    assert 2 * cleaned < as_it_is


@pytest.mark.parametrize("command", ["bench model", "bench gpu", "bench", "serve", "fetch", "doctor"])
def test_help_is_help_also_without_pytorch(tmp_path: Path, command: str) -> None:
    (tmp_path / "sitecustomize.py").write_text("import sys\nsys.modules['torch'] = None\n")
    environ = {**os.environ, "PYTHONPATH": f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}"}
    helped = subprocess.run(
        [sys.executable, "-m", "cosyserve", *command.split(), "--help"], capture_output=True, text=True, env=environ
    )
    assert helped.returncode == 0
    assert helped.stdout.startswith("Usage:")
    assert "CS-" not in helped.stderr


def stand_in_player(folder: Path, status: int = 0) -> str:
    """A stand-in for `aplay` that keeps what it would have played; returns the PATH that finds it alone."""
    player = folder / "aplay"
    player.write_text(f'#!{sys.executable}\nimport sys\nopen("{folder}/played", "wb").write(sys.stdin.buffer.read())\n')
    if status:
        player.write_text(f"#!{sys.executable}\nimport sys\nsys.exit({status})\n")
    player.chmod(0o755)
    return str(folder)


def test_say_plays_where_there_is_a_player(tmp_path: Path) -> None:
    assert run("say", GREETING, PATH=stand_in_player(tmp_path)).returncode == 0
    assert is_speech(from_s16le((tmp_path / "played").read_bytes()))


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["say", "", "-o", "-"], "CS-TEXT-001"),
        (["say", "hi", "-o", "speech.midi"], "CS-SAY-002"),
        (["say", "hi", "-o", "/nowhere/speech.wav"], "CS-SAY-002"),
        (["say", "hi", "-o", "-", "--voice", "nobody"], "CS-VOICE-001"),
        (["say", "hi"], "CS-SAY-001"),
        (["say", "hi", "-o", "-", "--captions", "speech.ass"], "CS-CAPTION-001"),
        (["say", "hi", "-o", "-", "--captions", "/nowhere/speech.srt"], "CS-CAPTION-003"),
    ],
)
def test_failures_say_cause_and_remedy(tmp_path: Path, arguments: list[str], code: str) -> None:
    said = run(*arguments, PATH=str(tmp_path))
    assert said.returncode == 2
    assert said.stdout == b""
    text = said.stderr.decode()
    assert code in text
    assert "→" in text
    assert "Traceback" not in text


@pytest.mark.parametrize("text", ["hi", "a text that is longer than a pipe's buffer " * 50], ids=["short", "long"])
def test_a_player_that_fails_is_reported(tmp_path: Path, text: str) -> None:
    """Such as `aplay` on a machine without a sound device, which ends before it has read anything."""
    said = run("say", text, PATH=stand_in_player(tmp_path, status=3))
    assert said.returncode == 2
    assert "CS-SAY-003" in said.stderr.decode()


def test_an_unknown_setting_is_warned_about() -> None:
    said = run("say", "hi", "-o", "-", COSYSERVE_VOISE="english")
    assert said.returncode == 0
    assert "did you mean COSYSERVE_VOICE?" in said.stderr.decode()


def test_a_bad_setting_ends_with_its_id() -> None:
    said = run("say", "hi", "-o", "-", COSYSERVE_MAX_STREAMS="many")
    assert said.returncode == 2
    assert "CS-SET-001" in said.stderr.decode()
