"""Speech tokens for several requests at once: slots that are filled, advanced together, and freed.

One step advances every slot by one token, on the device alone: scores, draw, and what the next step needs. The host
reads tokens while the next step runs, so that the device never waits for it.
"""

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from cosyserve.cosyvoice.model.config import SPEECH_TOKENS
from cosyserve.cosyvoice.model.qwen2 import Llm
from cosyserve.cosyvoice.model.sampling import Draws, Nucleus, length_limits
from cosyserve.cosyvoice.runtime.graphs import Make, Pool, captured, new_pool
from cosyserve.cosyvoice.runtime.prefill import KernelPrefill, Piece, Prefill, TorchPrefill
from cosyserve.cosyvoice.runtime.steps import KernelSteps, Steps, TorchSteps

if TYPE_CHECKING:
    from cosyserve.cosyvoice.kernels.kernels import Kernels

PIECE = 256  # positions of a prompt that a GPU reads at once, so that the tokens of others do not stop
_PIECES = 2  # of a prompt that are read before a step


@dataclass(frozen=True)
class Request:
    """What is to be said, as ids: the text, the text and the speech tokens of the voice's recording."""

    text: Tensor
    prompt_text: Tensor
    prompt_speech: Tensor
    seed: int = 0
    temperature: float = 1.0

    @property
    def prompt_positions(self) -> int:
        """What it takes of a slot before its first token."""
        return len(self.text) + len(self.prompt_text) + len(self.prompt_speech) + 2


@dataclass
class Slot:
    """A request that is being spoken."""

    most: int  # tokens
    spoken: int = 0
    done: bool = False
    problem: Exception | None = None  # why it is done, where it failed by itself


@dataclass
class _Reading:
    """A request whose prompt is being read."""

    request: Request
    slot: Slot
    number: int
    prompt: Tensor  # (T, W)
    read: int = 0
    into: int = -1  # the prefill's slot, −1 before the first piece

    def piece(self, size: int) -> Piece:
        """The next one. What comes after the prompt is overwritten token by token."""
        rows = self.prompt[self.read : self.read + size]
        return Piece(F.pad(rows, (0, 0, 0, size - len(rows))), self.into, self.read, len(rows) - 1)


class NoRoomError(ValueError):
    """A request leaves no room for its shortest answer."""


class EngineBrokenError(RuntimeError):
    """The engine itself is gone, not a request: this process will not speak again."""


class RequestFailedError(RuntimeError):
    """The engine failed one request."""


class RequestRefusedError(RequestFailedError):
    """The engine does not take a request as it is."""


class TokenGenerator(Protocol):
    """Interface: speech tokens for several requests at once. Not to be used from two threads."""

    @property
    def slots(self) -> int:
        """Requests at once."""
        ...

    @property
    def busy(self) -> bool: ...

    def graphs(self) -> list[Make]:
        """What makes each graph of a GPU, to be called before the first request. It takes seconds."""
        ...

    def add(self, request: Request) -> Slot:
        """Begin a request; raises `NoRoomError`."""
        ...

    def remove(self, slot: Slot) -> None:
        """A request that is done, or that nobody waits for any more, frees its slot."""
        ...

    def advance(self, patience: float) -> list[tuple[Slot, int]]:
        """The tokens that came, in their order. Where they come from elsewhere, waits `patience` seconds at most."""
        ...

    def close(self) -> None: ...


