"""The one vocabulary in which a plain Qwen2 speaks: text ids as they are, then speech tokens, stops and marks.

The public export numbers them so (151663 to 158228 for the released model, padded to 158336); an engine of
TensorRT-LLM knows nothing of two embeddings and a head of its own.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from cosyserve.cosyvoice.model.config import SPEECH_TOKENS, STOP_TOKENS

_SPEECH = SPEECH_TOKENS + len(STOP_TOKENS)
_MULTIPLE = 128  # to which the table is padded, for the matrix products
# Added to the score of what is never to be drawn. Its exponential is 0 in float32, and half precision can hold it,
# which minus infinity and the largest float cannot promise in a kernel of somebody else's.
NEVER = -1e4


@dataclass(frozen=True)
class Vocabulary:
    """`text` is the number of text ids, the tokenizer's marks among them."""

    text: int

    @property
    def speech(self) -> range:
        """The ids of the speech tokens."""
        return range(self.text, self.text + SPEECH_TOKENS)

    @property
    def stops(self) -> range:
        """End of speech, and the two that end it all the same."""
        return range(self.text + SPEECH_TOKENS, self.text + _SPEECH)

    @property
    def begin(self) -> int:
        """Stands before the text."""
        return self.text + _SPEECH

    @property
    def task(self) -> int:
        """Stands between text and speech."""
        return self.text + _SPEECH + 1

    @property
    def size(self) -> int:
        return -(-(self.task + 1) // _MULTIPLE) * _MULTIPLE

    def names(self) -> dict[str, int]:
        """What the ids after the text's are called."""
        speech = {f"<|s_{token}|>": number for token, number in enumerate(self.speech)}
        stops = {f"<|eos{place}|>": number for place, number in enumerate(self.stops, start=1)}
        return {**speech, **stops, "<|sos|>": self.begin, "<|task_id|>": self.task}

    def prompt(self, text: Sequence[int], speech: Sequence[int]) -> list[int]:
        """Text ids and the recording's speech tokens as the ids that a generation starts from."""
        return [self.begin, *text, self.task, *(self.text + token for token in speech)]

    def bias(self, head: Tensor) -> Tensor:
        """What is added to the scores of all ids (size,) so that they mean what the model's own head would say.

        `head` (6564,) is the bias of `llm_decoder`, which an engine's head has no room for. The softmax over all ids
        then is the softmax over speech tokens and stops: everything else has an exponential of 0.
        """
        bias = torch.full((self.size,), NEVER, dtype=torch.float32)
        bias[self.text : self.text + _SPEECH] = head.float()
        return bias

    def with_one_stop(self, bias: Tensor) -> Tensor:
        """`bias`, and of the stops the first alone can be drawn: an engine holds back no other until a request has its
        fewest tokens, and one that came before that would be in the way of all that follow."""
        bias = bias.clone()
        bias[self.stops[1] : self.stops[-1] + 1] = NEVER
        return bias
