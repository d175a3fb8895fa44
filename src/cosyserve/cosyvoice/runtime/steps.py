"""A step of the language model, one more token for each slot, on the device alone: by PyTorch or by Triton's kernels.

Steps come in sizes, each of which is a graph on a GPU. For PyTorch the size is how many positions attention sees.
Kernels see each slot's own by themselves, and theirs is the number of slots.
"""

from typing import TYPE_CHECKING, Protocol

from torch import Tensor

from cosyserve.cosyvoice.model.qwen2 import Cache, Llm
from cosyserve.cosyvoice.model.sampling import Draws, Nucleus, sample

if TYPE_CHECKING:
    from cosyserve.cosyvoice.kernels.kernels import Kernels

SPAN = 256  # positions by which attention grows


class Steps(Protocol):
    sizes: list[int]

    def size(self, slots: int, positions: int) -> int:
        """The least for the first `slots` slots, none of which is further than `positions`."""
        ...

    def step(self, size: int) -> None:
        """Scores, draw, and what the next step needs, of slots that are free, too: shapes never change, so a request's
        numbers do not depend on how many others there are."""
        ...

    def draw(self, scores: Tensor, number: int) -> None:
        """A slot's first token, from the scores (V,) behind its prompt."""
        ...


class TorchSteps:
    def __init__(self, llm: Llm, cache: Cache, draws: Draws, nucleus: Nucleus) -> None:
        self._llm, self._cache, self._draws, self._nucleus = llm, cache, draws, nucleus
        self.sizes = sorted({min(span, cache.length) for span in spans(cache.length)})

    def size(self, slots: int, positions: int) -> int:
        return next(size for size in self.sizes if size > min(positions, self.sizes[-1] - 1))

    def step(self, size: int) -> None:
        draws = self._draws
        scores = self._llm.decode(draws.token, draws.position.clamp(max=size - 1), self._cache, size)
        self._draw(scores, draws)
        draws.position.add_(1)

    def draw(self, scores: Tensor, number: int) -> None:
        self._draw(scores[None], self._draws.part(slice(number, number + 1)))

    def _draw(self, scores: Tensor, draws: Draws) -> None:
        step, recent = draws.step, draws.recent
        may_stop = step >= draws.least
        drawn = sample(scores, recent, draws.seed, step, may_stop, draws.temperature, self._nucleus)
        recent.scatter_(1, (step % self._nucleus.window)[:, None], drawn[:, None])
        draws.token.copy_(drawn)
        step.add_(1)


class KernelSteps:
    def __init__(self, llm: Llm, cache: Cache, draws: Draws, nucleus: Nucleus, kernels: "Kernels") -> None:
        # Triton is imported where a card is, and only then.
        from cosyserve.cosyvoice.runtime.fused_decoder import FusedDecoder

        self._decoder = FusedDecoder(llm, cache, kernels)
        self._draws, self._nucleus, self._kernels = draws, nucleus, kernels
        self.sizes = sorted({min(1 << exponent, cache.slots) for exponent in range(cache.slots.bit_length() + 1)})

    def size(self, slots: int, positions: int) -> int:
        return next(size for size in self.sizes if size >= slots)

    def step(self, size: int) -> None:
        draws = self._draws.part(slice(size))
        self._kernels.draw(self._decoder.step(draws.token, draws.position), draws, self._nucleus)

    def draw(self, scores: Tensor, number: int) -> None:
        self._kernels.draw(scores[None].float(), self._draws.part(slice(number, number + 1)), self._nucleus)


def spans(length: int) -> list[int]:
    """By how many positions attention grows up to such a length."""
    return list(range(SPAN, length + SPAN, SPAN))
