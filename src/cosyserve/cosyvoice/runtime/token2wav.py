"""From speech tokens to sound: the flow, then the vocoder, in hops."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, cast

from torch import Tensor

from cosyserve.cosyvoice.frontend.prompt_encoder import Prompt
from cosyserve.cosyvoice.model.flow import FlowStream, Solver
from cosyserve.cosyvoice.model.vocoder import Vocoder, VocoderStream
from cosyserve.cosyvoice.runtime.graphs import Make
from cosyserve.cosyvoice.runtime.hops import Hops, Tokens
from cosyserve.cosyvoice.runtime.lru import Lru
from cosyserve.cosyvoice.runtime.whole import WholeFlow, WholeTokens


@dataclass
class Token2WavStream:
    """One utterance: `flow` and `vocoder` are whatever makes its mel and its sound."""

    tokens: Tokens | WholeTokens
    flow: Any
    vocoder: VocoderStream
    problem: Exception | None = None  # why there will be no more hops, where it failed by itself

    @property
    def ready(self) -> bool:
        """Whether its next hop can be made."""
        return self.tokens.ready


Hop = tuple[Tensor, bool]  # mel (1, 80, T), and whether it is the last of its utterance


def wave_of(stream: Token2WavStream, mel: Tensor, last: bool) -> Tensor:
    """What the vocoder makes of a hop; nothing where the stream has a problem, now or since before."""
    if stream.problem is None:
        try:
            return stream.vocoder.push(mel, final=last)
        except Exception as problem:  # the others are none of its business
            stream.problem = problem
    return mel.new_empty(0)


class Token2Wav(Protocol):
    """Flow and vocoder for many utterances. Keeps the voices spoken lately, whose recordings the flow has seen."""

    width: int  # utterances that are spoken at once
    slots: float  # utterances that there is room for

    def graphs(self) -> list[Make]:
        """What makes each graph of a GPU, to be called before anybody waits for one. It takes seconds."""
        ...

    def stream(self, prompt: Prompt, seed: int, *, whole: bool = False) -> Token2WavStream:
        """An utterance whose hops come as its tokens do; or one that is spoken when all of them are there. Raises
        `NoPagesError` where it has to wait for others to end."""
        ...

    def hops(self, streams: Sequence[Token2WavStream]) -> list[Hop]:
        """The next hop of each; all have to be ready. A stream that failed by itself has its `problem` set."""
        ...

    def waves(self, streams: Sequence[Token2WavStream], hops: Sequence[Hop]) -> list[Tensor]:
        """The samples (n,) on the CPU that each hop completes; a stream that failed by itself has its `problem` set."""
        ...

    def release(self, stream: Token2WavStream) -> None:
        """An utterance has ended, or nobody waits for it any more."""
        ...


class SingleToken2Wav:
    """One after the other, each with as much memory as it needs: for a processor."""

    width = 1
    slots: float = math.inf

    def __init__(
        self,
        flow: Solver,
        vocoder: Vocoder,
        hops: Hops,
        voices: int,
        keep_tokens: int | None,
        recording_tokens: int | None = None,
    ) -> None:
        """`keep_tokens` bounds what an utterance has behind it, `recording_tokens` how much of that is a recording."""
        flow.settle()
        self._flow, self._vocoder, self._hops = flow, vocoder, hops
        self._keep_tokens, self._recording_tokens = keep_tokens, recording_tokens
        self._begun = Lru[Prompt, tuple[Hops, FlowStream]](voices)

    def graphs(self) -> list[Make]:
        return []

    def stream(self, prompt: Prompt, seed: int, *, whole: bool = False) -> Token2WavStream:
        if whole:
            tokens, vocoder = WholeTokens(self._flow.silent), self._vocoder.stream(seed, whole=True)
            return Token2WavStream(tokens, WholeFlow(self._flow, prompt, tokens), vocoder)
        hops, begun = self._begun.get(prompt) or self._after(prompt)
        return Token2WavStream(Tokens(hops, self._flow.silent), begun.fork(), self._vocoder.stream(seed))

    def hops(self, streams: Sequence[Token2WavStream]) -> list[Hop]:
        return [self._hop(stream) for stream in streams]

    def waves(self, streams: Sequence[Token2WavStream], hops: Sequence[Hop]) -> list[Tensor]:
        return [wave_of(stream, *hop) for stream, hop in zip(streams, hops, strict=True)]

    def release(self, stream: Token2WavStream) -> None:
        pass

    def _hop(self, stream: Token2WavStream) -> Hop:
        if isinstance(stream.tokens, WholeTokens):
            return cast("Hop", stream.flow.turn())
        tokens, last = stream.tokens.take()
        return stream.flow.push(tokens.to(stream.flow.device), final=last), last

    def _after(self, prompt: Prompt) -> tuple[Hops, FlowStream]:
        """The flow at the end of a recording, and the hops that follow."""
        if self._begun.full:
            self._begun.drop()
        aligned = self._hops.aligned(prompt, self._recording_tokens)
        device = self._flow.like.device
        speech, mel, speaker = (each[None].to(device) for each in (aligned.speech, aligned.mel, aligned.speaker))
        begun = FlowStream(self._flow, speech, mel, speaker, self._keep_tokens)
        begun.push(speech[:, :0])
        after = self._hops.behind(speech.shape[1]), begun
        self._begun.keep(prompt, after)
        return after
