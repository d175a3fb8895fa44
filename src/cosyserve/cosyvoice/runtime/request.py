"""The seam between the stages and whatever draws speech tokens: what it is asked, and what it answers."""

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from cosyserve.cosyvoice.runtime.graphs import Make
from cosyserve.cosyvoice.runtime.interleaving import LiveText, Turns

_NOTHING = torch.empty(0, dtype=torch.long)


@dataclass(frozen=True)
class Request:
    """What is to be said, as ids: the text, the text and the speech tokens of the voice's recording.

    Or `live` is the text, of which more may come while it is spoken; what tells how to speak is the `lead` then, and
    `prompt_text` the recording's words alone. Not every generator takes such a request.
    """

    text: Tensor
    prompt_text: Tensor
    prompt_speech: Tensor
    seed: int = 0
    temperature: float = 1.0
    lead: Tensor = _NOTHING
    live: LiveText | None = None

    @property
    def prompt_positions(self) -> int:
        """What it takes of a slot before its first token, without the `live` text."""
        return sum(map(len, (self.text, self.lead, self.prompt_text, self.prompt_speech))) + 2


@dataclass(eq=False)
class Slot:
    """A request that is being spoken."""

    most: int  # tokens
    spoken: int = 0
    done: bool = False
    problem: Exception | None = None  # why it is done, where it failed by itself
    held_by: Turns | None = None  # the text that it cannot go on without

    @property
    def waits(self) -> bool:
        """Whether there is nothing to do for it until more text comes."""
        return self.held_by is not None and not self.held_by.ready


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
