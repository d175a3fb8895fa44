"""The wording that the language model reads before the text, by edition and kind of speech.

Its ids (T,) are the `prompt_text` of a request. A request is one segment, so every segment gets the wording.
"""

from typing import Protocol

import torch
from torch import Tensor

from cosyserve.cosyvoice.frontend.marks import SYSTEM
from cosyserve.cosyvoice.frontend.tokenizer import TextTokenizer


class Wording(Protocol):
    def words(self, tokenizer: TextTokenizer, ids: Tensor) -> Tensor:
        """Zero-shot. The recording's words have these ids (T,); its speech tokens follow the text."""
        ...

    def nothing(self, tokenizer: TextTokenizer) -> Tensor:
        """Cross-lingual: neither the recording's words nor its speech tokens."""
        ...

    def instruction(self, tokenizer: TextTokenizer, text: str) -> Tensor:
        """Instructed: `text` says how to speak. No speech tokens either."""
        ...


class Bare:
    """CosyVoice2's: words and instructions as they are."""

    def words(self, tokenizer: TextTokenizer, ids: Tensor) -> Tensor:
        return ids

    def nothing(self, tokenizer: TextTokenizer) -> Tensor:
        return torch.empty(0, dtype=torch.long)

    def instruction(self, tokenizer: TextTokenizer, text: str) -> Tensor:
        return tokenizer.closed(text)


class Led:
    """CosyVoice3's, closed by a mark. Without the mark the model speaks the recording's words as well."""

    def words(self, tokenizer: TextTokenizer, ids: Tensor) -> Tensor:
        """An imported voice may bring ids that are closed already."""
        return ids if tokenizer.end_of_prompt in ids else torch.cat((tokenizer.closed(SYSTEM), ids))

    def nothing(self, tokenizer: TextTokenizer) -> Tensor:
        return tokenizer.closed(SYSTEM)

    def instruction(self, tokenizer: TextTokenizer, text: str) -> Tensor:
        return tokenizer.closed(f"{SYSTEM} {text.removeprefix(SYSTEM).lstrip()}")
