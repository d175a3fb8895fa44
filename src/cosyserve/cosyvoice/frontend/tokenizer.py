"""Text to token ids: Qwen2's byte-level pairs, and the marks that CosyVoice2 adds to them."""

import json
from pathlib import Path

import torch
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers
from torch import Tensor

from cosyserve.cosyvoice.model.loading import WeightsError

FOLDER = "CosyVoice-BlankEN"
VOCABULARY, MERGES = "vocab.json", "merges.txt"

# How Qwen2 cuts a text before pairs are merged (its tokenizer.json): contractions, words with the sign before them,
# single digits, runs of signs, line ends, spaces.
_PIECES = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)

# Their ids follow the vocabulary's in this order: Qwen2's three, then CosyVoice2's (151643 to 151662 as released).
END_OF_PROMPT = "<|endofprompt|>"
CONTROLS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", END_OF_PROMPT)
MARKS = ("[breath]", "<strong>", "</strong>", "[noise]", "[laughter]", "[cough]", "[clucking]", "[accent]") + (
    "[quick_breath]",
    "<laughter>",
    "</laughter>",
    "[hissing]",
    "[sigh]",
    "[vocalized-noise]",
    "[lipsmack]",
    "[mn]",
)


class TextTokenizer:
    """Marks such as `[laughter]` in a text become their own tokens. Controls such as `<|endofprompt|>` do not: only
    this class writes them, so that no text can pass for an instruction."""

    def __init__(self, folder: Path) -> None:
        """From a model's folder, whose `CosyVoice-BlankEN/` has the vocabulary; raises `WeightsError`."""
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
        self._ids = {mark: size + place for place, mark in enumerate((*CONTROLS, *MARKS))}
        self.size = size + len(self._ids)
        # `tokenizers` numbers what is added one after the other. Controls are added under a name no text has.
        self._tokenizer.add_tokens([AddedToken(f"\0{mark}", normalized=False) for mark in CONTROLS])
        self._tokenizer.add_tokens([AddedToken(mark, normalized=False) for mark in MARKS])

    def encode(self, text: str) -> Tensor:
        """The ids (T,) of a text."""
        return torch.tensor(self._tokenizer.encode(text.replace("\0", "")).ids, dtype=torch.long)

    def instruction(self, text: str) -> Tensor:
        """The ids of an instruction on how to speak, closed as the model expects it."""
        return torch.cat((self.encode(text), torch.tensor([self._ids[END_OF_PROMPT]])))

    def decode(self, ids: Tensor) -> str:
        return str(self._tokenizer.decode(ids.tolist()))
