"""The command as a whole: its shape, its languages, its time."""

import json
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest

from cosyserve.host import doctor, system
from cosyserve.host.report import Check, Finding, Report, Text, Verdict, page, worst
from cosyserve.machine import Machine
from cosyserve.settings import Settings
from tests.running import ROOT

CHECK = Check("CS-HOST-999", Text("Test", "测试"))


def cosyserve_doctor(*options: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "cosyserve", "doctor", *options], capture_output=True, text=True, cwd=ROOT
    )


@pytest.fixture(scope="module")
def report() -> Report:
    done = cosyserve_doctor("--json")
    schema = json.loads((ROOT / "docs" / "doctor.schema.json").read_text(encoding="utf-8"))
    jsonschema_rs.validator_for(schema).validate(json.loads(done.stdout))
    report = Report.model_validate_json(done.stdout)
    assert done.returncode == report.exit_status
    return report


def test_every_check_answers_once_and_in_both_languages(report: Report) -> None:
    ids = [finding.id for finding in report.findings]
    assert len(ids) == len(set(ids)) > 20
    for finding in report.findings:
        assert finding.title
        assert finding.title_zh
        assert finding.cause
        assert finding.cause_zh
        assert bool(finding.remedy) == bool(finding.remedy_zh) == (finding.state in (Verdict.WARN, Verdict.FAIL))


def test_the_state_is_the_worst_and_decides_the_exit_status(report: Report) -> None:
    assert report.state is worst(report.findings)
    text = Text("x", "x")
    fine, skipped = CHECK.ok(text), CHECK.skipped(text)
    warned, failed = CHECK.warn(text, text), CHECK.fail(text, text)
    for findings, state, status in (
        ([], Verdict.OK, 0),
        ([fine, skipped], Verdict.OK, 0),
        ([fine, warned, skipped], Verdict.WARN, 1),
        ([failed, warned], Verdict.FAIL, 2),
    ):
        assert worst(findings) is state
        whole = report.model_copy(update={"findings": findings, "state": state})
        assert whole.exit_status == status


@pytest.mark.parametrize(("language", "words"), [("en", "Platform"), ("zh", "平台")])
def test_the_page_is_in_the_language_asked_for(language: str, words: str) -> None:
    assert words in cosyserve_doctor("--lang", language).stdout


def test_the_page_shows_remedies_and_what_was_seen(report: Report) -> None:
    finding = CHECK.warn(Text("broken", "坏了"), Text("mend it", "修好它"), seen=["a process"])
    shown = report.model_copy(update={"findings": [finding], "state": Verdict.WARN})
    english = page(shown, "en", colour=False)
    assert "! CS-HOST-999  Test: broken\n    → mend it\n      a process\n" in english
    assert "修好它" in page(shown, "zh", colour=False)
    assert "\x1b[33m" in page(shown, "en", colour=True)


def test_a_check_that_hangs_is_reported_and_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a dead network disk does, which no signal ends."""
    forever = threading.Event()

    def hung() -> Finding:
        forever.wait()
        return CHECK.ok(Text("", ""))

    monkeypatch.setattr(doctor, "_SECONDS", 2)
    monkeypatch.setattr(doctor, "_questions", lambda *_: [hung, lambda: CHECK.ok(Text("fine", "好"))])
    report = doctor.examine(Settings(), tmp_path)  # waited for, it never ends
    forever.set()
    assert [finding.id for finding in report.findings] == ["CS-HOST-999", "CS-HOST-011"]
    assert report.exit_status == 2


def test_who_uses_the_preview_is_not_warned_of_what_it_does_not_need(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A machine without a card, with a Python of no wheel of TensorRT-LLM's and little memory and disk."""
    monkeypatch.setattr(system, "_TENSORRT_LLM_PYTHONS", ())
    monkeypatch.setattr(system, "_MODEL_MEMORY", 1 << 60)
    monkeypatch.setattr(system, "_ENGINE_DISK", 1 << 60)
    bare = Machine(tmp_path, {"PATH": "/nowhere"})

    def warned(**settings: Any) -> set[str]:
        report = doctor.examine(Settings(**settings), tmp_path / "models", quick=True, machine=bare)
        return {finding.id for finding in report.findings if finding.state is Verdict.WARN}

    needless = {"CS-GPU-001", "CS-HOST-002", "CS-HOST-003", "CS-HOST-005", "CS-HOST-007"}
    assert not warned() & needless
    assert {"CS-HOST-005", "CS-HOST-007"} <= warned(synthesizer="cosyvoice2")
    assert needless - {"CS-HOST-002"} <= warned(backend="trtllm")
    (tmp_path / "models/CosyVoice2-0.5B").mkdir(parents=True)
    assert {"CS-HOST-005", "CS-HOST-007"} <= warned()


@pytest.mark.parametrize("options", [["--port"], ["--", "serve", "--take-over", "--port"]])
def test_it_looks_at_the_port_that_the_server_will_take(options: list[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        number = taken.getsockname()[1]
        done = cosyserve_doctor("--quick", "--json", *options, str(number))
    (port,) = [each for each in Report.model_validate_json(done.stdout).findings if each.id == "CS-HOST-008"]
    assert (port.state, port.facts["port"]) == (Verdict.FAIL, number)


def test_a_check_that_fails_itself_spares_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> Finding:
        raise ZeroDivisionError("oops")

    monkeypatch.setattr(doctor, "_questions", lambda *_: [broken, lambda: CHECK.ok(Text("fine", "好"))])
    report = doctor.examine(Settings(), tmp_path)
    assert [finding.id for finding in report.findings] == ["CS-HOST-012", "CS-HOST-999"]
    assert "oops" in report.findings[0].cause
    assert report.exit_status == 1


def test_it_changes_nothing(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-m", "cosyserve", "doctor"], cwd=tmp_path, capture_output=True)
    assert list(tmp_path.iterdir()) == []
