"""The normaliser's process, and whether it is believed."""

import json
import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version

import pytest

from cosyserve.confined import Bounds, Confined
from cosyserve.text import normalise
from cosyserve.text.front_end import uncut
from tests.running import HANGS, ROOT


@pytest.fixture
def answering(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Callable[[str], str | None]], None]]:
    """A stand-in for the child process, which gives what a function gives for each text."""

    def answer(said: Callable[[str], str | None]) -> None:
        def asked(question: bytes) -> bytes:
            _, texts = json.loads(question)
            return json.dumps([said(text) for text in texts]).encode()

        monkeypatch.setattr(normalise, "_normalise", asked)

    normalise._answers.cache_clear()
    yield answer
    normalise._answers.cache_clear()


@pytest.mark.parametrize("text", ["It costs 5 apples.", "共5个苹果。", "Room B612 is ours.", "型号是X-7b。"])
@pytest.mark.parametrize("said", [lambda text: "", lambda text: " ", lambda text: None, lambda text: "5\\*#|"])
def test_what_gives_nothing_back_or_adds_signs_is_not_believed(
    answering: Callable[[Callable[[str], str | None]], None], text: str, said: Callable[[str], str | None]
) -> None:
    answering(said)
    assert uncut(text).replace("六一二", "612") == text


def test_what_loses_letters_is_not_believed(answering: Callable[[Callable[[str], str | None]], None]) -> None:
    answering(lambda text: {"7": "seven", "7个": "七", "9": "九"}.get(text, "lost"))
    assert uncut("The abc7def is here.") == "The abc seven def is here."
    answering(lambda text: {"9": "九"}.get(text, "没有"))
    assert uncut("苹果9斤。") == "苹果九斤。"


def test_a_text_that_takes_too_long_is_spoken_as_it_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    hasty = Confined("cosyserve.text.normaliser:normalise", Bounds(256 << 20, 0.05, HANGS, at_once=1, kept=1))
    monkeypatch.setattr(normalise, "_normalise", hasty)
    endless = "1a/" * 39 + "1a"
    assert uncut(f"It costs $5.\n{endless}\nIt costs $6.").startswith("It costs five dollars. ")
    assert uncut(f"It costs $5.\n{endless}\nIt costs $6.").endswith(" It costs six dollars.")
    hasty.close()


def test_texts_of_many_threads_are_written_out_side_by_side() -> None:
    with ThreadPoolExecutor(8) as threads:
        said = list(threads.map(uncut, [f"It costs ${number % 3 + 5}, not 1{number}." for number in range(24)]))
    assert said[0] == "It costs five dollars, not ten."
    assert said[14] == "It costs seven dollars, not one hundred and fourteen."


def test_the_rules_that_were_checked_are_the_ones_in_use() -> None:
    """The repairs were made for one version of wetext."""
    pinned = re.search(r'"wetext==([\d.]+)"', (ROOT / "pyproject.toml").read_text("utf-8"))
    assert pinned is not None
    assert version("wetext") == pinned.group(1)
