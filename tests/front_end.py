"""Ours beside upstream's: `python -m tests.front_end --reference FILE.json` for a list of {"text", "segments"}.

Prints each text with both, and counts: the same, other punctuation only, other words. Words are compared without case,
spaces and punctuation. `tests/text/front_end_differences.json` says why ours has other words where it does.
"""

import argparse
import asyncio
import json
import unicodedata
from collections import Counter
from enum import Enum
from pathlib import Path
from typing import Any

from cosyserve.text.front_end import whole

DIFFERENCES = Path(__file__).parent / "text" / "front_end_differences.json"


class Verdict(str, Enum):
    SAME = "same"
    PUNCTUATION = "punctuation only"
    WORDS = "other words"


async def _segments(text: str) -> list[str]:
    return [segment.text async for segment in whole(text, first_alone=False)]


def segments(text: str) -> list[str]:
    """What a whole-file request would be spoken in."""
    return asyncio.run(_segments(text))


def words(segments: list[str]) -> str:
    """Letters, digits and marks on them; all else is punctuation."""
    text = unicodedata.normalize("NFKC", "".join(segments)).casefold()
    return "".join(character for character in text if unicodedata.category(character)[0] in "LMN")


def verdict(ours: list[str], theirs: list[str]) -> Verdict:
    if ours == theirs:
        return Verdict.SAME
    return Verdict.PUNCTUATION if words(ours) == words(theirs) else Verdict.WORDS


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--reference", type=Path, required=True)
    references: list[dict[str, Any]] = json.loads(parser.parse_args().reference.read_text(encoding="utf-8"))
    reasons: dict[str, str] = json.loads(DIFFERENCES.read_text(encoding="utf-8"))
    counts: Counter[Verdict] = Counter()
    for reference in references:
        text, theirs = str(reference["text"]), [str(segment) for segment in reference.get("segments") or []]
        ours = segments(text)
        found = verdict(ours, theirs)
        counts[found] += 1
        print(
            f"{found.value}\n  text      {text!r}\n  ours      {' | '.join(ours)!r}\n  upstream  {' | '.join(theirs)!r}"
        )
        if found is Verdict.WORDS:
            print(f"  because   {reasons.get(text, '(not listed)')}")
    print(", ".join(f"{each.value}: {counts[each]}" for each in Verdict))


if __name__ == "__main__":
    main()
