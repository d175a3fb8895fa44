"""Takes away what is written for the eye: mark-up, invisible characters, emoji. Marks are dropped or become pauses.

Each rule looks at a sign and what stands right beside it, so that a text in pieces is cleaned as it is as a whole.
"""

# ruff: noqa: E501 - a row of a table is a line

import html
import re
import unicodedata
from typing import NamedTuple

from cosyserve.text.mapped import Mapped, Replacement
from cosyserve.text.marks import SOUND, TAGS


class Rule(NamedTuple):
    name: str
    pattern: re.Pattern[str]
    replacement: Replacement


# Elements of HTML, and of SSML, which has its own way in (`ssml`) and is no control in a plain text. `strong` is also a mark of the model's.
_ELEMENTS = (
    "a|abbr|address|article|aside|audio|b|big|blockquote|body|br|button|caption|center|cite|code|col|dd|del|details|dfn|div|dl"
    "|dt|em|figcaption|figure|font|footer|form|h[1-6]|head|header|hr|html|i|iframe|img|input|ins|kbd|label|li|link|main|mark"
    "|meta|nav|ol|option|p|pre|q|rp|rt|ruby|s|samp|section|select|small|source|span|strike|style|sub|summary|sup|svg|table"
    "|tbody|td|textarea|tfoot|th|thead|time|title|tr|tt|u|ul|var|video|wbr|think|thinking"
    "|speak|break|prosody|emphasis|say-as|phoneme|voice|lang|mstts:express-as"
)
_BLOCKS = "address|article|blockquote|body|br|button|caption|dd|details|div|dl|dt|figcaption|figure|footer|form|h[1-6]|head|header|hr|li|ol|option|p|pre|section|summary|table|think|thinking|title|tr|ul"
_CELLS = "td|th"
# Except for a few, attributes have values. Between the signs of `a<b and c>d` there are words.
_BARE = "allowfullscreen|async|autoplay|checked|controls|disabled|hidden|loop|muted|open|required|reversed|selected"
_REST = rf"(?:\s+(?:[\w:@.-]{{1,60}}\s*=[^<>]{{0,500}}|{_BARE}))*\s*/?>"
_FORMULAS = "equation|align|aligned|gather|gathered|multline|eqnarray|displaymath|math|split|cases|array|[bpvVB]?matrix"
_TEX = r"(?<![A-Za-z0-9$])\$"

_KEEPS_JOINERS = re.compile(r"[\u0600-\u0dff]")  # Arabic, Persian and the scripts of India write with them
_PICTURE = (
    "[\U0001f000-\U0001f0ff\U0001f10d-\U0001f10f\U0001f12f\U0001f16c-\U0001f171\U0001f17e\U0001f17f\U0001f18e"
    "\U0001f191-\U0001f1ff\U0001f201-\U0001faff\u2600-\u2775\u2794-\u27bf\u2b00-\u2bff\u231a-\u23ff\u25a0-\u25b2\u25b4-\u25ff\u3030\u303d]"
)
_LINE = r"(?m:^)[^\S\n]*"
_ADDRESS = r"\((?:[^()\s]|\([^()\s]*\)){0,2000}(?:\s+[\"'][^\"'\n]{0,200}[\"'])?\)"
_COMMANDS = {
    **{"times": "×", "cdot": "×", "div": "÷", "pm": "±", "sqrt": "√", "infty": "∞", "to": "→", "rightarrow": "→"},
    **{"in": "∈", "cap": "∩", "cup": "∪", "subset": "⊂", "subseteq": "⊆", "sum": "∑", "int": "∫", "partial": "∂"},
    **{"perp": "⊥", "parallel": "∥", "angle": "∠", "triangle": "△", "forall": "∀", "exists": "∃", "therefore": "∴"},
    **{"leq": "≤", "le": "≤", "geq": "≥", "ge": "≥", "neq": "≠", "ne": "≠", "approx": "≈", "left": "", "right": ""},
}


