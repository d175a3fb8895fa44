"""The one vocabulary in which a plain Qwen2 speaks: text ids as they are, then speech tokens, stops and marks.

The public exports number them so (151663 to 158228 for the released CosyVoice2, padded to 158336; 151924 to 158684 for
CosyVoice3, padded to 158720); an engine of TensorRT-LLM knows nothing of two embeddings and a head of its own.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from cosyserve.cosyvoice.model.config import SPEECH_TOKENS, LlmConfig

_MULTIPLE = 128  # to which the table is padded, for the matrix products
# Added to the score of what must never be drawn. Its exponential is 0 in float32, and half precision can hold it. Minus
# infinity or the largest float might not work in another project's kernel.
NEVER = -1e4


@dataclass(frozen=True)
class Rows:
    """What stands behind the speech tokens, as places counted from the first of those."""

    scored: int  # rows of the head: speech tokens, then stops
    end: int  # the stop that is meant to end speech; any other ends it too
    begin: int
    task: int
    biased: bool  # whether the head has a bias

    @property
    def count(self) -> int:
        return max(self.scored, self.begin + 1, self.task + 1)

    @property
    def names(self) -> dict[int, str]:
        """As the public exports call them, those that they do not call like speech tokens."""
        if not self.biased:
            return {}
        stops = {place: f"<|eos{number}|>" for number, place in enumerate(range(SPEECH_TOKENS, self.scored), start=1)}
        return {**stops, self.begin: "<|sos|>", self.task: "<|task_id|>"}


# CosyVoice2's marks follow the rows of its head; CosyVoice3's are some of its 200 stops.
COSYVOICE2 = Rows(SPEECH_TOKENS + 3, end=SPEECH_TOKENS, begin=SPEECH_TOKENS + 3, task=SPEECH_TOKENS + 4, biased=True)
COSYVOICE3 = Rows(SPEECH_TOKENS + 200, SPEECH_TOKENS + 1, SPEECH_TOKENS, SPEECH_TOKENS + 2, biased=False)


@dataclass(frozen=True)
class Vocabulary:
    """`text` is the number of text ids, the tokenizer's marks among them."""

    text: int
    rows: Rows = COSYVOICE2

    @classmethod
    def of(cls, config: LlmConfig, text: int) -> "Vocabulary":
        return cls(text, COSYVOICE2 if config.marks else COSYVOICE3)

    @property
    def speech(self) -> range:
        """The ids of the speech tokens."""
        return range(self.text, self.text + SPEECH_TOKENS)

    @property
    def stops(self) -> range:
        """All that end speech."""
        return range(self.text + SPEECH_TOKENS, self.text + self.rows.scored)

    @property
    def end(self) -> int:
        """The one that is meant."""
        return self.text + self.rows.end

    @property
    def begin(self) -> int:
        """Stands before the text."""
        return self.text + self.rows.begin

    @property
    def task(self) -> int:
        """Stands between text and speech."""
        return self.text + self.rows.task

    @property
    def size(self) -> int:
        return -(-(self.text + self.rows.count) // _MULTIPLE) * _MULTIPLE

    def names(self) -> dict[str, int]:
        """What the ids after the text's are called."""
        names = self.rows.names
        return {names.get(place, f"<|s_{place}|>"): self.text + place for place in range(self.rows.count)}

    def prompt(self, text: Sequence[int], speech: Sequence[int]) -> list[int]:
        """Text ids and the recording's speech tokens as the ids that a generation starts from."""
        return [self.begin, *text, self.task, *(self.text + token for token in speech)]

    def bias(self, head: Tensor | None = None) -> Tensor:
        """What is added to the scores of all ids (size,) so that they mean what the model's own head would say.

        `head` (6564,) is the bias of `llm_decoder`, which an engine's head has no room for; None where it has none. The
        softmax over all ids then is the softmax over speech tokens and stops: everything else has an exponential of 0.
        """
        bias = torch.full((self.size,), NEVER, dtype=torch.float32)
        bias[self.text : self.text + self.rows.scored] = 0.0 if head is None else head.float()
        return bias

    def with_one_stop(self, bias: Tensor) -> Tensor:
        """`bias` with `end` as the only stop that can be drawn. An engine can hold back only that one until a request
        has its fewest tokens, and another stop before that would disturb all tokens after it."""
        bias = bias.clone()
        bias[[stop for stop in self.stops if stop != self.end]] = NEVER
        return bias
