"""From speech tokens to sound: the flow, then the vocoder, in hops."""

import math
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Generic, Protocol, TypeVar, cast

import torch
from torch import Tensor

from cosyserve.cosyvoice.frontend.prompt_encoder import Prompt
from cosyserve.cosyvoice.model.config import CHUNK_TOKENS, FRAMES_PER_TOKEN, LOOK_AHEAD, SAMPLE_RATE, TOKENS_PER_SECOND
from cosyserve.cosyvoice.model.flow import Flow, FlowStream, MeanStream
from cosyserve.cosyvoice.model.hift import FIRST_HELD, GraphedHift, Hift, HiftStream
from cosyserve.cosyvoice.runtime.slots import CHUNK, FlowSlots, Place, Work
from cosyserve.cosyvoice.runtime.whole import WholeFlow, WholeTokens

_SHORT = 4 * TOKENS_PER_SECOND  # tokens of a recording


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


class Tokens:
    """The speech tokens of one utterance, given out in hops."""

    def __init__(self, hops: Hops) -> None:
        self._hops, self._hop = hops, 0
        self._waiting: list[int] = []
        self._complete = False

    def add(self, token: int) -> None:
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
        """The tokens (1, T) of the next hop, and whether it is the last."""
        hop, self._waiting = self._waiting[: self._needed], self._waiting[self._needed :]
        self._hop += 1
        return torch.tensor([hop], dtype=torch.long), self._complete and not self._waiting


@dataclass
class Stream:
    """One utterance: `flow` is whatever token2wav makes mel with."""

    tokens: Tokens | WholeTokens
    flow: Any
    hift: HiftStream
    problem: Exception | None = None  # why there will be no more hops, where it failed by itself

    def wave(self, mel: Tensor, last: bool) -> Tensor:
        """The samples (n,) that a hop's mel completes, on the CPU."""
        return self.hift.push(mel, final=last).cpu()

    def had(self, wave: Tensor) -> float:
        """What a hop counts for, in seconds of sound. Of a whole utterance all hops count alike, since most of its work
        is done before its first sound."""
        return self.flow.seconds if isinstance(self.flow, WholeFlow) else len(wave) / SAMPLE_RATE


def whole_stream(flow: Flow, hift: Hift | GraphedHift, prompt: Prompt, seed: int) -> Stream:
    """An utterance that is not streamed."""
    tokens = WholeTokens()
    return Stream(tokens, WholeFlow(flow, prompt, tokens), HiftStream(hift, seed))


Hop = tuple[Tensor, bool]  # mel (1, 80, T), and whether it is the last of its utterance


class Token2Wav(Protocol):
    """The flow for many utterances. Keeps the voices spoken lately, whose recordings have gone through it."""

    width: int  # utterances that are voiced at once
    places: float  # utterances that there is room for

    def stream(self, prompt: Prompt, seed: int, *, whole: bool = False) -> Stream:
        """An utterance whose hops come as its tokens do; or one that is spoken when all of them are there."""
        ...

    def hops(self, streams: Sequence[Stream]) -> list[Hop]:
        """The next hop of each; all have to be ready. A stream that failed by itself has its `problem` set."""
        ...

    def release(self, stream: Stream) -> None:
        """An utterance has ended, or nobody waits for it any more."""
        ...


class SingleToken2Wav:
    """One after the other, each with as much memory as it needs: for a processor."""

    width = 1
    places: float = math.inf

    def __init__(
        self,
        flow: Flow,
        hift: Hift,
        hops: Hops,
        voices: int,
        keep_tokens: int | None,
        recording_tokens: int | None = None,
    ) -> None:
        """`keep_tokens` bounds what an utterance has behind it, `recording_tokens` how much of that is a recording."""
        self._flow, self._hift, self._hops = flow, hift, hops
        self._keep_tokens, self._recording_tokens = keep_tokens, recording_tokens
        self._begun = Lru[tuple[Hops, FlowStream]](voices)

    def stream(self, prompt: Prompt, seed: int, *, whole: bool = False) -> Stream:
        if whole:
            return whole_stream(self._flow, self._hift, prompt, seed)
        hops, begun = self._begun.get(prompt) or self._begun.keep(prompt, self._after(prompt))
        return Stream(Tokens(hops), begun.fork(), HiftStream(self._hift, seed, FIRST_HELD))

    def hops(self, streams: Sequence[Stream]) -> list[Hop]:
        return [self._hop(stream) for stream in streams]

    def _hop(self, stream: Stream) -> Hop:
        if isinstance(stream.tokens, WholeTokens):
            return cast("Hop", stream.flow.turn())
        tokens, last = stream.tokens.take()
        return stream.flow.push(tokens.to(stream.flow.device), final=last), last

    def release(self, stream: Stream) -> None:
        pass

    def _after(self, prompt: Prompt) -> tuple[Hops, FlowStream]:
        """The flow at the end of a recording, and the hops that follow."""
        prompt = self._hops.aligned(prompt, self._recording_tokens)
        device = self._flow.encoder_proj.weight.device
        speech, mel, speaker = (each[None].to(device) for each in (prompt.speech, prompt.mel, prompt.speaker))
        begun = FlowStream(self._flow, speech, mel, speaker, self._keep_tokens)
        begun.push(speech[:, :0])
        return self._hops.behind(speech.shape[1]), begun