def _unescaped(match: re.Match[str]) -> str:
    character = html.unescape(match.group())
    return "" if re.search(_PICTURE, character) or any(map(_is_control, character)) else character


def _is_control(character: str) -> bool:
    return unicodedata.category(character) in ("Cc", "Cs") and not character.isspace()


_BRACES = re.compile(
    r"\\[dt]?frac\s*\{([^{}]*)\}\s*\{([^{}]*)\}|\\sqrt\s*\{([^{}]*)\}"
    r"|\\(?:begin|end)\s*\{[^{}]*\}|\\(?:text|math|operatorname|vec|hat|bar|boxed)[a-z]*\s*\{([^{}]*)\}|([_^])\{([^{}]*)\}"
)


def _braced(match: re.Match[str]) -> str:
    above, below, root, words, script, exponent = match.groups(default="")
    if below:
        return f"{above}/{below}" if above.isdigit() and below.isdigit() else f"{above} ÷ {below}"
    return f"√{root}" if root else script + exponent + f" {words}" * bool(words)


def _command(match: re.Match[str]) -> str:
    return _COMMANDS.get(match.group(1), f" {match.group(1)} ")


def _maths(match: re.Match[str]) -> str:
    return _formula(next(filter(None, match.groups()), ""))


def _formula(text: str) -> str:
    """TeX as plain text: commands by their signs or names, braces away, a pause for a new line."""
    text = re.sub(r"\s*(?:\\\\|&)\s*", ", ", re.sub(r"&(?=\s?[=<>])", "", text))
    text = re.sub(r"\^\s?\{?\\circ\b\}?", "°", text.replace("-", "−"))
    text = re.sub(r"\\sqrt\s?\[([34])\]", lambda root: "∛" if root.group(1) == "3" else "∜", text)
    text = re.sub(r"(?<=[A-Za-z])\s*\\mid\b\s*", "∣", text)
    text = re.sub(r"(\\(?:sum|prod|int))\s?_(\{[^{}]*\}|\w)\s?\^(\{[^{}]*\}|\\?\w+)", r"\1 \2, \3, ", text)
    text = re.sub(r"\\[,;:! |]", " ", text)
    for _ in range(text.count("{")):  # from the inmost on
        text = _BRACES.sub(_braced, text)
    text = re.sub(r"\\([A-Za-z]+)\s?", _command, text)
    text = re.sub(r"(?<=\()\s+|\s+(?=[)^_])", "", text)
    return re.sub(r"[\\{}]", "", text).strip()


def _code(match: re.Match[str]) -> str:
    """What is code and no mark-up: `<div>` is said."""
    return re.sub(r"<\s?/?([A-Za-z][\w-]*)([^<>]*)>", r"\1\2", match.group(2))


def _joiner(match: re.Match[str]) -> str:
    before, after = match.string[max(0, match.start() - 1) : match.start()], match.string[match.end() :][:1]
    return match.group() if _KEEPS_JOINERS.match(before) and _KEEPS_JOINERS.match(after) else ""


def _folded(match: re.Match[str]) -> str:
    return unicodedata.normalize("NFKC", match.group())


def _cells(match: re.Match[str]) -> str:
    """A row of a table, its cells with pauses between them; a row of lines is none, nor is a cell with a dash alone."""
    cells = [cell.strip() for cell in match.group().strip().strip("|").split("|")]
    return (
        ", ".join(cell for cell in cells if cell.strip("-–—"))
        if any(re.search(r"[^\s:=-]", cell) for cell in cells)
        else ""
    )


