"""A failure that a user can meet, and the exception that carries it."""

from dataclasses import dataclass
from typing import Any

from cosyserve.command import command


@dataclass(frozen=True)
class Fault:
    """One catalogue entry. Texts may hold `{fields}`, filled in by `CosyError`; `{cosyserve}` is how the command is
    typed here.

    `status` is the HTTP status the server answers with; 500 and above are ours, below are the caller's.
    """

    id: str
    status: int
    cause: str
    remedy: str
    cause_zh: str
    remedy_zh: str


class CosyError(Exception):
    """A `Fault` that happened. `param` names the request field at fault, `retry_after` is in seconds."""

    def __init__(self, fault: Fault, *, param: str | None = None, retry_after: int | None = None, **facts: Any) -> None:
        self.fault = fault
        self.param = param
        self.retry_after = retry_after
        self.facts = facts
        facts = {"cosyserve": command(), **facts}
        self.cause = fault.cause.format(**facts)
        self.remedy = fault.remedy.format(**facts)
        self.cause_zh = fault.cause_zh.format(**facts)
        self.remedy_zh = fault.remedy_zh.format(**facts)
        super().__init__(f"{fault.id}: {self.cause} {self.remedy}")

    def __str__(self) -> str:
        return f"{self.fault.id}: {self.cause}\n  → {self.remedy}\n  {self.cause_zh}\n  → {self.remedy_zh}"
