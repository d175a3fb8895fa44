"""In which pieces the speech tokens of an utterance become sound."""

from collections import deque
from collections.abc import Collection
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from cosyserve.cosyvoice.frontend.prompt_encoder import Prompt
from cosyserve.cosyvoice.model.config import CHUNK_TOKENS, FRAMES_PER_TOKEN, LOOK_AHEAD, TOKENS_PER_SECOND

_SHORT = 4 * TOKENS_PER_SECOND  # tokens of a recording
_PAUSE = 5  # silent tokens in a row


@dataclass(frozen=True)
class Hops:
    """How many tokens become sound at once: few at first, so that it is soon, then more, which costs less.

    Every hop ends where a chunk of the streaming mask ends, or the result would depend on the hops. The first may be
    shorter than a chunk, since a recording may begin a little later, see `aligned`; behind a short recording it is
    longer, see `behind`.
    """

    first: int = 10
    longest: int = 2 * CHUNK_TOKENS

    def tokens(self, hop: int) -> int:
        """The size of each hop; the first also waits for what the encoder looks ahead."""
        return self.first if hop == 0 else min(CHUNK_TOKENS << (hop - 1), self.longest)

    def aligned(self, prompt: Prompt, most: int | None = None) -> Prompt:
        """The recording without up to a second of its beginning, so that it and the first hop are whole chunks; of one
        that is longer than `most` tokens, its end. One below four seconds has nothing to lose and stays."""
        count = len(prompt.speech)
        if count < _SHORT and (most is None or count <= most):
            return prompt
        surplus = (count + self.first) % CHUNK_TOKENS
        if most is not None:
            surplus += -(-max(0, count - surplus - most) // CHUNK_TOKENS) * CHUNK_TOKENS
        return Prompt(prompt.speech[surplus:], prompt.mel[surplus * FRAMES_PER_TOKEN :], prompt.speaker)

    def behind(self, recorded: int) -> "Hops":
        """The hops that follow a recording of so many tokens: the first goes on to where a chunk ends."""
        return replace(self, first=self.first + -(recorded + self.first) % CHUNK_TOKENS)


class Pauses:
    """Which speech tokens become sound: all but `silent` ones that follow five others in a row."""

    def __init__(self, silent: Collection[int]) -> None:
        self._silent, self._row = silent, 0

    def keep(self, token: int) -> bool:
        """Whether the next token is to be kept."""
        self._row = self._row + 1 if token in self._silent else 0
        return self._row <= _PAUSE


class Tokens:
    """The speech tokens of one utterance, given out in hops. One thread may add while another takes."""

    def __init__(self, hops: Hops, silent: Collection[int] = ()) -> None:
        """`silent` are those of which only so many in a row become sound, see `Pauses`."""
        self._hops, self._hop, self._pauses = hops, 0, Pauses(silent)
        self._waiting = deque[int]()
        self._complete = False

    def add(self, token: int) -> None:
        if self._pauses.keep(token):
            self._waiting.append(token)

    def complete(self) -> None:
        """No more tokens will come."""
        self._complete = True

    @property
    def ready(self) -> bool:
        """Whether the next hop is there."""
        return self._complete or len(self._waiting) >= self._needed

    @property
    def _needed(self) -> int:
        return self._hops.tokens(self._hop) + (LOOK_AHEAD if self._hop == 0 else 0)

    def take(self) -> tuple[Tensor, bool]:
        """The tokens (1, T) of the next hop, and whether it is the last. A full one never is: whether it is known by
        then that no more come depends on the machine, and a seed would sound otherwise."""
        needed = self._needed
        hop = [self._waiting.popleft() for _ in range(min(needed, len(self._waiting)))]
        self._hop += 1
        return torch.tensor([hop], dtype=torch.long), len(hop) < needed
