"""The part of SSML that says how a text is spoken: pauses, aliases, phonemes, single characters.

The parser is expat. It reads no DTD and so knows no entities but XML's own five; depth is bounded here, length by the
limit of a text.
"""

import re
from bisect import bisect_right
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from xml.parsers import expat

from cosyserve import errors
from cosyserve.errors import CosyError
from cosyserve.text.mapped import Mapped
from cosyserve.text.marks import PRONOUNCED, shown
from cosyserve.text.pronunciation import phonemes, pinyin

LONGEST_PAUSE = 10.0  # seconds, of one break
LONGEST_PAUSES = 600.0  # … of all in a document, because a tag of 19 characters makes more sound than a page of words
_DEEPEST = 32
_ROOT = "<speak>"
_HAS_ROOT = re.compile(r"\s*<(?:\?xml|!|speak[\s>/])")
_TIME = re.compile(r"\+?(\d{1,6}(?:\.\d{1,6})?|\.\d{1,6})(ms|s)")
_STRENGTHS = {"none": 0.0, "x-weak": 0.1, "weak": 0.25, "medium": 0.5, "strong": 0.75, "x-strong": 1.0}
_ALPHABETS: dict[str, Callable[[str], str | None]] = {
    **dict.fromkeys(("pinyin", "x-pinyin"), pinyin),
    **dict.fromkeys(("cmu", "x-cmu", "x-arpabet"), phonemes),
}
_BLOCKS = frozenset(("p", "s"))


@dataclass(frozen=True)
class Pause:
    """Seconds of silence, and the character of the original it stands at."""

    seconds: float
    at: int


@dataclass
class _Element:
    name: str
    line: int
    attributes: dict[str, str]
    start: int  # characters
    parts: list[Mapped | Pause] = field(default_factory=list)


def parsed(document: str, *, pronounced: bool = False, normalize: bool = True) -> tuple[list[Mapped | Pause], Mapped]:
    """What is spoken of a document, in its order, with the offsets of the document; and the words that stand in it
    between its tags. A piece of it without `<speak>` around it is one, too. Where the model takes phonemes
    (`pronounced`), they are hidden marks, or the marks themselves if the text is not to be normalised. Raises
    `CS-TEXT-007`, `CS-TEXT-008`."""
    reader = _Reader(document, pronounced=pronounced, normalize=normalize)
    return reader.read(), _together(reader.words)


class _Reader:
    def __init__(self, document: str, *, pronounced: bool, normalize: bool) -> None:
        self._document, self._pronounced, self._normalize = document, pronounced, normalize
        self._before = "" if _HAS_ROOT.match(document) else _ROOT
        self._after = "</speak>" if self._before else ""
        self._open: list[_Element] = []
        self._whole: list[Mapped | Pause] = []
        self._paused = 0.0  # seconds
        self.words: list[Mapped] = []  # that stand between tags
        self._bytes = _byte_offsets(self._before + document)
        self._parser = parser = expat.ParserCreate("utf-8")
        parser.StartDoctypeDeclHandler = self._doctype
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.CharacterDataHandler = self._text

    def read(self) -> list[Mapped | Pause]:
        try:
            self._parser.Parse((self._before + self._document + self._after).encode(), True)
        except expat.ExpatError as error:
            reason = expat.ErrorString(error.code)
            raise self._malformed(reason, f"XML 格式错误（{reason}）", error.lineno) from None
        return self._whole

    def _malformed(self, reason: str, reason_zh: str, line: int = 0) -> CosyError:
        tag = self._open[-1].name if self._open else "speak"
        line = line or self._parser.CurrentLineNumber
        return CosyError(
            errors.SSML_MALFORMED, param="input", line=line, tag=tag[:40], reason=reason, reason_zh=reason_zh
        )

    def _doctype(self, *_: object) -> None:
        raise self._malformed("a DTD is not allowed", "不允许 DTD")

    def _offset(self) -> int:
        """Of the parser, in characters of the document."""
        place = bisect_right(self._bytes, self._parser.CurrentByteIndex) - 1 - len(self._before)
        return min(max(place, 0), max(len(self._document) - 1, 0))

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        if len(self._open) == _DEEPEST:
            raise self._malformed(f"more than {_DEEPEST} tags inside each other", f"标签嵌套超过 {_DEEPEST} 层")
        self._open.append(_Element(name, self._parser.CurrentLineNumber, attributes, self._offset()))
        if name in _BLOCKS:
            self.words.append(Mapped("\n", (self._offset(),)))

    def _text(self, data: str) -> None:
        start = self._offset()
        kept = [(" " if each == "\n" else each, place) for place, each in enumerate(data, start)]
        kept = [(each, place) for each, place in kept if not PRONOUNCED.match(each)]
        text = Mapped("".join(each for each, _ in kept), tuple(min(place, len(self._document)) for _, place in kept))
        self._open[-1].parts.append(text)
        self.words.append(text)

    def _end(self, _: str) -> None:
        element = self._open.pop()
        said = _TAGS.get(element.name, _Reader._inner)(self, element)
        (self._open[-1].parts if self._open else self._whole).extend(said)

    def _inner(self, element: _Element) -> list[Mapped | Pause]:
        return element.parts

    def _break(self, element: _Element) -> list[Mapped | Pause]:
        seconds = _seconds(element)
        self._paused += seconds
        if self._paused > LONGEST_PAUSES:
            raise _unfit(
                element,
                f"the breaks of a document last {LONGEST_PAUSES:g}s at most together",
                f"一份文档的停顿合计最长 {LONGEST_PAUSES:g}s",
            )
        return [*element.parts, Pause(seconds, element.start)]

    def _block(self, element: _Element) -> list[Mapped | Pause]:
        """A paragraph or a sentence, which does not go on behind its end."""
        ends = Mapped("\n", (self._offset(),))
        self.words.append(ends)
        return [Mapped("\n", (element.start,)), *element.parts, ends]

    def _sub(self, element: _Element) -> list[Mapped | Pause]:
        return [_instead(element, _attribute(element, "alias"))]

    def _phoneme(self, element: _Element) -> list[Mapped | Pause]:
        read = _ALPHABETS.get(element.attributes.get("alphabet", "").strip().lower())
        written = _attribute(element, "ph")
        if read is None:
            return element.parts  # of an alphabet that no model takes
        marks = read(written)
        if marks is None:
            raise _unfit(element, "ph: the model has no marks for it", "ph：模型没有对应的音素标记")
        if not self._pronounced:
            return element.parts
        return [_instead(element, marks if self._normalize else shown(Mapped.original(marks)).text)]

    def _say_as(self, element: _Element) -> list[Mapped | Pause]:
        if element.attributes.get("interpret-as") not in ("characters", "digits"):
            return element.parts
        return [part if isinstance(part, Pause) else _apart(part) for part in element.parts]


