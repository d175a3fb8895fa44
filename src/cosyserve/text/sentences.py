"""Finds the sentences of a text, as it was written and as it arrives.

Where a sentence ends depends on what comes before and on the next word at most, so a text in pieces (an LLM's tokens)
has the sentences that it has as a whole.
"""

import re
from collections.abc import Iterator
from itertools import count

LONGEST = 600  # characters; what has no end by then is cut at a pause
_SEEN = 2 * LONGEST  # characters that are looked at, so that a text is not read again and again
LONGEST_INSIDE = 200  # characters between quotes, brackets or tags, within which no sentence ends
_SHORTEST_WRAPPED, _LONG_LINE = 40, 60  # characters of a line that goes on in the next one

_OPENERS, _CLOSERS = "“「『[", "”」』]"
_AFTER_END = "”’\"'）)】」』》〉]*_`~"  # belongs to the sentence whose end it follows
_CLOSING_TAGS = ("</strong>", "</laughter>")
_CLOSING = "|".join(_CLOSING_TAGS)
_TAGS = rf"<strong>|<laughter>|{_CLOSING}"
_EVENT = re.compile(
    rf"(?P<tag>{_TAGS})|(?P<open>[{re.escape(_OPENERS)}])|(?P<close>[{re.escape(_CLOSERS)}])|(?P<quote>\")"
    rf"|(?P<line>\n)|(?P<end>(?:[。！？；…]|[.!?;])[。！？；….!?;]*(?:{_CLOSING}|[{re.escape(_AFTER_END)}])*)"
)
_PAUSES = (re.compile(r"[，、]"), re.compile(r"[,:;—]\s+|——"), re.compile(r"\s+"))  # the better place first
BEFORE_A_QUOTE = re.compile(r"(?:^|[\s(\[{（“‘：:，,—-])$|[\u2e80-\uffdf]$")

_NEVER = (  # before a name or a number
    r"Mr|Mrs|Ms|Mx|Dr|Prof|St|Mt|Ft|Sen|Rep|Lt|Capt|Cpt|Col|Gen|Maj|Sgt|Cpl|Cmdr|Adm|Gov|Pres|Rev|Fr|Hon|Messrs|Mme|Mlle"
    r"|Supt|Insp|vs|Fig|Eq|Sec|Ch|cf|e\.g|i\.e|E\.g|I\.e|ca|approx"
)
_SELDOM = (  # the end of a sentence, if a word follows that begins one
    r"Jan|Feb|Mar|Apr|Jun|Jul|Aug|Sept?|Oct|Nov|Dec|Mon|Tues?|Wed|Thurs?|Fri|Sat|Sun|Jr|Sr|Esq|Inc|Ltd|Co|Corp"
    r"|Bros|dept|Dept|est|Est|Ave|Blvd|Rd|Ln|Hwy|Pkwy|Apt|Bldg|Univ|Assn|etc|et al|deg|mins?|max|secs?|hrs?|lbs?|oz"
    r"|tbsps?|tsps?|ft|in|mi|km|cm|mm|kg|yds?"
    r"|Ph\.D|(?:[A-Za-z]\.)+[A-Za-z]|[A-Za-z]"
)
_BEFORE_NUMBERS = r"[Nn]os?|NO|Vol|vol|pp?|Pt|pt|Art|art|[Vv]er|Ex|ed"
_ABBREVIATION = re.compile(
    rf"(?:^|[^A-Za-z.])(?:(?P<never>{_NEVER})|(?P<numbers>{_BEFORE_NUMBERS})|(?P<seldom>{_SELDOM}))\.$"
)
_ITEM = re.compile(r"(?:^|\n)[\s*_#>`•+-]*(?:\d{1,3}|[A-Za-z]|[ivx]{1,4})\.$")
_INNER_ITEM = re.compile(r"(?:^|[\s，；：])\d{1,2}\.$")  # with Chinese right behind it: `1.打开 2.关闭`
_ENTITY = re.compile(r"&#?\w{1,30};$")
_BEGINNERS = frozenset(
    (  # noqa: SIM905 - a list of them would be longer
        "A After All An And Are As At Because Before But By Can Do Does Don't For From He Her Here His How"
        " However I I'm I've If In Is It It's Its Just Let Let's Many Maybe More Most My No Not Now Of On Once"
        " One Only Or Our Perhaps Please She Since So Some Such That That's The Their Then There There's These"
        " They This Those Thus To Today Tomorrow Until Was We We're Were What When Where Which While Who Why"
        " Will With Would Yes Yesterday Yet You Your"
    ).split(" ")
)
_LONGEST_BEGINNER = 10


class Sentences:
    """Takes text in pieces and gives the sentences that are complete. Holds one text; joined, they are the text."""

    def __init__(self) -> None:
        self._rest = ""
        self._column = 0  # of the rest, in its line
        self._certain = 0  # characters of the rest that belong to one sentence, whatever follows

    @property
    def unfinished(self) -> str:
        """What came of the sentence that is not complete yet; nothing that may belong to the next one."""
        return self._rest[: self._certain]

    def push(self, piece: str) -> Iterator[str]:
        """The sentences that are complete once `piece` is added."""
        self._rest += piece
        yield from self._cut(final=False)

    def flush(self) -> Iterator[str]:
        """What is left, complete or not."""
        yield from self._cut(final=True)

    def _cut(self, *, final: bool) -> Iterator[str]:
        start = end = 0
        while start < len(self._rest):
            text = self._rest[start : start + _SEEN]
            end, is_known = _end(text, self._column, final=final or len(text) == _SEEN)
            if not is_known:
                break
            sentence = self._rest[start : start + end]
            _, line, last = sentence.rpartition("\n")
            self._column = len(last) if line else self._column + len(sentence)
            start += end
            yield sentence
        self._rest = self._rest[start:]
        self._certain = end if self._rest else 0