_CHARACTERS = (
    Rule("keycap", re.compile(r"([0-9#*])\ufe0f?\u20e3(?=\s?[:：.,，、)）])"), r"\1"),
    Rule("keycap", re.compile(r"([0-9#*])\ufe0f?\u20e3"), r"\1, "),
    Rule("emoji", re.compile(rf"{_PICTURE}[\ufe0e\ufe0f\u200d\U000e0020-\U000e007f\U0001f3fb-\U0001f3ff]*"), ""),
    Rule("joiner", re.compile(r"[\u200c\u200d]"), _joiner),
    Rule(
        "invisible",
        re.compile(
            r"[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b\u200e\u200f\u202a-\u202e\u2060-\u206f\ufe00-\ufe0f\ufeff"
            "\ufff9-\ufffb\ufffc\ufffd\U0001d173-\U0001d17a\U000e0000-\U000e0fff]"
        ),
        "",
    ),
    Rule("space", re.compile(r"[^\S\n ]+"), " "),
    # One character for each that looks the same: full-width and mathematical letters and digits, ligatures, half-width kana.
    Rule(
        "width",
        re.compile(
            r"(?<![步第题章节条项骤组号型0-9\uff10-\uff19])[0-9\uff10-\uff19]{1,2}(?:：[0-9\uff10-\uff19]{1,2}){1,2}(?![0-9\uff10-\uff19])|(?<=[0-9\uff10-\uff19])．(?=[0-9\uff10-\uff19])"
        ),
        _folded,
    ),
    Rule(
        "width",
        re.compile(
            r"[\uff10-\uff19\uff21-\uff3a\uff41-\uff5a\uff05\uff06\uff0a\uff0b\uff0d\uff0f\uff1d\uff20\uff03\uff04\uff3e\uff3f\uff40\uff5c]"
            r"|[\uff65-\uff9f]+|[\U0001d400-\U0001d7ff]|[\ufb00-\ufb06]|[\u249c-\u24ea]|[\U0001f110-\U0001f12b]"
        ),
        _folded,
    ),
    Rule(
        "composition",
        re.compile(r"[^\W_][\u0300-\u036f\u3099\u309a]+|[\u1100-\u11ff]+"),
        lambda m: unicodedata.normalize("NFC", m.group()),
    ),
)

