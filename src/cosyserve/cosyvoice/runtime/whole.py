"""An utterance that is spoken as a whole: once all its tokens are there, and with full attention.

Each Euler step is a turn of its own, and so is each second of sound, so that the streams beside it go on.
"""

from collections.abc import Collection, Iterator

import torch
from torch import Tensor

from cosyserve.cosyvoice.frontend.prompt_encoder import Prompt
from cosyserve.cosyvoice.model.config import CHUNK_TOKENS, FRAMES_PER_TOKEN
from cosyserve.cosyvoice.model.flow import Solver
from cosyserve.cosyvoice.runtime.hops import Pauses

_PIECE = CHUNK_TOKENS * FRAMES_PER_TOKEN


class WholeTokens:
    """The speech tokens of one utterance, given out all at once."""

    def __init__(self, silent: Collection[int] = ()) -> None:
        self.all: list[int] = []
        self.ready = False
        self._pauses = Pauses(silent)

    def add(self, token: int) -> None:
        if self._pauses.keep(token):
            self.all.append(token)

    def complete(self) -> None:
        self.ready = True


class WholeFlow:
    """Tokens to mel. It sees all of the recording, and all of the utterance at every frame."""

    def __init__(self, flow: Solver, prompt: Prompt, tokens: WholeTokens) -> None:
        self._flow, self._prompt, self._tokens = flow, prompt, tokens
        self._turns: Iterator[tuple[Tensor, bool]] | None = None

    @property
    def seconds(self) -> float:
        """What one turn counts for, in seconds of sound."""
        pieces = -(-len(self._tokens.all) // CHUNK_TOKENS)
        return len(self._tokens.all) / (CHUNK_TOKENS * (self._flow.steps + pieces))

    @torch.inference_mode()
    def turn(self) -> tuple[Tensor, bool]:
        """The mel (1, 80, T) of the next turn, which has no frames at first; and whether it is the last."""
        if self._turns is None:
            self._turns = self._all()
        return next(self._turns)

    def _all(self) -> Iterator[tuple[Tensor, bool]]:
        device = self._flow.like.device
        prompt = self._prompt
        speech, mel, speaker = (each[None].to(device) for each in (prompt.speech, prompt.mel, prompt.speaker))
        tokens = torch.tensor([self._tokens.all], dtype=torch.long, device=device)
        if not self._tokens.all:
            yield self._flow.noise[:, :, :0], True
            return
        nothing = spoken = self._flow.noise[:, :, :0]
        for moved in self._flow.mels(tokens, speech, mel, speaker, chunked=False):
            spoken = moved
            yield nothing, False
        pieces = spoken.split(_PIECE, dim=2)
        for number, piece in enumerate(pieces):
            yield piece, number == len(pieces) - 1
