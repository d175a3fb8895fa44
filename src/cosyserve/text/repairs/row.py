"""A row of the tables of repairs."""

import re
from typing import NamedTuple

from cosyserve.text.mapped import Mapped, Replacement

NUMBER = r"\d+(?:\.\d+)?"


class Repair(NamedTuple):
    """What is written so is said otherwise than wetext would, in the name of a rule; `why` says what it made of it."""

    rule: str
    pattern: re.Pattern[str]
    replacement: Replacement
    why: str


Table = tuple[Repair, ...]


def row(rule: str, pattern: str, replacement: Replacement, why: str) -> Repair:
    return Repair(rule, re.compile(pattern), replacement, why)


def repaired(sentence: Mapped, table: Table) -> Mapped:
    for each in table:
        sentence = sentence.sub(each.rule, each.pattern, each.replacement)
    return sentence
