"""What the doctor says: findings with stable ids, as a page for people and as JSON for scripts."""

import os
from dataclasses import dataclass
from enum import Enum
from typing import Any, Literal

from pydantic import BaseModel, Field


class Verdict(str, Enum):
    OK = "ok"
    SKIPPED = "skipped"
    WARN = "warn"
    FAIL = "fail"


Language = Literal["en", "zh"]


def language() -> Language:
    """The terminal's language, as gettext finds it, even if the system does not have that locale."""
    asked = (os.environ.get(name) for name in ("LC_ALL", "LC_MESSAGES", "LANG"))
    return "zh" if next(filter(None, asked), "").startswith("zh") else "en"


@dataclass(frozen=True)
class Text:
    """One sentence in both languages."""

    en: str
    zh: str


NOTHING = Text("", "")


class Finding(BaseModel):
    """The result of one check. `cause` says what was seen; `remedy` is a line to paste, empty if none is needed."""

    id: str = Field(pattern=r"^CS-[A-Z]+-\d{3}$")
    title: str
    title_zh: str
    state: Verdict
    cause: str
    cause_zh: str
    remedy: str
    remedy_zh: str
    facts: dict[str, Any]


class Report(BaseModel):
    """Everything the doctor found. `state` is the worst of its findings, skipped ones not counted."""

    format: Literal[1] = 1
    cosyserve: str
    platform: str
    state: Verdict
    seconds: float
    findings: list[Finding]

    @property
    def exit_status(self) -> int:
        return {Verdict.OK: 0, Verdict.SKIPPED: 0, Verdict.WARN: 1, Verdict.FAIL: 2}[self.state]


@dataclass(frozen=True)
class Check:
    """A question the doctor asks, by its stable id."""

    id: str
    title: Text

    def ok(self, cause: Text, **facts: Any) -> Finding:
        return self._finding(Verdict.OK, cause, NOTHING, facts)

    def skipped(self, cause: Text, **facts: Any) -> Finding:
        return self._finding(Verdict.SKIPPED, cause, NOTHING, facts)

    def warn(self, cause: Text, remedy: Text, **facts: Any) -> Finding:
        return self._finding(Verdict.WARN, cause, remedy, facts)

    def fail(self, cause: Text, remedy: Text, **facts: Any) -> Finding:
        return self._finding(Verdict.FAIL, cause, remedy, facts)

    def _finding(self, state: Verdict, cause: Text, remedy: Text, facts: dict[str, Any]) -> Finding:
        return Finding(
            id=self.id,
            title=self.title.en,
            title_zh=self.title.zh,
            state=state,
            cause=cause.en,
            cause_zh=cause.zh,
            remedy=remedy.en,
            remedy_zh=remedy.zh,
            facts=facts,
        )


def worst(findings: list[Finding]) -> Verdict:
    order = [Verdict.OK, Verdict.WARN, Verdict.FAIL]
    return max((each.state for each in findings if each.state in order), key=order.index, default=Verdict.OK)


_SIGNS = {Verdict.OK: "✓", Verdict.SKIPPED: "–", Verdict.WARN: "!", Verdict.FAIL: "✗"}
_COLOURS = {Verdict.OK: "32", Verdict.SKIPPED: "2", Verdict.WARN: "33", Verdict.FAIL: "31"}
_SUMMARY = {
    Verdict.OK: Text("All is well: this machine can serve.", "一切正常，可以提供服务。"),
    Verdict.WARN: Text("This machine can serve; see the lines marked '!'.", "可以提供服务，请留意标有 '!' 的条目。"),
    Verdict.FAIL: Text("This machine cannot serve; see the lines marked '✗'.", "无法提供服务，请处理标有 '✗' 的条目。"),
}


def page(report: Report, language: Language, *, colour: bool) -> str:
    """The report as lines for a terminal."""
    lines = [f"CosyServe {report.cosyserve} · {report.platform} · {report.seconds:.1f} s", ""]
    for finding in report.findings:
        title, cause, remedy = (
            (finding.title_zh, finding.cause_zh, finding.remedy_zh)
            if language == "zh"
            else (finding.title, finding.cause, finding.remedy)
        )
        sign = _SIGNS[finding.state]
        if colour:
            sign = f"\x1b[{_COLOURS[finding.state]}m{sign}\x1b[0m"
        lines.append(f"{sign} {finding.id}  {title}: {cause}")
        if remedy:
            lines.append(f"    → {remedy}")
        lines += [f"      {line}" for line in finding.facts.get("seen", [])]
    summary = _SUMMARY[report.state]
    return "\n".join([*lines, "", summary.zh if language == "zh" else summary.en])
