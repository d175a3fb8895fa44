"""Text to token ids: Qwen2's byte-level pairs, and the marks that an edition of CosyVoice adds to them."""

import json
import unicodedata
from collections.abc import Sequence
from pathlib import Path

import torch
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers
from torch import Tensor

from cosyserve.cosyvoice.frontend.marks import COSYVOICE2, END_OF_PROMPT, is_control
from cosyserve.cosyvoice.model.loading import WeightsError

FOLDER = "CosyVoice-BlankEN"
VOCABULARY, MERGES = "vocab.json", "merges.txt"

# How Qwen2 cuts a text before pairs are merged (its tokenizer.json): contractions, words with the sign before them,
# single digits, runs of signs, line ends, spaces.
_PIECES = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


class TextTokenizer:
    """Marks such as `[laughter]` in a text become their own tokens. Controls such as `<|endofprompt|>` do not: only
    this class writes them, so that no text can pass for an instruction."""

    def __init__(self, folder: Path, added: Sequence[str] = COSYVOICE2) -> None:
        """From a model's folder, whose `CosyVoice-BlankEN/` has the vocabulary; the ids of what is `added` follow it.
        Raises `WeightsError`."""
        files = [folder / FOLDER / name for name in (VOCABULARY, MERGES)]
        for file in files:
            if not file.is_file():
                raise WeightsError(f"{file} is missing")
        try:
            ids = json.loads(files[0].read_text(encoding="utf-8"))
            size = len(ids)
            if max(ids.values()) >= size:
                raise ValueError(f"it has an id above {size - 1}")
            self._tokenizer = Tokenizer(models.BPE.from_file(*map(str, files)))
        except Exception as error:  # what `tokenizers` raises is a plain Exception
            raise WeightsError(f"{files[0].parent}: {VOCABULARY} or {MERGES} is damaged: {error}") from error
        self._tokenizer.normalizer = normalizers.NFC()
        self._tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [
                pre_tokenizers.Split(Regex(_PIECES), "isolated"),
                pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
            ]
        )
        self._tokenizer.decoder = decoders.ByteLevel()
        self.added = added
        self.end_of_prompt = size + added.index(END_OF_PROMPT)
        self.size = size + len(added)
        # `tokenizers` numbers added tokens in their order. Controls are added under names that no text can have.
        names = (f"\0{mark}" if is_control(mark) else mark for mark in added)
        self._tokenizer.add_tokens([AddedToken(name, normalized=False) for name in names])

    def encode(self, text: str) -> Tensor:
        """The ids (T,) of a text."""
        composed = unicodedata.normalize("NFC", text.replace("\0", ""))  # because `tokenizers` looks for marks first
        return torch.tensor(self._tokenizer.encode(composed).ids, dtype=torch.long)

    def closed(self, text: str) -> Tensor:
        """The ids of a text that tells how to speak, closed as the model expects it."""
        return torch.cat((self.encode(text), torch.tensor([self.end_of_prompt])))

    def decode(self, ids: Tensor) -> str:
        return str(self._tokenizer.decode(ids.tolist()))