_MARK_UP = (
    Rule("wrap", re.compile(r"(?<=\S)[^\S\n]*\n[^\S\n]*(?=\S)"), " "),
    # The times of a caption in SubRip or WebVTT.
    Rule(
        "caption",
        re.compile(
            rf"{_LINE}(?:\d{{1,2}}:)?\d\d:\d\d[.,]\d{{3}} --> (?:\d{{1,2}}:)?\d\d:\d\d[.,]\d{{3}}.*$", re.MULTILINE
        ),
        "",
    ),
    Rule("comment", re.compile(r"<!--.*?-->", re.DOTALL), " "),
    Rule("code", re.compile(r"(`+)([^`\n]{1,300})\1"), _code),
    Rule("block tag", re.compile(rf"</?(?:{_BLOCKS}){_REST}", re.IGNORECASE), "\n"),
    Rule("cell tag", re.compile(rf"</(?:{_CELLS}){_REST}", re.IGNORECASE), ", "),
    Rule("tag", re.compile(rf"</?(?:{_ELEMENTS}){_REST}", re.IGNORECASE), ""),
    Rule("entity", re.compile(r"&(?:#\d{1,7}|#[xX][0-9A-Fa-f]{1,6}|[A-Za-z][A-Za-z0-9]{1,30});"), _unescaped),
    # A place-holder or a parameter of a type: the word, without its brackets.
    Rule(
        "bracket",
        re.compile(rf"(?!{'|'.join(TAGS)})</?([A-Za-z_][A-Za-z0-9_-]*(?:, ?[A-Za-z_][A-Za-z0-9_-]*)*)/?>"),
        r" \1 ",
    ),
    Rule("code fence", re.compile(rf"{_LINE}(?:```+|~~~+)[^\s`]*"), ""),
    Rule(
        "rule", re.compile(rf"{_LINE}(?:(?:-[ ]*){{3,}}|(?:_[ ]*){{3,}}|(?:\*[ ]*){{3,}}|={{3,}})$", re.MULTILINE), ""
    ),
    Rule(
        "maths",
        re.compile(
            rf"(\$\$?)?\\begin\s?\{{({_FORMULAS})\*?\}}(?:\{{[^{{}}\n]{{0,40}}\}})?(.{{1,600}}?)\\end\s?\{{\2\*?\}}(?(1)\1)",
            re.DOTALL,
        ),
        lambda m: _formula(m.group(3)),
    ),
    Rule("maths", re.compile(r"&(?=\s?[=<>≤≥≈])"), ""),
    Rule("maths", re.compile(r"\\(?:begin|end)\s?\{[^{}\n]{1,40}\}(?:\[[^\]\n]{0,40}\])?|\\item\b"), ""),
    Rule("maths", re.compile(r"(?<![A-Za-z])(Pr?|p)\(([^()|\n]{1,30})\|([^()|\n]{1,30})\)"), r"\1(\2∣\3)"),
    Rule("maths", re.compile(r"\$\$([^$]{1,300})\$\$|\\\((.{1,300}?)\\\)|\\\[(.{1,300}?)\\\]"), _maths),
    Rule(
        "maths",
        re.compile(rf"{_TEX}(?=[^$\n]{{0,100}}[\\^_={{∣])([A-Za-z\\(|{{-][^$\n]{{0,100}})\$(?![A-Za-z0-9$])"),
        _maths,
    ),
    Rule(
        "maths", re.compile(rf"{_TEX}(\d[^$\n]{{0,60}}?(?:\\[A-Za-z%]|[\^_])[^$\n]{{0,60}}?)\$(?![A-Za-z0-9$])"), _maths
    ),
    Rule(
        "maths",
        re.compile(rf"{_TEX}([A-Za-z]|[A-Za-z(][A-Za-z0-9(), '+<>-]{{0,40}}[A-Za-z0-9)!'])\$(?![A-Za-z0-9$])"),
        r"\1",
    ),
    Rule(
        "link definition",
        re.compile(
            rf"{_LINE}\[(?!\^)[^\]\n]{{1,100}}\]:[ ]*<?(?:\w+://|/|#|[\w.-]+\.[a-z])\S*(?:\s+[\"'(].*)?$", re.MULTILINE
        ),
        "",
    ),
    Rule("maths", re.compile(r"([_^])\{([^{}\n]{1,30})\}"), r"\1\2"),
    Rule("footnote", re.compile(r"\[\^[^\]\s]{1,30}\]:?"), ""),
    Rule("image", re.compile(rf"!\[([^\]]{{0,300}})\]{_ADDRESS}"), r"\1"),
    Rule("link", re.compile(rf"\[([^\[\]]{{0,300}})\]{_ADDRESS}"), r"\1"),
    Rule(
        "link",
        re.compile(
            rf"(?<![A-Za-z0-9_\]])(?!{SOUND.pattern})\[([^\[\]\n]{{1,300}})\](?!{SOUND.pattern})\[[^\]\n\u3400-\u9fff]{{0,100}}\]"
        ),
        r"\1",
    ),
    Rule("link", re.compile(r"<((?:https?://|mailto:|[\w.+-]{1,64}@)[^\s<>]{1,2000})>"), r"\1"),
    Rule(
        "table",
        re.compile(
            rf"{_LINE}\|.*\|[^\S\n]*$|{_LINE}:?-{{2,}}:?[^\S\n]*(?:\|[^\S\n]*:?-{{2,}}:?[^\S\n]*)+\|?[^\S\n]*$",
            re.MULTILINE,
        ),
        _cells,
    ),
    Rule("table", re.compile(r"(?<!<)[^\S\n]?\|+(?!>)[^\S\n]?"), ", "),
    Rule("quotation", re.compile(rf"{_LINE}(?:>[ ]?)+(?!\d)"), ""),
    Rule("heading", re.compile(rf"{_LINE}#{{1,6}}(?=[^\S\n]|$)[^\S\n]*|(?<=\S)[^\S\n]+#+[^\S\n]*$", re.MULTILINE), ""),
    Rule("bullet", re.compile(rf"{_LINE}[-*+•·‣▪◦●○–][^\S\n]+(?:\[[ xX]\][^\S\n]+)?|{_LINE}[•‣▪◦●○]"), ""),
    Rule("escape", re.compile(r"\\([!-/:-@\[-`{-~])"), r"\1"),
    Rule("backslash", re.compile(r"\\+"), " "),
    Rule("comment", re.compile(r"(?<!\S)(?:/{2,}|/\*+|\*+/)(?!\S)"), ""),
    Rule("variable", re.compile(r"(?<![A-Za-z0-9_])\$(?=[A-Za-z_{])|\{{2,}|\}{2,}"), ""),
    Rule("power", re.compile(r"(?<![*A-Za-z0-9_])([A-Za-z0-9])\*\*(\d{1,9})(?![A-Za-z0-9*])"), r"\1^\2"),
    # Keys of a telephone: 请按#, press * to go back.
    Rule(
        "key",
        re.compile(r"(?<=按)\s?([#*])号?(?=[，。；,;\s键结返确挂]|$)"),
        lambda m: "井号" if m.group(1) == "#" else "星号",
    ),
    Rule(
        "key",
        re.compile(r"(?<=\b[Pp]ress )([#*])(?=[\s,.;]|$)|(?<=\b[Pp]ress the )([#*])(?=\skey\b)"),
        lambda m: "pound" if "#" in m.group() else "star",
    ),
    Rule("emphasis", re.compile(r"\*{2,}|(?<!\d)\*|\*(?!\d)"), lambda m: "*" if _multiplies(m) else ""),
    Rule("emphasis", re.compile(r"==(?=[^\s=])([^=\n]{1,200})(?<=[^\s=])=="), r"\1"),
    Rule("tilde", re.compile(r"(?<=\w)[~～]+(?=[\s，。！？,.!?]|$)"), ""),
    Rule("emphasis", re.compile(r"~~+|(?<![^\W_])_+|_+(?![^\W_])"), ""),
    Rule("code", re.compile(r"`+"), ""),
    Rule("hash", re.compile(r"(?<![A-Za-z\d])#+(?!\s?\d)|(?<=[A-Z])#(?=[A-Za-z\d])|(?<=[^\W\dA-Za-z])#|#{2,}"), ""),
    Rule(
        "emoji's name",
        re.compile(r"(?<![A-Za-z0-9:]):(?:[+-]1|(?=[0-9_+-]*[a-z])[a-z0-9_+-]{1,40}):(?![A-Za-z0-9:])"),
        "",
    ),
    Rule("face", re.compile(r"(?<!\S)[:;]'?-?[()](?!\S)"), ""),
)


def _multiplies(match: re.Match[str]) -> bool:
    """Whether an asterisk stands between two numbers or letters of a formula."""
    operand = r"(?:\d|(?<![^\W_])[A-Za-z](?![^\W_]))"
    before, after = match.string[: match.start()].rstrip(" "), match.string[match.end() :].lstrip(" ")
    close = (len(before) == match.start()) == (len(after) == len(match.string) - match.end())
    found = re.search(rf"{operand}$", before[-2:]) and re.match(operand, after[:2])
    return match.group() == "*" and close and found is not None


_EDGES = (
    Rule("line", re.compile(r"[^\S\n]*\n\s*"), "\n"),
    Rule("space", re.compile(r"[^\S\n]{2,}|[^\S\n ]"), " "),
)


def cleaned(sentence: Mapped) -> Mapped:
    """Without what is not heard. Links stay, because how they are said depends on the language."""
    for rule in (*_CHARACTERS, *_MARK_UP, *_EDGES):
        sentence = sentence.sub(*rule)
    return sentence.stripped()