_TAGS: dict[str, Callable[[_Reader, _Element], list[Mapped | Pause]]] = {
    "break": _Reader._break,
    "sub": _Reader._sub,
    "phoneme": _Reader._phoneme,
    "say-as": _Reader._say_as,
    **dict.fromkeys(_BLOCKS, _Reader._block),
}


def _attribute(element: _Element, name: str) -> str:
    value = PRONOUNCED.sub("", element.attributes.get(name, "")).strip()
    if not value:
        raise _unfit(element, f"it needs the attribute {name}", f"缺少属性 {name}")
    return value


def _seconds(element: _Element) -> float:
    strength, time = element.attributes.get("strength", "medium"), element.attributes.get("time", "").strip()
    if not time:
        if strength not in _STRENGTHS:
            raise _unfit(
                element, f"strength is one of {', '.join(_STRENGTHS)}", f"strength 须为 {'、'.join(_STRENGTHS)}"
            )
        return _STRENGTHS[strength]
    match = _TIME.fullmatch(time)
    seconds = float(match[1]) / (1000 if match[2] == "ms" else 1) if match else LONGEST_PAUSE + 1
    if seconds > LONGEST_PAUSE:
        raise _unfit(
            element,
            f"time is a number of ms or s, as 500ms or 1.5s, and {LONGEST_PAUSE:g}s at most",
            f"time 须写作 500ms 或 1.5s，最长 {LONGEST_PAUSE:g}s",
        )
    return seconds


def _unfit(element: _Element, reason: str, reason_zh: str) -> CosyError:
    return CosyError(
        errors.SSML_TAG, param="input", line=element.line, tag=element.name[:40], reason=reason, reason_zh=reason_zh
    )


def _instead(element: _Element, said: str) -> Mapped:
    """Other words for what is in the element; the last of them stands for its end."""
    inside = [place for part in element.parts if isinstance(part, Mapped) for place in part.offsets] or [element.start]
    return Mapped(said, (*(inside[0],) * (len(said) - 1), inside[-1]))


def _apart(part: Mapped) -> Mapped:
    """Each character for itself, with blanks around it."""
    places = [place for place, character in enumerate(part.text) if not character.isspace()]
    text = "".join(f" {part.text[place]} " for place in places)
    return Mapped(text, tuple(part.offsets[place] for place in places for _ in range(3)))


def _byte_offsets(text: str) -> list[int]:
    """Where each character begins in UTF-8."""
    offsets, done = [], 0
    for character in text:
        offsets.append(done)
        done += len(character.encode())
    return offsets


def runs(parts: list[Mapped | Pause]) -> Iterator[Mapped | Pause]:
    """The same with what stands between two pauses in one."""
    run: list[Mapped] = []
    for part in [*parts, None]:
        if isinstance(part, Mapped):
            run.append(part)
            continue
        if run:
            yield _together(run)
            run = []
        if part is not None:
            yield part


def _together(parts: list[Mapped]) -> Mapped:
    return Mapped("".join(each.text for each in parts), tuple(place for each in parts for place in each.offsets))
