"""What wetext reads wrong in English, or not at all, and how it is written for it. From the top; one row each, and why."""
# ruff: noqa: E501 - a row of a table is a line

import re
from calendar import month_name

from cosyserve.text import links
from cosyserve.text.repairs.row import NUMBER, Table, row
from cosyserve.text.repairs.signs import SIGNS, SUPERSCRIPTS

_UNITS = (
    ("meter", r"m"), ("second", r"secs?\.?"), ("minute", r"mins?\.?"), ("hour", r"hrs?\.?"), ("liter", r"[lL]"), ("milliliter", r"mL"),
    ("kilowatt hour", r"kWh"), ("kilowatt", r"kW"), ("watt", r"W"), ("volt", r"V"), ("milliamp hour", r"mAh"), ("decibel", r"dB"),
    ("square meter", r"(?:sq\.? ?m|m²|m\^2)"), ("square kilometer", r"(?:km²|km\^2)"), ("square centimeter", r"(?:cm²|cm\^2)"),
    ("cubic meter", r"(?:m³|m\^3)"), ("cubic centimeter", r"(?:cm³|cm\^3|cc)"), ("millisecond", r"ms"), ("nanometer", r"nm"),
    ("pixel", r"px"), ("teaspoon", r"tsps?\.?"), ("tablespoon", r"tbsps?\.?"), ("kilojoule", r"kJ"), ("millimole", r"mmol"), ("megapascal", r"MPa"), ("micrometer", r"[μµ]m"), ("microgram", r"[μµ]g"), ("ohm", r"Ω"), ("kilohm", r"kΩ"),
)  # fmt: skip
MONTHS = "Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Sept|Oct|Nov|Dec|January|February|March|April|June|July|August|September|October|November|December"
_TENS = {"0": "hundreds", "1": "tens", "2": "twenties", "3": "thirties", "4": "forties", "5": "fifties", "6": "sixties", "7": "seventies", "8": "eighties", "9": "nineties"}  # fmt: skip


_PARTS = {"mg": "milligrams", "μg": "micrograms", "µg": "micrograms", "kg": "kilograms", "g": "grams", "mol": "moles", "mmol": "millimoles", "ng": "nanograms", "m²": "square meters", "cm³": "cubic centimeters", "m³": "cubic meters", "dL": "deciliters", "L": "liters", "mL": "milliliters"}  # fmt: skip
_CHARGES = {"⁺": "plus", "⁻": "minus"}
_STATES = (
    "A[LKZR]|C[AOT]|D[CE]|FL|GA|HI|I[DLNA]|K[SY]|LA|M[EDAINSOT]|N[EVHJMYCD]|O[HKR]|PA|RI|S[CD]|T[NX]|UT|V[TA]|W[AVIY]"
)
_SIGNS = {
    "∈": "in",
    "∉": "not in",
    "∩": "intersection",
    "∪": "union",
    "⊂": "subset of",
    "⊆": "subset of",
    "∑": "sum",
    "∫": "integral",
    "∂": "partial",
    "∵": "because",
    "∴": "therefore",
    "∝": "proportional to",
    "∥": "parallel to",
    "⊥": "perpendicular to",
    "∠": "angle",
    "∀": "for all",
    "∃": "there exists",
    "△": "triangle",
    "∣": "given",
    "∛": "the cube root of",
    "∜": "the fourth root of",
}
_RATES = {"mL": "milliliters", "L": "liters", "cm": "centimeters", "m³": "cubic meters", "kg": "kilograms"}
_TIMES = {"s": "second", "min": "minute", "h": "hour", "hr": "hour", "day": "day"}
_PORTS = {":": "colon", "/": "slash"}


def _link(match: re.Match[str]) -> str:
    return links.said(match, "en")


def _decade(match: re.Match[str]) -> str:
    century, ten = match.group(1), match.group(2)
    return "two thousands" if (century, ten) == ("20", "0") else f"{century} {_TENS[ten]}"


def _digits(match: re.Match[str]) -> str:
    """One by one."""
    return " ".join(match.group())


def _apart(match: re.Match[str]) -> str:
    """Digits one by one, a pause where there was a sign."""
    return ", ".join(map(" ".join, re.findall(r"\d+", match.group())))


def _counted(number: str, unit: str) -> str:
    return f"{number} {unit}" + "s" * (number != "1")


