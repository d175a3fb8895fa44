"""What the language model reads before the text: in zero-shot, cross-lingual and instructed speech, by edition.

Ids (T,) as `prompt_text` of a request. A request is of one segment, so a text is cut first and led after.
"""

from typing import Protocol

import torch
from torch import Tensor

from cosyserve.cosyvoice.frontend.marks import SYSTEM
from cosyserve.cosyvoice.frontend.tokenizer import TextTokenizer


class Wording(Protocol):
    def words(self, tokenizer: TextTokenizer, ids: Tensor) -> Tensor:
        """Zero-shot: before the text, and after it the recording's speech tokens, whose words have these ids (T,)."""
        ...

    def nothing(self, tokenizer: TextTokenizer) -> Tensor:
        """Cross-lingual: without words, and without speech tokens."""
        ...

    def instruction(self, tokenizer: TextTokenizer, text: str) -> Tensor:
        """Instructed: how to speak, again without speech tokens."""
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
    """CosyVoice3's, which speaks the recording's words again where nothing closes what comes before the text."""

    def words(self, tokenizer: TextTokenizer, ids: Tensor) -> Tensor:
        """A voice from elsewhere may come with its lead."""
        return ids if tokenizer.end_of_prompt in ids else torch.cat((tokenizer.closed(SYSTEM), ids))

    def nothing(self, tokenizer: TextTokenizer) -> Tensor:
        return tokenizer.closed(SYSTEM)

    def instruction(self, tokenizer: TextTokenizer, text: str) -> Tensor:
        return tokenizer.closed(f"{SYSTEM} {text.removeprefix(SYSTEM).lstrip()}")
