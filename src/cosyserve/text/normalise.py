"""Writes out what is not said as it is written: numbers, dates, sums, units. Chinese and English, offline (wetext).

wetext is asked for the places with a digit only, and is not believed where letters are lost or signs are added: then
the place stays as it was written. What it is known to read wrong is mended before (`repairs`).
"""

import json
import logging
import re
from collections.abc import Iterator
from functools import lru_cache

from cosyserve.confined import Bounds, Confined, UnfinishedError
from cosyserve.text import links
from cosyserve.text.language import Language, language_of
from cosyserve.text.mapped import Mapped
from cosyserve.text.marks import PROTECTED
from cosyserve.text.repairs.chinese import CHINESE
from cosyserve.text.repairs.english import ENGLISH, MONTHS
from cosyserve.text.repairs.row import repaired

log = logging.getLogger(__name__)

# An ordinary sentence takes 15 ms of a processor, one made for it seconds.
_BOUNDS = Bounds(memory=256 << 20, cpu_seconds=1, seconds=10, at_once=8, kept=2)
_MOST_DIGITS = 80  # of a place that is asked for: the time grows with their square
_REMEMBERED = 2048  # sentences; a voice's words come again with every segment
_normalise = Confined("cosyserve.text.normaliser:normalise", _BOUNDS)

NUMBER = "number"  # the rule in whose name wetext's words stand

_HAN = r"\u3007\u3400-\u9fff\uf900-\ufaff"
_CHINESE_PLACE = re.compile(
    rf"(?:(?<![A-Za-z0-9.-])\d{{1,15}}(?:-\d{{1,15}})+|[{_HAN}\d%℃°¥$€£×÷]|(?<=\d)[.:/=+](?=\d)"
    rf"|(?<![A-Za-z0-9-])[-+](?=[\d¥$€£])|(?<=\d)\s?(?:km/h|m/s)(?![A-Za-z]))+"
)
_MONTH = rf"(?:{MONTHS})\b\.?"
_ORDINAL = r"(?:st|nd|rd|th)?"
_TOKEN = r"[^\s\"“”‘()\[\]{}<>—…,;:!?。，、！？；：]"  # noqa: S105 - no password
_BEHIND = (
    r"kg|g|mg|km/h|kph|km|cm|mm|m/s|mph|ft|lbs?|oz|mi|[KMGT]B|[kMG]bps|[kMG]?Hz|ml|°[CF]|℃|℉|h|s|min|%"
    r"|[aApP]\.?[mM]\b\.?|[Hh]undred|[Tt]housand|[MmBb]illion|[Tt]rillion"
)
_ENGLISH_PLACE = re.compile(
    rf"(?:\b{_MONTH} \d{{1,2}}{_ORDINAL}\b(?![:/%])(?:,? \d{{4}}\b)?|\b\d{{1,2}}{_ORDINAL} {_MONTH}(?:,? \d{{4}}\b)?"
    rf"|\b{_MONTH},? \d{{4}}\b|\d+ \d+/\d+|{_TOKEN}{{0,40}}\d(?:{_TOKEN}|[,:](?=\d))*(?: (?:{_BEHIND})(?![\w/]))?)"
)
_TABLES = {Language.CHINESE: CHINESE, Language.ENGLISH: ENGLISH}
_PLACES = {Language.CHINESE: _CHINESE_PLACE, Language.ENGLISH: _ENGLISH_PLACE}
_SPACES, _SPACES_BEFORE = re.compile(r" {2,}"), re.compile(r" +(?=[,;:!?]|\.(?!\w))")
# English between quotation marks in a Chinese sentence, of three words at least.
_QUOTED = re.compile(r"(?<=[“「\"])[A-Z][a-z']*(?: [^\s\"“”「」\u3400-\u9fff]{1,40}){2,60}(?=[”」\"])")
_DIGITS = re.compile(r"\d+(?:[.,:]\d+)*")
# Words of a place that may be written out: units, months, halves of the day, endings of ordinals.
_WRITTEN_OUT = frozenset(
    re.findall(
        r"\S+",
        "kg g mg km h kph cm mm m s mph ft lb lbs oz mi kb mb gb tb kbps mbps gbps hz khz mhz ghz ml min c f"
        " a p am pm st nd rd th x",
    )
) | frozenset(MONTHS.lower().split("|"))
_SIGNS = "\\*#|"
_ENDS_OF_PLACE = ".'’-_/~"
_HALF_OF_DAY = re.compile(r"[aApP]\.[mM]\.$")


def start() -> None:
    """Begin to load the grammars, so that the first text need not wait for them."""
    _normalise.start()


def normalised(sentence: Mapped, language: Language) -> Mapped:
    """`sentence`, cleaned, as it is to be said. Marks stay as they are, and so does another language than these two,
    except for the parts of links that are not said."""
    if language is Language.OTHER:
        return sentence.sub("link", links.LINK, lambda link: links.said(link, language.value))
    said, done = Mapped("", ()), 0
    for mark in PROTECTED.finditer(sentence.text):
        said += _said(sentence.cut(done, mark.start()), language) + sentence.cut(mark.start(), mark.end())
        done = mark.end()
    return said + _said(sentence.cut(done, len(sentence.text)), language)