def _duration(match: re.Match[str]) -> str:
    units = zip(match.groups(), ("hour", "minute", "second"), strict=True)
    return " ".join(_counted(number, unit) for number, unit in units if number)


def _season(match: re.Match[str]) -> str:
    first, last = match.groups()
    return f"{first} to {last}" if len(last) == 4 or int(last) == (int(first) + 1) % 100 else match.group()


ENGLISH: Table = (
    row("minus", r"(?<=[\w)])\s?−\s?(?=[\w(√])|−\s?(?=[A-Za-z(√])", " minus ", "the mathematical minus is none to it, nor a range"),
    row("ion", r"(?<=[A-Za-z₀-₉\d)\]])([²³⁴-⁹]?)([⁺⁻])(?![⁰¹²³⁴-⁹\d])", lambda m: f" {m.group(1).translate(SUPERSCRIPTS)} {_CHARGES[m.group(2)]}", "SO₄²⁻ became squared"),
    *SIGNS,
    row("link", links.LINK.pattern, _link, "I love google.com, really. became nothing at all"),
    row("underscore", r"(?<=[^\W_])_+(?=[^\W_])", " ", "snake_case is two words"),
    row("name", r"\b(Boeing )7(\d)7(?:-(\d{1,3}))?(?!\d|[.-]\d)", lambda m: f"{m.group(1)}seven {'oh ' * (m.group(2) == '0')}{'' if m.group(2) == '0' else m.group(2)}7" + f" {m.group(3)}" * bool(m.group(3)), "Boeing 747-400 became a range of cardinals"),
    row("list", r"(?m)^\s*(?!\(\d{3}\)\s?\d{3})\(?(\d{1,3})(?:\)|\.(?!\d))[^\S\n]*(?=\S)", r"\1, ", "`1. Open` became `one.`, an utterance of its own"),
    row("list", r"(?<=[;:])\s(\d{1,2})\)\s(?=[A-Za-z])", r" \1, ", "1) inside a line kept its bracket"),
    row("dotted name", r"(?<![\w.])\.(?=[A-Za-z]{2,})", "dot ", ".NET lost its dot"),
    row("space", r"(?<=[a-z\d])([.!?])(?=[A-Z][a-z])", r"\1 ", "a space was forgotten"),
    row("number sign", r"№\s?(?=\d)|\bN[oO]\.\s?(?=\d)|\bno\.\s(?=\d)|#\s?(?=\d)", "number ", "No. 5 became Number. five; # and № it cannot read"),
    row("number sign", r"(?<=\b[A-Z])#", " sharp", "C# it cannot read"),
    row("decade", r"(?<![\d.])(1\d|20)(\d)0['’]?s\b", _decade, "the 1990s became one thousand nine hundred and ninety seconds"),
    row("decade", r"(?<![\d.])['’]?([2-9])0['’]?s\b", lambda m: _TENS[m.group(1)], "the 90s became ninety seconds"),
    row("abbreviation", r"(?i)(?<![\w/])w/o(?![\w/])", "without", "it kept its slash"),
    row("abbreviation", r"(?i)(?<![\w/])w/(?=\s?[a-z])", "with ", "as w/o"),
    row("abbreviation", r"(?i)(?<![\w/])b/c(?![\w/])", "because", "as w/o"),
    row("idiom", r"\b24/7\b", "twenty four seven", "it became twenty four sevenths"),
    row("idiom", r"\b50/50\b", "fifty fifty", "it became fifty fiftieths"),
    row("idiom", r"(?<![\d/])9/11(?![\d/])", "nine eleven", "it became nine elevenths"),
    row("idiom", r"(?<![\d:])24:00(?![\d:])", "24 o'clock", "it became twenty four:oh zero"),
    row("idiom", r"(?<![\d:])(\d{1,2}):00 o['’]clock", r"\1 o'clock", "5:00 o'clock said it twice"),
    row("ordinal", r"(?<=\d)(st|nd|rd|th)-(?=[A-Za-z])", r"\1 ", "2nd-place became two nd-place"),
    row("date", r"(?<![\w.-])((?:19|20)\d\d)(0[1-9]|1[0-2])(0[1-9]|[12]\d|3[01])(?![\w%-]|\.\d)", r"\1/\2/\3", "20240105 became twenty millions"),
    row("date", r"\b((?:Mon|Tue|Wed|Thu|Fri|Sat|Sun)[a-z]{0,6}\.?,? )(0?[1-9]|1[0-2])/(\d{1,2})(?![\d/])", lambda m: f"{m.group(1)}{month_name[int(m.group(2))]} {m.group(3)}", "Tue, 3/5 became a fraction"),
    row("date", r"(?<![\d.])(\d{1,2})\.(\d{1,2})\.((?:19|20)\d\d)(?![\d]|\.\d)", r"\1/\2/\3", "25.12.2023 became points"),
    row("date", r"(?<![\d.])((?:19|20)\d\d)\.(\d{1,2})\.(\d{1,2})(?![\d]|\.\d)", r"\1/\2/\3", "as 25.12.2023"),
    row("range", r"(?<![\d/.,$€£¥])((?:19|20)\d\d)/((?:19|20)\d\d|\d\d)(?![\d/]|\.\d)", _season, "2020/21 became a fraction"),
    row("score", r"(?<![\d/.])(\d\.\d)/(\d{1,2})(?![\d/])", r"\1 out of \2", "4.5/5 became four point five fifths"),
    row("score", rf"(?<![\d/.])({NUMBER})/(100?)(?![\d/])", r"\1 out of \2", "10/10 became ten tenths"),
    row("clock", r"(\d{4}-\d\d-\d\d)T(\d\d:\d\d(?::\d\d)?)(?:\.\d+)?Z?", r"\1 \2", "a time stamp kept its letters"),
    row("address", r"(?<![\w.])(\d{1,3}(?:\.\d{1,3}){3})([:/])(\d+)", lambda m: f"{m.group(1)} {_PORTS[m.group(2)]} {' '.join(m.group(3))}", "the port became a cardinal"),
    row("year", r"\b(Q[1-4]|FY|H[12])\s?['’](\d\d)(?!\d)", r"\1 20\2", "Q4'23 kept its apostrophe"),
    row("code", r"(?i)\b((?:status(?: code)?|error(?: code)?|HTTP) )([45])0([1-9])(?!\d|[.,]\d)", r"\1\2 oh \3", "status 404 became a cardinal"),
    row("code", r"(?<=HTTP/\d\.\d) (?=[1-5]\d\d\b)", ", ", "HTTP/1.1 200 became one number"),
    row("name", r"(?<=\bi[3579]-)(\d\d)(\d00)(?=[A-Z]{0,2}\b)", r"\1 \2", "i9-13900K became a cardinal"),
    row("number", r"(?<![\d.,])\d{1,3}(?:\.000){2,4}(?![\d.,])", lambda m: m.group().replace(".", ""), "1.000.000 became points"),
    row("number", r"(?<![\d/.-])(\d{1,2})-(\d{1,2}/\d{1,2})(?![\d/-])", r"\1 \2", "1-1/2 inches kept its slash"),
    row("unit", rf"({NUMBER})[\"”″](?=\s?[x×]\s?\d)", r"\1 inches", "10\" x 12\" kept its signs"),
    row("unit", rf"(?<=inches)\s?[x×]\s?({NUMBER})(?:[\"”″]|(?= inches))", lambda m: f" by {m.group(1)}" + " inches" * (m.group()[-1] in "\"”″"), "as above"),
    row("times", rf"(?<![\w.$€£-])({NUMBER})x(?=[.,;:!?)]|$)", r"\1 times", "26.7x kept its letter"),
    row("unit", rf"({NUMBER})\s?(mL|L|cm|m³|kg)/(s|min|h)(?![\w])", lambda m: f"{m.group(1)} {_RATES[m.group(2)]} per {_TIMES[m.group(3)]}", "58 mL/min kept its letters"),
    row("per", r"\b(days|hours|hrs|times|nights|miles|requests|tokens|calls|people)\s?/\s?(week|day|month|year|hour|minute|second|night|person|user)\b", r"\1 per \2", "7 days/week kept its slash"),
    row("per", r"(?<=\d)(\s?[mμµ]?g)/kg/(day|h|hr|min)\b", lambda m: f"{m.group(1)}/kg per {_TIMES.get(m.group(2), m.group(2))}", "5 mg/kg/day kept its slash"),
    row("currency", r"(?<=\d)\s?/\s?(?=[$€£¥]\d)", ", ", "$0.15/$0.60 kept its slash"),
    row("code", rf"(?<=, )({_STATES}) (\d{{5}}(?:-\d{{4}})?)(?=\s?(?:[,.;:)\n]|$)|\sUSA?\b)", lambda m: f"{m.group(1)} " + ", ".join(map(" ".join, m.group(2).split("-"))), "a ZIP code became a cardinal"),
    row("code", r"(?i)\b((?:code(?: is|:)|(?:verification|security|access|confirmation|one-time) code|(?:pin|otp|password|passcode)(?: is|:)?) )(\d{4,8})(?![\d.,%-]\d|\d)", lambda m: m.group(1) + " ".join(m.group(2)), "a code is read by its digits"),
    row("name", r"(?<=\b[RG]TX )(\d\d)(\d\d)(?!\d)|(?<=\bRX )(\d\d)([1-9]0)(?!\d)", lambda m: f"{m.group(1) or m.group(3)} {m.group(2) or m.group(4)}", "RTX 4090 became a cardinal"),
    row("year", r"\b(FY|CY|H[12])\s?['’]?((?:19|20)\d\d)(?!\d)", r"\1 \2", "FY2024 became a cardinal"),
    row("duration", r"(?<![\w.])(\d{1,3})\s?h\s?(\d{1,2})\s?m(?:in)?(?:\s?(\d{1,2})\s?s)?(?![\w/²³^'’])", _duration, "9h 40m became meters"),
    row("duration", r"(?<![\w.])(\d{1,3})\s?m\s?(\d{1,2})\s?s(?![\w/²³^'’])", lambda m: f"{_counted(m.group(1), 'minute')} {_counted(m.group(2), 'second')}", "as above"),
    row("duration", r"(?<![\d:.])(\d{1,2}):([0-5]\d\.\d{1,3})(?![\d:.])", r"\1 minutes \2 seconds", "a lap of 1:32.608 kept its colon"),
    row("date", r"(?i)\b((?:ends|ending|due|on|until|till|expires|starts|starting|dated) )(1[0-2]|0?[1-9])/([12]\d|3[01]|0?[1-9])(?=\s?(?:[,;:!?)]|\.(?!\d)|$)|\s(?:at|and|to|through|for)\b)", lambda m: f"{m.group(1)}{month_name[int(m.group(2))]} {int(m.group(3))}", "ends 11/30 became thirtieths"),
    row("score", r"(?<![\d/.])(\d)/(5|10)(?=\s(?:stars?|points?)\b)", r"\1 out of \2", "4/5 stars became four fifths"),
    row("number", r"(?<![\d.,])\d{1,3}(?:\.\d{3})+,\d{2}(?!\d)", lambda m: m.group().replace(".", "").replace(",", "."), "€1.234,56 fell apart"),
    row("times", r"(?<=\d)[x×](?=\d[\d.]{0,9}\s?(?:m|cm|mm|km|ft)\b)", " times ", "4x100m became minutes"),
    row("unit", r"(?<=\d)\s?(K|M|G|T)B/s(?![A-Za-z])", r" \1B per second", "1,008 GB/s kept its slash"),
    row("unit", r"(?<=\d)\s?mmHg\b", " millimeters of mercury", "it does not know it"),
    row("unit", r"(?<![\d.,])(?P<one>1)? in(?=\s?=)|(?<=\d) in(?=\s?=)", lambda m: "1 inch" if m["one"] else " inches", "1 in = 2.54 cm kept its letters"),
    row("emergency", r"\b([Cc]all|[Dd]ial) (\d{3})(?![\d-])", lambda m: f"{m.group(1)} {' '.join(m.group(2))}", "call 911 became nine hundred and eleven"),
    row("phone", r"(?<![\w.,$€£¥])\+\d{1,3}[ .-]?\(?\d{1,4}\)?(?:[ .-]?\d{2,4}){1,4}(?![\d-])", lambda m: "plus " + _apart(m), "it cannot read +1 555 123 4567"),
    row("phone", r"(?<![\w.,$€£¥+-])(?:1[ .-])?(?:\(\d{3}\) ?|\d{3}[ .-])\d{3}[ .-]\d{4}(?![\d-])", _apart, "5 5 5 with a pause, whatever stands between"),
    row("phone", r"(?<![\w.,$€£¥+-])(?!\d\d0-\d{3}0)\d{3}-\d{4}(?![\d-])", _apart, "555-1234 became a range"),
    row("card", r"(?<![\d-])\d{4}(?: \d{4}){2,4}(?: \d{1,4})?(?![\d-])", _apart, "a card's number became cardinals"),
    row("identity", r"(?<![\w.-])\d+(?:-\d+){3,}(?![\w-])", _apart, "ISBN 978-3-16-148410-0 became a mixture"),
    row("identity", r"(?<![\d.,$€£¥])(?!\d+000(?!\d))\d{10,}(?![\d%]|[.,]\d)", _digits, "a number of ten digits is an identity, not a quantity"),
    row("code", r"(?<=\b(?:ZIP|zip|PIN|pin) )(\d{4,})\b", _digits, "a code is read by its digits"),
    row("version", r"(?<![\d.])(\d{1,4})\.(\d{1,3})\.(\d{1,4})(?![\d.])", r"\1 point \2 point \3", "2.0.1 became two.zero point one"),
    row("angle", r"(?<=\d)°\s?(\d{1,2})[′\'’](?:\s?(\d{1,2}(?:\.\d+)?)(?:[″\"”]|′′|\'\'))?", lambda m: f" degrees {m.group(1)} minutes" + f" {m.group(2)} seconds" * bool(m.group(2)) + " ", "40°26′46″ kept its signs"),
    row("feet", r"(?<![\w.])(\d+)['’′]\s?(\d+)(?:[\"”″]|'')", r"\1 feet \2 inches", "5'3\" became five'three\\\""),
    row("feet", r"(\d)\s?ft\.?\s(\d+)\s?in\b\.?", r"\1 feet \2 inches", "5 ft 3 in became five feet three in"),
    row("number", r"(?<![\d,.])(\d+),(\d{1,2})(?=\s?(?:[€%]|(?:Euros?|EUR|[ck]?m|kg|g)\b))", r"\1.\2", "a decimal comma fell out"),
    row("minus", r"(?<![\w)])-(?=[$€£¥₹]\d)", "minus ", "-$5 kept its sign"),
    row("currency", rf"([$€£¥])({NUMBER})\s?[kK]\b", lambda m: f"{m.group(1)}{float(m.group(2)) * 1000:.0f}", "$5k became dollar five k"),
    row("currency", r"([$€£¥]\d[\d.,]{0,15})\s?[mM]\b", r"\1 million", "as $5k"),
    row("currency", r"([$€£¥]\d[\d.,]{0,15})\s?(?:[bB]|bn)\b", r"\1 billion", "as $5k"),
    row("currency", r"([$€£¥]\d[\d.,]{0,15})\s?[tT]\b", r"\1 trillion", "as $5k"),
    row("range", r"(?<=illion)\s?[-–—~]\s?(?=[$€£¥]\d)", " to ", "$1M-$2M kept its dash"),
    row("currency", r"([$€£¥]\d[\d.,]{0,15})-(?=[A-Za-z])", r"\1 ", "$5-ish became dollar five-ish"),
    row("unit", r"(?<=\d)(\s?(?:lbs?|oz|ft|hrs?|mins?|secs?|yds?|mi|km|kg|cm|mm))\.(?=\s[a-z\d])", r"\1", "5 lbs. of meat became two sentences"),
    row("ratio", r"(?<![\d:.])(\d{1,3}):(\d):(\d)(?![\d:])", r"\1 to \2 to \3", "1:2:3 kept its colon"),
    row("unit", r"(?<=\d)\s?in\.(?=\s[a-z])", " inches", "5 in. long ended a sentence"),
    row("ratio", r"(?<![\d:.])(\d{1,4}):(\d{3,9})(?![\d:])", r"\1 to \2", "1:1000 kept its colon"),
    row("range", r"(?<=\d)\s?[-–—]\s?(?=[$€£¥]\d)", " to ", "$1,000-$2,000 kept its dash"),
    row("minus", r"(?<=\d[a-z]) - (?=\w\b)|(?<=\b[a-z]) - (?=\d)", " minus ", "2x - 3 kept its sign"),
    row("minus", r"(?<=\b[a-z]) - (?=[a-z]\b[^.!?\n]{0,40}=)|(?<=\bUTC)-(?=\d)|(?<=\bGMT)-(?=\d)", " minus ", "as above"),
    row("minus", r"(?<=[(=]\d)-(?=[a-z]\b)", " minus ", "n(1-p) kept its sign"),
    row("minus", r"(?<=[(=])-(?=[a-z]\b)", "minus ", "as above"),
    row("over", r"(?<![\d/.])(\d{2,3})/(\d{2,3})(?![\d/])", lambda m: f"{m.group(1)} over {m.group(2)}" if int(m.group(1)) > int(m.group(2)) else m.group(), "120/80 became eightieths"),
    row("unit", rf"({NUMBER})\s?(mg|[μµn]g|kg|g|m?mol)/(c?m³|m²|dL|L|mL|kg)(?![\w²³])", lambda m: f"{m.group(1)} {_PARTS[m.group(2)]} per {_PARTS[m.group(3)][:-1]}", "20mg/L kept its letters"),
    row("range", r"(?<!\d)(1\d|20)(\d\d)\s?[-–—]\s?(1\d|20)(\d\d)(?![\d-])", r"\1\2 to \3\4", "years became cardinals"),
    row("range", rf"(?<![\w.,/-])(-?[$€£¥]?{NUMBER}%?)\s?(?:[–—~]|-)\s?([$€£¥]?{NUMBER}%?)(?![\d/-]|\.\d|\s?=)", r"\1 to \2", "10-20% became ten-twenty percent"),
    row("minus", rf"(?<![\w.])({NUMBER})\s?[-–]\s?({NUMBER})(?=\s?=)", r"\1 minus \2", "a difference became a range"),
    row("sign", r"(?<=\w)\s?≈\s?", " is about ", "it cannot read it"),
    row("about", r"[~≈]\s?(?=[$€£¥]?\d)", "about ", "~50 became approximatelyfifty"),
    row("currency", r"(?<![A-Za-z])[A-Z]{1,3}\$(?=\d)", "$", "US$5 became five us dollars, A$5 lost its sign"),
    row("per", rf"(?<=[$€£¥])({NUMBER})\s?/\s?(?=[A-Za-z\d])", r"\1 per ", "$0.02/1K became zero dollars point oh two"),
    row("per", r"(?<=illion)\s?/\s?(?=[A-Za-z])", " per ", "$1.5bn/yr kept its slash"),
    row("per", r"(?<=[\dn] per )(yr|mo|hr|wk|min|sec)\b\.?", lambda m: {"yr": "year", "mo": "month", "hr": "hour", "wk": "week", "min": "minute", "sec": "second"}[m.group(1)], "$50/yr kept its letters"),
    row("currency", rf"({NUMBER})\s?€", r"€\1", "5€ it cannot read"),
    row("currency", r"₹\s?(\d[\d,.]*\d|\d)", lambda m: f"{m.group(1).replace(',', '')} rupees", "it cannot read ₹, nor 1,00,000"),
    row("currency", rf"₽\s?(\d[\d,.]*\d|\d)|({NUMBER})\s?₽", r"\1\2 rubles", "it cannot read ₽"),
    row("currency", rf"({NUMBER})\s?¢", r"\1 cents", "it cannot read ¢"),
    row("number", r"(?<![\d,.])(\d+),(?=\d{1,2}(?![\d,]))", r"\1, ", "a comma that parts no thousands"),
    row("sign", r"(?<=\d) / (?=\d)", " divided by ", "10 / 2 kept its sign"),
    row("times", r"(?<![\w.])(\d+)([a-z])(?=\s?(?:[-+=^/)*]|minus\b))", r"\1 \2", "2x + 1 became two times plus one"),
    row("number", r"(?<![\d.,¥$€£₩])100(\d)(?!\d|[.,]\d)", lambda m: "one thousand" + f" {m.group(1)}" * (m.group(1) != "0"), "1000 became ten hundred, 1001 ten zero one"),
    row("unit", rf"(?<![\w.])({NUMBER})\s?m/s(?![A-Za-z])", r"\1 meters per second", "5m/s became five minutes per second"),
    *(row("unit", rf"(?<![\w.])(\d(?:[\d,.]{{0,15}}\d)?)\s?{unit}(?![\w²³^/'’])", rf"\1 {word}s", "unknown to it, or another unit: 5 m became five minutes") for word, unit in _UNITS),
    row("unit", r"℃", "°C", "one form for one thing"),
    row("unit", r"℉", "°F", "one form for one thing"),
    row("sign", r"(?<=°[CF])/(?=-?\d)", ", ", "100°F/38°C lost its degrees"),
    row("number sign", r"(?<=\d)#", "", "3# kept its sign"),
    row("unit", r"(?<=\d)\s?°(?![CF])", " degrees ", "the sign alone it cannot read"),
    row("unit", r"(?<=\d)°([CF])\b", r" °\1", "one form for one thing"),
    row("unit", rf"(?<![\d.,])1 ({'|'.join(name for name, _ in _UNITS)})s\b", r"1 \1", "one of them is no plural"),
    row("unit", r"(?<=\d/\d)(\s(?:teaspoon|tablespoon|liter|meter))s\b", r"\1", "a part of one is no plural"),
    row("power", r"(?<=[\w)])(?:\^2|²)(?!\d)", " squared", "x² became x zero, and 5^2 has a circumflex"),
    row("power", r"(?<=[\w)])(?:\^3|³)(?!\d)", " cubed", "as x²"),
    row("power", r"(?<=[\w)])\^\(?(-?\w+)\)?", r" to the power of \1", "10^6 has a circumflex"),
    row("power", r"(?<=[\d)])[⁰¹⁴-⁹⁻⁺ⁿ]+|(?<=\b[A-Za-z])[⁰¹⁴-⁹⁻⁺ⁿ]+", lambda m: f" to the power of {m.group().translate(SUPERSCRIPTS)}", "as x²"),
    row("footnote", r"[⁰¹²³⁴-⁹⁻⁺ⁿ]+", "", "a note's number is not part of the sentence"),
    row("times", r"(?<=\d)\s?[x×*]\s?(?=\d)", " times ", "3*4 kept its sign"),
    row("times", r"(?<=\w)\s?[×*]\s?(?=\w)", " times ", "as 3*4"),
    row("sign", r"(?<=[A-Za-z])\+\+", " plus plus", "C++"),
    row("sign", r"\s?≥\s?|\s?>=\s?", " is at least ", "5 >= 3 became five >equals three"),
    row("sign", r"\s?≤\s?|\s?<=\s?", " is at most ", "as >="),
    row("sign", r"\s?(?:≠|!=)\s?", " is not ", "as >="),
    row("arrow", r"(?<=[a-z\d])\s?[↑↓](?=\s?\+|\s?$)", "", "a gas or a precipitate: AgCl↓"),
    row("arrow", r"\s?(?:<?[-=]{1,9}>|<[-=]{1,9}|[\u2190-\u21ff]+)\s?", ", ", "an arrow is a pause"),
    row("sign", r"(?<=\w)\+(?![\w+])", " plus", "100+ kept its sign"),
    row("sign", r"(?<=\b[A-Z])-(?=[\s.,;!?)]|$)|(?<=\bRh)-(?![\w-])", " minus", "B- is no B"),
    row("sign", r"(?<=\w)\s?\+\s?(?=[\w(])", " plus ", "it cannot read a plus between letters"),
    row("sign", r"(?<!\w)\+(?=\d)", "plus ", "as above"),
    row("sign", r"\s?==?\s?", " equals ", "it cannot read it between letters"),
    row("sign", r"\s?÷\s?", " divided by ", "it cannot read it"),
    row("sign", r"\s?±\s?", " plus or minus ", "it cannot read it"),
    row("sign", r"\s?≈\s?", " is about ", "it cannot read it"),
    *(row("sign", rf"\s?{sign}\s?", f" {name} ", "it cannot read it") for sign, name in _SIGNS.items()),
    row("sign", r"∞", " infinity", "it cannot read it"),
    row("sign", r"√\s?", "the square root of ", "it cannot read it"),
    row("sign", r"(?<=\w)\s?<\s?(?=[\d-])|(?<=\w) < (?=\w)|<(?=\d)|(?<=\b\w)\s?<\s?(?=\w\b)|(?<=\d)\s?<\s?(?=[A-Za-z]\b)", " less than ", ">5 stayed as it was"),
    row("sign", r"(?<=\w)\s?>\s?(?=[\d-])|(?<=\w) > (?=\w)|>(?=\d)|(?<=\b\w)\s?>\s?(?=\w\b)|(?<=\d)\s?>\s?(?=[A-Za-z]\b)", " greater than ", "as <"),
    row("sign", r"§+\s?", "section ", "it cannot read it"),
    row("sign", r"\s?&+\s?", " and ", "Tom & Jerry it cannot read"),
    row("sign", r"(?<![A-Za-z0-9])@\s?", " at ", "as &"),
    row("sign", r"\s?@\s?", " at ", "as &"),
    row("sign", r"‰", " per mille", "it cannot read it"),
    row("sign", r"(?<!\d)\s?%", " percent ", "without a number it cannot read it"),
)  # fmt: skip
