"""The result of a check: a line for each thing that was tried, and a report of them that can be published."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from cosyserve.host.report import NOTHING, Language, Text, Verdict

_SIGNS = {Verdict.OK: "✓", Verdict.SKIPPED: "–", Verdict.WARN: "!", Verdict.FAIL: "✗"}
_EXPECTED, _FOUND = Text("expected", "预期"), Text("found", "结果")
_ALL_WELL = Text("The engine does what it should.", "引擎工作正常。")
_NOT_WELL = Text(
    "See the lines marked '✗'; for an issue, add --report FILE and attach it.",
    "请处理标有 '✗' 的条目；如需反馈，请加 --report FILE 并附上该文件。",
)
_PATH = re.compile(r"(?<![\w.:/])(?:~?/[^\s/:,;'\"()]+)+/(?=[^\s/])")


@dataclass(frozen=True)
class Line:
    """`name` is the same in every version and language; the remedy is empty where none is needed."""

    name: str
    state: Verdict
    did: Text
    expected: Text
    found: Text
    remedy: Text = NOTHING


@dataclass(frozen=True)
class Trial:
    """One thing that is tried. What was found is judged by whoever tried it."""

    name: str
    did: Text
    expected: Text
    remedy: Text

    def judged(self, good: bool, found: Text, *, otherwise: Verdict = Verdict.FAIL) -> Line:
        state = Verdict.OK if good else otherwise
        return Line(self.name, state, self.did, self.expected, found, NOTHING if good else self.remedy)

    def skipped(self, why: Text) -> Line:
        return Line(self.name, Verdict.SKIPPED, self.did, self.expected, why)


def same(text: str) -> Text:
    """What reads alike in both languages."""
    return Text(text, text)


def lines_of(line: Line, language: Language) -> str:
    def in_language(text: Text) -> str:
        return text.zh if language == "zh" else text.en

    said = [
        f"{_SIGNS[line.state]} {line.name}: {in_language(line.did)}",
        f"    {in_language(_EXPECTED)}: {in_language(line.expected)}",
        f"    {in_language(_FOUND)}: {in_language(line.found)}",
    ]
    return "\n".join(said + ([f"    → {in_language(line.remedy)}"] if line.remedy.en else []))


def summary(lines: Sequence[Line], language: Language) -> str:
    text = _NOT_WELL if any(line.state is Verdict.FAIL for line in lines) else _ALL_WELL
    return text.zh if language == "zh" else text.en


def exit_status(lines: Sequence[Line]) -> int:
    states = {line.state for line in lines}
    return 2 if Verdict.FAIL in states else 1 if Verdict.WARN in states else 0


def report(lines: Sequence[Line], machine: Mapping[str, object]) -> str:
    """JSON with what an issue needs. Only the last part of a path is kept; the others could tell who somebody is, and
    where."""
    told = {"format": 1, "machine": machine, "lines": [asdict(line) for line in lines]}
    return _PATH.sub("…/", json.dumps(told, indent=1, ensure_ascii=False)) + "\n"