def _said(part: Mapped, language: Language) -> Mapped:
    for quoted in _QUOTED.finditer(part.text) if language is Language.CHINESE else ():
        if language_of(quoted.group()) is Language.ENGLISH:
            before, after = part.cut(0, quoted.start()), part.cut(quoted.end(), len(part.text))
            words = _said(part.cut(*quoted.span()), Language.ENGLISH)
            return _said(before, language) + words + _said(after, language)
    part = repaired(part, _TABLES[language])
    if language is Language.CHINESE:
        part = _without_blanks(part)
    spans = list(_spans(part.text, language))
    answers = _asked(language.value, tuple(text for _, text in spans))
    edits: list[tuple[int, int, str]] = []
    english = language is Language.ENGLISH
    for (start, text), answer in zip(spans, answers, strict=True):
        if answer is None or not _is_believed(text, answer, language):
            edits += _number_by_number(start, text, language)
        else:
            edits.append((start, start + len(text), _mended(text, answer, part.text[:start]) if english else answer))
    part = part.replaced(NUMBER, edits)
    if language is Language.CHINESE:
        return _without_blanks(part)
    return part.sub("space", _SPACES, " ").sub("space", _SPACES_BEFORE, "")


def _spans(text: str, language: Language) -> Iterator[tuple[int, str]]:
    """Where there is something to write out."""
    for match in _PLACES[language].finditer(text):
        place = match.group()
        if language is Language.ENGLISH and not _HALF_OF_DAY.search(place):
            place = place.rstrip(_ENDS_OF_PLACE)
        if any(map(str.isdigit, place)):
            yield match.start(), place


def _number_by_number(start: int, place: str, language: Language) -> Iterator[tuple[int, int, str]]:
    """The numbers of a place that cannot be read as a whole, each by itself."""
    numbers = list(_DIGITS.finditer(place))
    answers = _asked(language.value, tuple(number.group() for number in numbers))
    for number, answer in zip(numbers, answers, strict=True):
        if answer is None or not _is_believed(number.group(), answer, language):
            continue
        if language is Language.ENGLISH:
            before, after = place[: number.start()][-1:], place[number.end() :][:1]
            answer = " " * before.isalpha() + _mended(number.group(), answer, "") + " " * after.isalpha()
        yield start + number.start(), start + number.end(), answer


def _is_believed(written: str, said: str, language: Language) -> bool:
    """Whether the normaliser gave something back, lost no letter that it has no word for, and added no sign."""
    if not said.strip() or any(said.count(sign) > written.count(sign) for sign in _SIGNS):
        return False
    if language is Language.CHINESE:
        rest = iter(said)
        return all(character in rest for character in re.findall(rf"[{_HAN}]", written))
    words = set(re.findall(r"[^\W\d_]+", said.lower()))
    return all(word in words or word in _WRITTEN_OUT for word in re.findall(r"[^\W\d_]+", written.lower()))


def _mended(written: str, said: str, before: str) -> str:
    """English words that the grammar leaves out or doubles: `thousand` for one thousand, `the the third of january`."""
    said = re.sub(r"^(negative |minus )?(?=thousand\b|hundred\b)", r"\1one ", said.strip())
    if re.search(r"\d\.\d", written):
        said = re.sub(r"(?<=[a-z])\.(?=[a-z])", " point ", said)  # GPT-three.five
    if "- " not in written:
        said = said.replace("- ", "-")
    return said.removeprefix("the ") if re.search(r"\b(?:the|this|that|last|next|every) $", before) else said


def _without_blanks(part: Mapped) -> Mapped:
    """Spaces part words in Latin letters; in Chinese they part nothing (upstream's own rule)."""
    return part.sub("blank", re.compile(r"(?<![!-~]) +(?! )|(?<! ) +(?![ !-~])"), "")


def _asked(language: str, texts: tuple[str, ...]) -> tuple[str | None, ...]:
    """What the normaliser makes of each text; None where it makes nothing, or would take too long."""
    asked = tuple(text for text in texts if sum(map(str.isdigit, text)) <= _MOST_DIGITS)
    answers = dict(zip(asked, _answers(language, asked), strict=True)) if asked else {}
    return tuple(answers.get(text) for text in texts)


@lru_cache(_REMEMBERED)
def _answers(language: str, texts: tuple[str, ...]) -> tuple[str | None, ...]:
    try:
        return tuple(json.loads(_normalise(json.dumps((language, texts)).encode())))
    except UnfinishedError:
        if len(texts) > 1:
            return tuple(_answers(language, (text,))[0] for text in texts)
        log.warning("A text of %d characters takes too long to write out and is spoken as it is", len(texts[0]))
        return (None,)
