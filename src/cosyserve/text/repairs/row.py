"""A row of the tables of repairs."""

import re
from typing import NamedTuple

from cosyserve.text.mapped import Mapped, Replacement

# Quantities are bounded everywhere, so that no text takes more than its length in time.
NUMBER = r"\d{1,15}(?:\.\d{1,15})?"


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
