"""How web addresses, e-mail addresses and dotted names are said: by their words, with the signs between them named.

What is said of an address is its host and its path. Scheme, `www.`, query and fragment are skipped, and so is a path
that is long or encoded, which nobody could follow.
"""

import re

_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9_-]{0,60}[A-Za-z0-9])?"  # as long as the domain name system lets it be
# Last parts of names. Others may be words behind a full stop without a space: `Hello.how are you`.
_ENDINGS = (
    "com|org|net|io|ai|co|uk|cn|de|fr|jp|kr|ru|eu|gov|edu|mil|int|info|biz|dev|app|tech|xyz|tv|cc|top|site|online|store|shop"
    "|cloud|hk|tw|sg|ca|au|ch|nl|se|es|br|pl|txt|pdf|docx?|xlsx?|pptx?|csv|tsv|jsonl?|ya?ml|toml|xml|html?|css|js|mjs|ts|jsx"
    "|tsx|vue|py|ipynb|rb|rs|cpp|hpp|java|kt|swift|php|sh|bat|exe|dll|md|rst|ini|cfg|conf|sql|db|zip|tar|gz|tgz|rar|png|jpe?g"
    "|gif|svg|webp|bmp|mp3|mp4|wav|flac|ogg|opus|aac|m4a|avi|mov|mkv|pth|pt|onnx|safetensors|gguf|bak|tmp|iso|apk|dmg|deb|whl"
)
_BEHIND = r"(?![A-Za-z0-9_@]|\.[A-Za-z0-9])"
_PATH = r"(?::\d{2,5})?(?:[/?#][!-~]*)?"
LINK = re.compile(
    r"(?<![A-Za-z0-9_@.])(?:"
    r"(?P<scheme>[a-z][a-z0-9+.-]{1,20}://|mailto:)[!-~]+"
    rf"|(?P<mail>[A-Za-z0-9_.+%-]{{1,64}}@{_LABEL}(?:\.{_LABEL}){{1,8}})"
    r"|(?P<path>(?<![^\s\"'“‘（(：，,。；`])(?:[A-Za-z]:|~|\.{1,2})?(?:/[A-Za-z0-9_.-]+)+/?|(?<=[\u4e00-\u9fff])(?:~|(?=/[a-z]))(?:/[A-Za-z0-9_.-]+){2,}/?)"
    rf"|(?P<name>localhost(?::\d{{2,5}}){_PATH}|{_LABEL}(?:\.{_LABEL}){{0,8}}\.(?:{_ENDINGS}|{_ENDINGS.upper()}){_BEHIND}{_PATH}"
    rf"|{_LABEL}(?:\.{_LABEL}){{0,8}}\.[a-z]{{2,}}/[!-~]+|[a-z_]{{2,}}(?:\.[a-z_]{{2,}}){{2,}}{_BEHIND})"
    r")",
)
_TRAILING = re.compile(r"[.,;:!?'\"()\[\]{}<>*_~]+$")
_ABBREVIATION = re.compile(r"(?:[A-Za-z]\.)+(?:and|or|in|on|at|the|to|is)$")
_LONGEST_PATH = 40
_ENGLISH = {
    ".": "dot",
    "/": "slash",
    "@": "at",
    "_": "underscore",
    "-": "dash",
    ":": "colon",
    "+": "plus",
    "~": "tilde",
}
_CHINESE = {".": "点", "/": "斜杠", "@": "艾特", "_": "下划线", "-": "杠", ":": "冒号", "+": "加", "~": "波浪号"}
_SIGNS = {"en": _ENGLISH, "zh": _CHINESE}


def said(match: re.Match[str], language: str) -> str:
    """A match of `LINK` in words, or shortened in another language than these. Digits stand apart, as each is read."""
    address = _TRAILING.sub("", match.group())
    if _ABBREVIATION.match(address):  # a space was forgotten: "e.g.the"
        return match.group()
    tail = match.group()[len(address) :]
    address = re.sub(r"^(?:\w+://|mailto:)(?:www\.)?|^www\.", "", address)
    if not match["mail"] and not match["path"]:
        host, slash, path = re.split(r"[?#]", address, maxsplit=1)[0].rstrip("/").partition("/")
        address = host + slash + path if len(path) <= _LONGEST_PATH and "%" not in path else host
    signs = _SIGNS.get(language)
    if signs is None:
        return address + tail
    words = re.sub(r"[^A-Za-z0-9]", lambda sign: f" {signs.get(sign.group(), '')} ", address)
    words = re.sub(r"\d", lambda digit: f" {digit.group()} ", words)
    return " ".join(words.split()) + tail