def sentences(text: str) -> Iterator[str]:
    """The sentences of a whole text, lazily."""
    finder = Sentences()
    for start in count(0, LONGEST):
        if start >= len(text):
            break
        yield from finder.push(text[start : start + LONGEST])
    yield from finder.flush()


def _end(text: str, column: int, *, final: bool) -> tuple[int, bool]:
    """Where the sentence at the start of `text` ends and True, or, while that cannot be known, where it may end at the
    earliest and False."""
    inside: list[tuple[str, int]] = []
    for match in _EVENT.finditer(text, 0, LONGEST):
        kind = match.lastgroup
        if kind == "line":
            inside.clear()
            if not text[: match.start()].strip():
                continue
            ends = _line_ends(text, match.end(), column, final=final)
        elif kind == "end":
            if not final and any(tag.startswith(text[match.end() :]) for tag in ("", *_CLOSING_TAGS)):
                return match.start(), False
            for character in re.findall(rf"{_TAGS}|.", match.group()):
                _step(inside, character, match.start(), closing=True)
            if inside and match.end() - inside[0][1] <= LONGEST_INSIDE:
                continue
            ends = _ends(text, match, final=final)
        else:
            opens = BEFORE_A_QUOTE.search(text[max(0, match.start() - 1) : match.start()]) is not None
            _step(inside, match.group(), match.start(), closing=not opens)
            continue
        if ends is None:
            return match.start(), False
        if ends:
            return match.end(), True
    if len(text) > LONGEST:
        return _pause(text), True
    return len(text), final


def _step(inside: list[tuple[str, int]], sign: str, offset: int, *, closing: bool) -> None:
    """What is open behind one more sign."""
    if sign in ("<strong>", "<laughter>") or sign in _OPENERS or (sign == '"' and not closing):
        if not any(sign == opener for opener, _ in inside):
            inside.append((sign, offset))
        return
    opener = '"' if sign == '"' else sign.replace("/", "") if sign.startswith("</") else ""
    if sign in _CLOSERS:
        opener = _OPENERS[_CLOSERS.index(sign)]
    for index, (each, _) in enumerate(inside):
        if each == opener:
            del inside[index:]
            return


def _line_ends(text: str, end: int, column: int, *, final: bool) -> bool | None:
    """Whether a line is more than a place where a long sentence was wrapped."""
    following = text[end:].lstrip(" \t")[:1]
    if not following:
        return True if final else None
    _, newline, line = text[: end - 1].rpartition("\n")
    length = len(line) if newline else column + len(line)
    goes_on = line[-1:].isascii() and (line[-1:].isalnum() or line[-1:] in ",-")
    return not goes_on or not (
        (length >= _SHORTEST_WRAPPED and following.isascii() and following.islower())
        or (length >= _LONG_LINE and following.isascii() and following.isalpha())
    )


def _ends(text: str, match: re.Match[str], *, final: bool) -> bool | None:
    """Whether the marks end a sentence."""
    mark, after = match.group(), text[match.end() :]
    if mark[0] not in ".!?;":
        return True
    if after and after[0].isascii() and not after[0].isspace() and after[0] != "<":
        return False  # 3.14, cosyserve.toml, ?a=1;b=2
    before = text[: match.start() + 1]
    if mark[0] == ";" and _ENTITY.search(before):
        return False
    quoted = mark[-1] in "”\"'"
    if mark[0] == "." and mark[1:2] not in (".", "!", "?"):
        if _ITEM.search(before) and mark == ".":
            return False
        if mark == "." and after and not after[0].isspace() and _INNER_ITEM.search(before):
            return False
        if abbreviation := _ABBREVIATION.search(before):
            return _ends_after(abbreviation, after, final=final)
    if quoted:  # "Stop!" she said.
        following = after.lstrip(" ")[:1]
        if not following:
            return True if final else None
        return not (following.isascii() and following.islower())
    return True


def _ends_after(abbreviation: re.Match[str], after: str, *, final: bool) -> bool | None:
    following = after.lstrip(" \t")
    if following.startswith("\n"):
        return True
    word = re.match(rf"[\w'’]{{1,{_LONGEST_BEGINNER + 1}}}", following)
    if not final and (not following or (word and word.end() == len(following) and word.end() <= _LONGEST_BEGINNER)):
        return None
    if not following:
        return True
    if not word or not word.group()[0].isascii():
        return abbreviation["never"] is None
    if abbreviation["numbers"]:
        return not word.group()[0].isdigit()
    return abbreviation["never"] is None and word.group().replace("’", "'") in _BEGINNERS


def _pause(text: str) -> int:
    """The last pause of what is too long, else its end: better a cut inside a word than a sentence without one."""
    for pause in _PAUSES:
        ends = [match.end() for match in pause.finditer(text, LONGEST // 2, LONGEST)]
        if ends:
            return ends[-1]
    return LONGEST
