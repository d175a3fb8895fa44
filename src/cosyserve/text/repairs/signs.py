"""Characters that no grammar knows and that mean the same in any language."""

# ruff: noqa: E501 - a row of a table is a line

import re
import unicodedata

from cosyserve.text.repairs.row import Table, row

_NUMERAL = re.compile(
    r"[\u2160-\u2188\u2460-\u249b\u24ea-\u24ff\u2776-\u2793\u3220-\u3229\u3248-\u324f\u3251-\u325f\u3280-\u3289\u32b1-\u32bf]"
)


def _value(match: re.Match[str]) -> str:
    """The number that a numeral is; several are the items of a list."""
    number = f"{unicodedata.numeric(match.group()):g}"
    if (
        len(_NUMERAL.findall(match.string)) == 1 or "\u2160" <= match.group() <= "\u2188"
    ):  # Ⅱ is rarely an item's number
        return number
    before = match.string[: match.start()].rstrip()[-1:]
    return (", " if before.isalpha() or before.isdecimal() or before in tuple(")）]】》”%") else "") + number + ", "


def _subscript(match: re.Match[str]) -> str:
    apart = ", " if match.string[match.end() :][:1].isdigit() else ""  # log₂8
    return _folded(match) + apart


def _folded(match: re.Match[str]) -> str:
    return unicodedata.normalize("NFKC", match.group())


def _power_of_ten(match: re.Match[str]) -> str:
    number, exponent = filter(None, match.groups())
    return f"{number}×10^{exponent.removeprefix('+')}"


SUPERSCRIPTS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻⁺ⁿ", "0123456789-+n")

SIGNS: Table = (
    row("idiom", r"(?<![A-Za-z0-9])([BCOP])2([BCOP])(?![A-Za-z0-9])", r"\1 to \2", "B2B is read so in both languages"),
    row("numeral", _NUMERAL.pattern, _value, "①②③ became `zero` or stayed; Ⅳ stayed"),
    row("fraction", r"(?<=\d)(?=[¼-¾⅐-⅞])", " ", "3½ became 31/2"),
    row("fraction", r"[¼-¾⅐-⅞]", lambda match: _folded(match).replace("⁄", "/"), "½ is no digit to it"),
    row("subscript", r"[₀-₉]+", _subscript, "H₂O lost its number"),
    row("unit", r"㎡", "m²", "50㎡ is a sentence that its grammar cannot read"),
    row("unit", r"㎥", "m³", "as ㎡"),
    row("unit", r"[㎎-㎏㎜-㎞㎖㎗㏄㎐-㎔㎾]", _folded, "5㎏ stayed"),
    row("invisible", r"[™®©℠]", "", "its grammar cannot read them"),
    row("currency", r"￥", "¥", "one sign for one thing"),
    row("power", r"(?<![A-Za-z0-9.])(\d+(?:\.\d+)?)[eE]([-+]\d+)(?![A-Za-z0-9])|(?<![A-Za-z0-9.])(\d+\.\d+)[eE](\d+)(?![A-Za-z0-9])", _power_of_ten, "1e-5 lost its sign"),
    row("number", r"(?<![A-Za-z0-9_])\d{1,3}(?:_\d{3})+(?![A-Za-z0-9_])", lambda match: match.group().replace("_", ""), "10_000 became ten and noughts"),
    row("number", r"(?<![A-Za-z0-9.,])\d{1,3}(?: 000)+(?! ?\d)", lambda match: match.group().replace(" ", ""), "1 000 000 became one and noughts"),
    row("hexadecimal", r"(?<![A-Za-z0-9:-])(?:[0-9A-Fa-f]{2}(?::[0-9A-Fa-f]{2}){5}|[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12})(?![A-Za-z0-9:-])", lambda match: ", ".join(map(" ".join, re.split("[:-]", match.group()))), "numbers of cards and objects became cardinals and letters"),
    row("hexadecimal", r"(?<![A-Za-z0-9])0x[0-9A-Fa-f]{1,16}(?![A-Za-z0-9])", lambda match: " ".join(match.group()).replace("x", "X"), "0x1F became zero times one F"),
    row("power", r"(?<=[\w)])[⁻⁺][⁰¹²³⁴-⁹ⁿ]+|(?<=[\d)])[⁰¹²³⁴-⁹]{2,}", lambda match: f"^{match.group().translate(SUPERSCRIPTS)}", "10⁻³ lost its number"),
    row("minus", r"−", "-", "the mathematical minus is no minus to it"),
)  # fmt: skip
