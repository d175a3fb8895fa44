"""From speech tokens to sound, for one utterance: the flow, then the vocoder, in hops."""

from collections import OrderedDict
from dataclasses import dataclass

import torch
from torch import Tensor

from cosyserve.cosyvoice2.config import CHUNK_TOKENS, FRAMES_PER_TOKEN, LOOK_AHEAD
from cosyserve.cosyvoice2.flow import Flow, FlowStream
from cosyserve.cosyvoice2.hift import Hift, HiftStream
from cosyserve.cosyvoice2.listening import Prompt


@dataclass(frozen=True)
class Hops:
    """How many tokens become sound at once: few at first, so that it is soon, then more, which costs less.

    Every hop ends where a chunk of the streaming mask ends, or the result would depend on the hops. The first may be
    shorter than a chunk, since a recording may begin a little later: see `aligned`.
    """

    first: int = 10
    longest: int = 2 * CHUNK_TOKENS

    def tokens(self, hop: int) -> int:
        """The size of each hop; the first also waits for what the encoder looks ahead."""
        return self.first if hop == 0 else min(CHUNK_TOKENS << (hop - 1), self.longest)

    def aligned(self, prompt: Prompt) -> Prompt:
        """The recording without up to a second of its beginning, so that it and the first hop are whole chunks."""
        surplus = (len(prompt.speech) + self.first) % CHUNK_TOKENS
        if surplus > len(prompt.speech):
            return prompt
        return Prompt(prompt.speech[surplus:], prompt.mel[surplus * FRAMES_PER_TOKEN :], prompt.speaker)


class Voicing:
    """Flow and vocoder, with the voices that were spoken lately: their recordings have gone through the flow."""

    def __init__(self, flow: Flow, hift: Hift, hops: Hops, voices: int, keep_tokens: int | None) -> None:
        self.hops = hops
        self._flow, self._hift, self._keep_tokens = flow, hift, keep_tokens
        self._voices, self._begun = voices, OrderedDict[int, tuple[Prompt, FlowStream]]()

    def stream(self, prompt: Prompt, seed: int) -> "Stream":
        return Stream(self._after(prompt), HiftStream(self._hift, seed), self.hops)

    def _after(self, prompt: Prompt) -> FlowStream:
        """The flow at the end of a recording."""
        if id(prompt) not in self._begun:
            aligned, weight = self.hops.aligned(prompt), self._flow.encoder_proj.weight
            begun = FlowStream(
                self._flow,
                aligned.speech[None].to(weight.device),
                aligned.mel[None].to(weight.device),
                aligned.speaker[None].to(weight.device),
                self._keep_tokens,
            )
            begun.push(aligned.speech[None, :0].to(weight.device))
            self._begun[id(prompt)] = prompt, begun  # the prompt too, or its id may become another's
            if len(self._begun) > self._voices:
                self._begun.popitem(last=False)
        self._begun.move_to_end(id(prompt))
        return self._begun[id(prompt)][1].fork()


class Stream:
    """One utterance."""

    def __init__(self, flow: FlowStream, hift: HiftStream, hops: Hops) -> None:
        self._flow, self._hift, self._hops = flow, hift, hops
        self._tokens: list[int] = []
        self._hop, self._complete = 0, False

    def add(self, token: int) -> None:
        self._tokens.append(token)

    def complete(self) -> None:
        """No more tokens will come."""
        self._complete = True

    @property
    def ready(self) -> bool:
        """Whether the next hop can be made."""
        ahead = LOOK_AHEAD if self._hop == 0 else 0
        return self._complete or len(self._tokens) >= self._hops.tokens(self._hop) + ahead

    def speak(self) -> tuple[Tensor, bool]:
        """The samples (n,) of the next hop, on the CPU, and whether it was the last."""
        ahead = LOOK_AHEAD if self._hop == 0 else 0
        count = self._hops.tokens(self._hop) + ahead
        tokens, self._tokens = self._tokens[:count], self._tokens[count:]
        self._hop += 1
        final = self._complete and not self._tokens
        mel = self._flow.push(torch.tensor([tokens], dtype=torch.long, device=self._flow.device), final=final)
        return self._hift.push(mel, final=final).float().cpu(), final
