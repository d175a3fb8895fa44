"""Marks that a text may hold for the model: sounds such as `[breath]`, and tags around words. They pass as they are."""

import re

SOUNDS = (
    *(
        "[breath]",
        "[noise]",
        "[laughter]",
        "[cough]",
        "[clucking]",
        "[accent]",
        "[quick_breath]",
        "[hissing]",
        "[sigh]",
    ),
    *("[vocalized-noise]", "[lipsmack]", "[mn]"),
)
TAGS = ("<strong>", "</strong>", "<laughter>", "</laughter>")

SOUND = re.compile("|".join(map(re.escape, SOUNDS)))
# Controls of tokenizers (`<|endofprompt|>`) are no marks, but plain characters; they stay as they are, too.
PROTECTED = re.compile("|".join(map(re.escape, SOUNDS + TAGS)) + r"|<\|[^|<>\n]{1,40}\|>")


def has_speech(text: str) -> bool:
    """Whether there is a letter or a digit beside the marks."""
    return any(map(str.isalnum, PROTECTED.sub("", text)))