class Generator:
    """`slots` requests of at most `length` positions each, whose prompts are read in pieces of `piece` positions: by
    default on a GPU alone. Without `kernels` PyTorch makes the steps. Not to be used from two threads."""

    def __init__(
        self,
        llm: Llm,
        slots: int,
        length: int,
        nucleus: Nucleus = Nucleus(),
        piece: int | None = None,
        kernels: "Kernels | None" = None,
    ) -> None:
        self._llm = llm
        llm.fuse()
        self._cache = llm.cache(slots, length)
        self._device = llm.speech_embedding.weight.device
        self._slots: dict[int, Slot] = {}
        self._positions = [0] * slots  # as the host counts them, so that it need not ask
        self._graphs: dict[int, torch.cuda.CUDAGraph] = {}
        self._piece = PIECE if piece is None and self._device.type == "cuda" else piece
        self._reading: list[_Reading] = []  # the first of them have a slot of the prefill's
        self._pool = new_pool()
        self._prefill = None if self._piece is None else _prefill(llm, length, self._piece, self._pool, kernels)
        self._draws = Draws.of(slots, nucleus.window, self._device)
        parts = llm, self._cache, self._draws, nucleus
        self._steps: Steps = TorchSteps(*parts) if kernels is None else KernelSteps(*parts, kernels)

    @property
    def slots(self) -> int:
        return self._cache.slots

    @property
    def busy(self) -> bool:
        return bool(self._taken)

    @property
    def _taken(self) -> set[int]:
        return {*self._slots, *(each.number for each in self._reading)}

    def graphs(self) -> list[Make]:
        if self._device.type != "cuda":
            return []
        prompts = [] if self._prefill is None else self._prefill.graphs()
        return [*(partial(self._graph, size) for size in self._steps.sizes), *prompts]

    @torch.inference_mode()
    def add(self, request: Request) -> Slot:
        """Begin to read a request's prompt into a free slot. The first `advance` after its last piece, if it is read in
        pieces, tells its first token.

        A request may grow as long as its text allows and its slot has room; raises `NoRoomError`.
        """
        number = next(number for number in range(self._cache.slots) if number not in self._taken)
        least, most = length_limits(len(request.text))
        room = self._cache.length - request.prompt_positions
        if room <= least:
            raise NoRoomError(f"{request.prompt_positions} positions leave no room in a slot of {self._cache.length}")
        most = min(most, room)
        text = torch.cat((request.prompt_text, request.text)).to(self._device)
        prompt = self._llm.prompt(text, request.prompt_speech.to(self._device))
        reading = _Reading(request, Slot(most), number, prompt)
        if self._piece is None:
            self._begin(reading, self._llm.prefill(prompt, self._cache, number))
        else:
            self._reading.append(reading)
        return reading.slot

    def _begin(self, reading: _Reading, scores: Tensor) -> None:
        """Draw the first token of a request whose prompt has been read."""
        number, request, length = reading.number, reading.request, len(reading.prompt)
        self._positions[number] = length
        least, _ = length_limits(len(request.text))
        draws = self._draws
        # Filled, not assigned: that would copy from the host's memory and wait for the device.
        for tensor, value in (
            (draws.step, 0),
            (draws.seed, request.seed),
            (draws.least, least),
            (draws.temperature, request.temperature),
            (draws.recent, -1),
        ):
            tensor[number].fill_(value)
        self._steps.draw(scores, number)
        draws.position[number].fill_(length)
        self._slots[number] = reading.slot

    def _read(self, prefill: Prefill, size: int) -> None:
        """The next piece of each of the first prompts. One that is there is copied to its slot, and begins."""
        together = self._reading[: prefill.cache.slots]
        free = set(range(prefill.cache.slots)) - {each.into for each in together}
        for each in together:
            if each.into < 0:
                each.into = free.pop()
        for each, scores in zip(together, prefill.read([each.piece(size) for each in together]), strict=True):
            each.read += size
            length = len(each.prompt)
            if each.read >= length:
                self._cache.layers[:, :, each.number, :, :length] = prefill.cache.layers[:, :, each.into, :, :length]
                self._reading.remove(each)
                self._begin(each, scores)

    def remove(self, slot: Slot) -> None:
        """A request that is done, or that nobody waits for any more, frees its slot."""
        slot.done = True
        for number in [number for number, each in self._slots.items() if each is slot]:
            del self._slots[number]
            self._draws.position[number].fill_(0)  # so that the kernels see nothing behind it
        self._reading = [each for each in self._reading if each.slot is not slot]

    @torch.inference_mode()
    def advance(self, patience: float = 0) -> list[tuple[Slot, int]]:
        """The token that each slot has drawn, if it is none that stops; the next ones are being drawn meanwhile. Of the
        prompts that came first a few pieces are read.

        Where memory runs out nothing has happened, and the next call goes on from there.
        """
        for _ in range(_PIECES):
            if self._reading and self._prefill is not None and self._piece is not None:
                self._read(self._prefill, self._piece)
        spoken = dict(self._slots)
        if not spoken:
            return []
        # The copy stands before the next step in the device's queue: waiting for it leaves that step running.
        tokens = self._draws.token.to("cpu", non_blocking=True, copy=True)
        copied = torch.cuda.Event() if self._device.type == "cuda" else None
        if copied is not None:
            copied.record()
        self._decode()
        if copied is not None:
            copied.synchronize()
        told = []
        for number, token in enumerate(tokens.tolist()):
            if (slot := spoken.get(number)) is None:
                continue
            slot.spoken += 1
            if token >= SPEECH_TOKENS or slot.spoken > slot.most:
                self.remove(slot)
            else:
                told.append((slot, token))
        return told

    def close(self) -> None:
        """Nothing to let go of but memory."""

    def _decode(self) -> None:
        """One step of all slots up to the last that is in use; what free ones compute is never looked at."""
        furthest = max(self._positions[number] for number in self._slots)
        size = self._steps.size(max(self._slots) + 1, furthest)
        if self._device.type != "cuda":
            self._steps.step(size)
        else:
            self._graph(size).replay()
        for number in self._slots:
            self._positions[number] += 1

    def _graph(self, size: int) -> torch.cuda.CUDAGraph:
        if size not in self._graphs:
            self._graphs[size] = self._captured(size)
        return self._graphs[size]

    def _captured(self, size: int) -> torch.cuda.CUDAGraph:
        """The step as a graph. What the rehearsals change is put back."""
        kept = [each.clone() for each in self._state]
        try:
            return captured(lambda: self._steps.step(size), self._pool)
        finally:
            for each, before in zip(self._state, kept, strict=True):
                each.copy_(before)

    @property
    def _state(self) -> tuple[Tensor, ...]:
        return self._draws.token, self._draws.position, self._draws.step, self._draws.recent


def _prefill(llm: Llm, length: int, size: int, pool: Pool | None, kernels: "Kernels | None") -> Prefill:
    if kernels is None:
        return TorchPrefill(llm, length, size, pool)
    return KernelPrefill(llm, length, size, pool, kernels)
