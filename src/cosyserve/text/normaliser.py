"""wetext in a process of its own (`normalise`), because it holds the interpreter until it is done."""

import json

from wetext import Normalizer

# Made at the import, so that every child of the process has them.
_NORMALISERS = {language: Normalizer(lang=language, operator="tn", remove_erhua=False) for language in ("zh", "en")}
for each in _NORMALISERS.values():
    each.normalize("1")  # its grammar is read at the first use


def normalise(asked: bytes) -> bytes:
    """A language and texts, as JSON; gives each text as it is said, or null where its grammar has no way through."""
    language, texts = json.loads(asked)
    return json.dumps([_said(language, text) for text in texts]).encode()


def _said(language: str, text: str) -> str | None:
    try:
        return str(_NORMALISERS[language].normalize(text))
    except (AssertionError, RuntimeError):
        return None
