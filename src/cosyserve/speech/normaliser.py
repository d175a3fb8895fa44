"""wetext, as it runs in a process of its own (`normalisation`): it holds the interpreter until it is done."""

from wetext import Normalizer

# Made at the import, so that every child of the process has them.
_NORMALISERS = {language: Normalizer(lang=language, operator="tn", remove_erhua=False) for language in ("zh", "en")}
for each in _NORMALISERS.values():
    each.normalize("1")  # its grammar is read at the first use


def normalise(asked: bytes) -> bytes:
    """A line with the language, and a sentence; gives the sentence as it is said."""
    language, _, sentence = asked.decode().partition("\n")
    try:
        said: str = _NORMALISERS[language].normalize(sentence)
    except (AssertionError, RuntimeError):  # its grammar has no way through some lone control characters
        said = sentence
    return said.encode()