class BatchedToken2Wav:
    """All together, in the slots of `FlowSlots`: for a GPU."""

    def __init__(
        self,
        flow: Flow,
        hift: Hift,
        first_hop: int,
        streams: int,
        voices: int,
        frames: int,
        recording_tokens: int | None = None,
    ) -> None:
        """`frames` bounds what an utterance has behind it, `recording_tokens` how much of that is a recording; by
        default half of it."""
        torch.backends.cudnn.deterministic = True  # a seed gives the same samples, whoever else speaks
        self.width = streams
        self.places: float = streams
        self._hops = Hops(first_hop, CHUNK_TOKENS)  # a graph moves a chunk, neither more nor less
        self._flow, self._hift = flow, hift if hift.window.device.type == "cpu" else self._graphed(hift)
        self.slots = FlowSlots(flow, streams + voices, frames)
        self._free = list(range(streams))
        self._free_voices = list(range(streams, streams + voices))
        tokens = self.slots.frames // FRAMES_PER_TOKEN
        wanted = tokens // 2 if recording_tokens is None else recording_tokens
        self._recording_tokens = min(wanted, tokens - 2 * CHUNK_TOKENS)  # the rest is a ring of whole chunks
        self._begun = Lru[tuple[Hops, MeanStream, Place]](voices)

    def _graphed(self, hift: Hift) -> GraphedHift:
        return GraphedHift(hift, [FRAMES_PER_TOKEN * self._hops.tokens(hop) for hop in range(3)], FIRST_HELD)

    def prepare(self) -> None:
        """Make all graphs, which takes seconds, before anybody waits for one."""
        self.slots.prepare(self.width)
        if isinstance(self._hift, GraphedHift):
            self._hift.prepare()

    def stream(self, prompt: Prompt, seed: int, *, whole: bool = False) -> Stream:
        if whole:
            return whole_stream(self._flow, self._hift, prompt, seed)
        hops, means, place = self._begun.get(prompt) or self._begun.keep(prompt, self._after(prompt))
        slot = self._free.pop()
        try:
            flow = (means.fork(), self.slots.copy(place, slot))
        except BaseException:
            self._free.append(slot)
            raise
        return Stream(Tokens(hops), flow, HiftStream(self._hift, seed, FIRST_HELD))

    def hops(self, streams: Sequence[Stream]) -> list[Hop]:
        """What each does by itself, then the chunks of all together."""
        own = [self._own(stream) for stream in streams]
        moved = self._moved([works for works, _ in own])
        return [
            (torch.cat(parts, dim=2) if parts else mel, last)
            for (_, (mel, last)), parts in zip(own, moved, strict=True)
        ]

    def _own(self, stream: Stream) -> tuple[list[Work], Hop]:
        """The chunks of a stream's hop that are to be moved; or the turn of a whole."""
        nothing = self._flow.noise[:, :, :0]
        try:
            if isinstance(stream.tokens, WholeTokens):
                return [], cast("Hop", stream.flow.turn())
            (means, place), (tokens, last) = stream.flow, stream.tokens.take()
            return self._works(means, place, tokens, final=last), (nothing, last)
        except Exception as problem:  # the others are none of its business
            stream.problem = problem
            return [], (nothing, True)

    def release(self, stream: Stream) -> None:
        if not isinstance(stream.flow, WholeFlow):
            self._free.append(stream.flow[1].slot)

    def _after(self, prompt: Prompt) -> tuple[Hops, MeanStream, Place]:
        aligned = self._hops.aligned(prompt, self._recording_tokens)
        device = self._flow.encoder_proj.weight.device
        speech, mel, speaker = (each[None].to(device) for each in (aligned.speech, aligned.mel, aligned.speaker))
        means = MeanStream(self._flow, speech, mel, speaker)
        if len(self._begun) == self._begun.most:
            self._free_voices.append(self._begun.drop()[2].slot)
        slot = self._free_voices.pop()
        try:
            place = self.slots.begin(slot)
            self._moved([self._works(means, place, speech[:, :0], final=False)])
        except BaseException:
            self._free_voices.append(slot)
            raise
        return self._hops.behind(speech.shape[1]), means, place

    @staticmethod
    def _works(means: MeanStream, place: Place, tokens: Tensor, *, final: bool) -> list[Work]:
        chunk = means.push(tokens.to(means.device), final=final)
        return [] if chunk is None else [Work(place, part, means.speaker) for part in chunk.split(CHUNK)]

    def _moved(self, works: Sequence[list[Work]]) -> list[list[Tensor]]:
        """The mel of each chunk, without its recording's. A hop of several chunks takes several rounds."""
        mels: list[list[Tensor]] = [[] for _ in works]
        for turn in range(max(map(len, works), default=0)):
            rows = [row for row, each in enumerate(works) if turn < len(each)]
            moved = self.slots.move([works[row][turn] for row in rows])
            for row, mel in zip(rows, moved, strict=True):
                mels[row].append(mel[:, :, works[row][turn].chunk.recorded :])
        return mels


K = TypeVar("K")


class Lru(Generic[K]):
    """What belongs to the prompts that were used last."""

    def __init__(self, most: int) -> None:
        self.most = most
        self._kept = OrderedDict[int, tuple[Prompt, K]]()  # with the prompt, or its id may become another's

    def __len__(self) -> int:
        return len(self._kept)

    def get(self, prompt: Prompt) -> K | None:
        if id(prompt) not in self._kept:
            return None
        self._kept.move_to_end(id(prompt))
        return self._kept[id(prompt)][1]

    def keep(self, prompt: Prompt, value: K) -> K:
        if len(self._kept) == self.most:
            self.drop()
        self._kept[id(prompt)] = prompt, value
        return value

    def drop(self) -> K:
        return self._kept.popitem(last=False)[1][1]
