"""Which speech token comes next: repetition-aware sampling (VALL-E 2), as CosyVoice2 was tuned with.

A token is drawn from the nucleus; one that was heard in the last ten is drawn again from everything else. All requests
of a batch are drawn together, each from random numbers of its own that depend on its seed and its step alone, so a
request is repeatable whatever else runs beside it.

`kernels/draw.py` does the same as one kernel: what changes here changes there.
"""

from dataclasses import dataclass, fields

import torch
from torch import Tensor

from cosyserve.cosyvoice.model.config import SPEECH_TOKENS

_32_BITS = 0xFFFFFFFF
_UNIFORM_BITS = 23  # 1 − 2⁻²³ is the largest number drawn: times a total, it stays below it in float32
_SHORTEST, _LONGEST = 2, 20  # speech tokens for one of text


@dataclass(frozen=True)
class Nucleus:
    top_p: float = 0.8
    top_k: int = 25
    window: int = 10
    tau: float = 0.1  # share of the window from which a token counts as repeated

    @property
    def repeated_from(self) -> float:
        return self.window * self.tau


@dataclass(frozen=True)
class Draws:
    """The token drawn for each slot and what it depends on, (S,) each, and the last tokens `recent` (S, window).

    A free slot is at position 0, so kernels read nothing for it.
    """

    token: Tensor
    position: Tensor
    step: Tensor
    seed: Tensor
    least: Tensor  # steps before a stop token may come
    temperature: Tensor  # float32; 0 is greedy
    recent: Tensor  # −1 where there was none

    @classmethod
    def of(cls, slots: int, window: int, device: torch.device) -> "Draws":
        def zeros(dtype: torch.dtype = torch.long) -> Tensor:
            return torch.zeros(slots, dtype=dtype, device=device)

        recent = torch.full((slots, window), -1, device=device)
        return cls(zeros(), zeros(), zeros(), zeros(), zeros(), zeros(torch.float32), recent)

    def part(self, rows: slice) -> "Draws":
        """Those of some slots, in the same memory."""
        return Draws(*(getattr(self, field.name)[rows] for field in fields(self)))


def length_limits(text_tokens: int) -> tuple[int, int]:
    """The fewest and the most speech tokens for a text, its prompt not counted."""
    return _SHORTEST * text_tokens, _LONGEST * text_tokens


def sample(
    scores: Tensor,
    recent: Tensor,
    seeds: Tensor,
    steps: Tensor,
    may_stop: Tensor,
    temperature: Tensor,
    nucleus: Nucleus = Nucleus(),
) -> Tensor:
    """The next token (S,) of each request.

    `scores` (S, V); `recent` (S, window) the last tokens, −1 where there was none; `seeds`, `steps` (S,) integers;
    `may_stop` (S,) whether the text is long enough for a stop token; `temperature` (S,), 0 being greedy.
    """
    scores = scores.float()
    stops = torch.arange(scores.shape[1], device=scores.device) >= SPEECH_TOKENS  # they are the last
    scores = scores.masked_fill(stops & ~may_stop[:, None], -torch.inf)
    probabilities = (scores / temperature.clamp(min=1e-6)[:, None]).softmax(1)
    likely, tokens = probabilities.topk(nucleus.top_k, dim=1)
    # The token that crosses top_p belongs to the nucleus.
    inside = likely * (likely.cumsum(1) - likely < nucleus.top_p)
    drawn = tokens.gather(1, _draw(inside, uniform(seeds, steps, 0)))
    repeated = (recent == drawn).sum(1) >= nucleus.repeated_from
    others = _draw(probabilities.scatter(1, drawn, 0), uniform(seeds, steps, 1))
    drawn = torch.where(repeated[:, None], others, drawn)
    return torch.where(temperature == 0, scores.argmax(1), drawn[:, 0])


def _draw(weights: Tensor, at: Tensor) -> Tensor:
    """The index (S, 1) where the running sum of `weights` (S, V) passes the share `at` (S,) of the whole."""
    running = weights.cumsum(1)
    return (running <= at[:, None] * running[:, -1:]).sum(1, keepdim=True).clamp(max=weights.shape[1] - 1)


def uniform(seeds: Tensor, steps: Tensor, which: int) -> Tensor:
    """Numbers in [0, 1) that depend on nothing but the arguments, on every device alike."""
    hashed = _mixed(_mixed(_mixed(seeds & _32_BITS) ^ (seeds >> 32 & _32_BITS)) ^ (2 * steps + which))
    return (hashed >> (32 - _UNIFORM_BITS)).float() / (1 << _UNIFORM_BITS)


def _mixed(x: Tensor) -> Tensor:
    """MurmurHash3's finaliser, on 32 bits in int64: products overflow, and their low halves are right all the same."""
    x = x ^ (x >> 16)
    x = x * 0x85EBCA6B & _32_BITS
    x = x ^ (x >> 13)
    x = x * 0xC2B2AE35 & _32_BITS
    return x ^ (x >> 16)
