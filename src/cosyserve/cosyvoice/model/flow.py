"""From speech tokens to mel: the encoder's mean, moved by conditional flow matching in ten Euler steps.

The noise that the flow starts from is the same for every utterance, as in training's own inference: position by
position of one fixed tensor. So a chunk can be computed when its tokens are there and is never touched again.
"""

import copy
import math
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from cosyserve.cosyvoice.model.config import (
    CHUNK_TOKENS,
    FRAMES_PER_TOKEN,
    LOOK_AHEAD,
    MELS,
    NOISE_FRAMES,
    SPEECH_TOKENS,
    DitFlowConfig,
    FlowConfig,
)
from cosyserve.cosyvoice.model.dit import Attention as DitAttention
from cosyserve.cosyvoice.model.dit import Dit, Modulation, PositionConvolution, Times
from cosyserve.cosyvoice.model.encoder import Encoder, LookAhead
from cosyserve.cosyvoice.model.estimator import Attention, Estimator
from cosyserve.cosyvoice.model.past import Bound, CausalConv1d, Past


def fixed_noise() -> Tensor:
    """(1, 80, 15000): upstream's, which every released weight expects."""
    generator = torch.Generator("cpu").manual_seed(0)
    return torch.randn(1, MELS, NOISE_FRAMES, generator=generator, device="cpu")


@dataclass(frozen=True)
class Kept:
    """What an estimator keeps of the frames before, for each Euler step: a frame's keys and values of so many
    `attentions`, `columns` each, and the last frames of convolutions, by channels and how many."""

    attentions: list[nn.Module]
    columns: int
    tails: dict[nn.Module, tuple[int, int]]


class Solver(nn.Module, ABC):
    """Conditional flow matching, whatever estimates the flow and makes its mean: what both editions share."""

    def __init__(self, estimator: nn.Module, speaker: int, steps: int, guidance: float) -> None:
        super().__init__()
        self.spk_embed_affine_layer = nn.Linear(speaker, MELS)
        self.decoder = nn.Module()
        self.decoder.estimator = estimator
        self.steps, self.guidance = steps, guidance
        self.register_buffer("noise", fixed_noise(), persistent=False)
        self.noise: Tensor

    @property
    def estimator(self) -> Estimator | Dit:
        return self.decoder.estimator  # type: ignore[return-value]

    silent: frozenset[int] = frozenset()
    """Speech tokens of which no more than five in a row become sound."""

    @property
    def like(self) -> Tensor:
        """Of the weights' type and device."""
        return self.spk_embed_affine_layer.weight

    def speaker(self, embedding: Tensor) -> Tensor:
        """CAM++'s embedding (B, 192) to (B, 80)."""
        return self.spk_embed_affine_layer(F.normalize(embedding.to(self.like), dim=1))

    @abstractmethod
    def kept(self) -> Kept:
        """What is to be kept of a stream."""

    @abstractmethod
    def fuse(self) -> None:
        """Make one product of those that share an input, for a past that copies what it keeps (`FlowMemory`). To be
        done where weights and number of steps are to stay."""

    def settle(self) -> None:
        """Free what is not needed once the weights and the number of steps no longer change."""

    def clock(self, begin: float) -> "Tensor | Times":
        """What the estimator is told of the time at which an Euler step begins."""
        return torch.full(
            (), begin, device=self.noise.device
        )  # filled there, because a graph cannot copy from the host

    @abstractmethod
    def mean(self, tokens: Tensor, past: Past, *, chunked: bool, final: bool) -> Tensor:
        """Speech tokens (1, T) to the mean of the mel (1, 80, 2T), or 2(T − 3) frames where more tokens follow."""

    def times(self) -> list[tuple[float, float]]:
        """When each Euler step begins and how long it is: denser towards 0, as 1 − cos(πs/2) of equal s. Rounded as
        upstream does, which counts the time on in float32: sinusoids of a thousand times it go into the estimator."""
        ends = 1 - torch.cos(torch.linspace(0, 1, self.steps + 1, device="cpu") * 0.5 * math.pi)
        begin, found = ends[0], []
        for end in ends[1:]:
            duration = end - begin
            found.append((begin.item(), duration.item()))
            begin = begin + duration
        return found

    def move(self, noise: Tensor, mean: Tensor, speaker: Tensor, prompt: Tensor, pasts: list[Past] | None) -> Tensor:
        """The mel (B, 80, T), after all steps."""
        *_, mel = self.steps_of(noise, mean, speaker, prompt, pasts)
        return mel

    def steps_of(
        self, noise: Tensor, mean: Tensor, speaker: Tensor, prompt: Tensor, pasts: list[Past] | None
    ) -> Iterator[Tensor]:
        """What each step comes to: twice in one batch, with the conditions and without, for the guidance.

        With `pasts`, one for each step, the frames are the next of a stream. Steps are summed in float32, whatever
        the estimator's type is.
        """
        x = noise
        mean, speaker, prompt = (
            torch.stack((each, torch.zeros_like(each)), dim=1).flatten(0, 1).to(mean.dtype)
            for each in (mean, speaker, prompt)
        )
        for step, (begin, duration) in enumerate(self.times()):
            t: Any = self.clock(begin)
            both = x.to(mean.dtype).repeat_interleave(2, dim=0)
            if pasts is None:
                both_flows = self.estimator(both, mean, t, speaker, prompt, Past())
            else:
                both_flows = self.estimator.chunked(both, mean, t, speaker, prompt, pasts[step])
            conditional, unconditional = both_flows.float().unflatten(0, (-1, 2)).unbind(1)
            x = x + duration * ((1 + self.guidance) * conditional - self.guidance * unconditional)
            yield x

    @torch.inference_mode()
    def mel(
        self, tokens: Tensor, prompt_tokens: Tensor, prompt_mel: Tensor, embedding: Tensor, *, chunked: bool = False
    ) -> Tensor:
        """A whole utterance at once. `prompt_mel` (1, 2P, 80) belongs to `prompt_tokens` (1, P); gives (1, 80, 2T)."""
        *_, mel = self.mels(tokens, prompt_tokens, prompt_mel, embedding, chunked=chunked)
        return mel

    def mels(
        self, tokens: Tensor, prompt_tokens: Tensor, prompt_mel: Tensor, embedding: Tensor, *, chunked: bool
    ) -> Iterator[Tensor]:
        """The same after each Euler step."""
        mean = self.mean(torch.cat((prompt_tokens, tokens), dim=1), Past(), chunked=chunked, final=True)
        frames = mean.shape[2]
        prompt = F.pad(prompt_mel.transpose(1, 2), (0, frames - prompt_mel.shape[1]))
        pasts = [Past() for _ in range(self.steps)] if chunked else None
        noise = self.noise[:, :, :frames]
        for mel in self.steps_of(noise, mean, self.speaker(embedding), prompt, pasts):
            yield mel[:, :, prompt_mel.shape[1] :]


class Flow(Solver):
    """CosyVoice2's: a conformer makes the mean, a U-Net estimates."""

    def __init__(self, config: FlowConfig) -> None:
        width = config.encoder.width
        super().__init__(Estimator(config.estimator), config.speaker, config.steps, config.guidance)
        self.input_embedding = nn.Embedding(SPEECH_TOKENS, width)
        self.encoder = Encoder(config.encoder)
        self.encoder_proj = nn.Linear(width, MELS)

    @property
    def estimator(self) -> Estimator:
        return self.decoder.estimator  # type: ignore[return-value]

    def kept(self) -> Kept:
        layers = list(self.estimator.modules())
        attentions = [each for each in layers if isinstance(each, Attention)]
        tails: dict[nn.Module, tuple[int, int]] = {
            each: (each.in_channels, each.kernel_size[0] - 1) for each in layers if isinstance(each, CausalConv1d)
        }
        return Kept(list(attentions), 2 * attentions[0].heads * attentions[0].head_dim, tails)

    def fuse(self) -> None:
        for each in self.estimator.modules():
            if isinstance(each, Attention):
                each.fuse()

    def mean(self, tokens: Tensor, past: Past, *, chunked: bool, final: bool) -> Tensor:
        embedded = self.input_embedding(tokens)
        encoded = self.encoder(embedded, past, chunked=chunked, final=final)
        return self.encoder_proj(encoded).transpose(1, 2)


class DitFlow(Solver):
    """CosyVoice3's: each token is mixed with the three after it and stands twice, a transformer estimates."""

    silent = frozenset((1, 2, 28, 29, 55, 248, 494, 2241, 2242, 2322, 2323))

    def __init__(self, config: DitFlowConfig) -> None:
        super().__init__(Dit(config.estimator), config.speaker, config.steps, config.guidance)
        self.input_embedding = nn.Embedding(SPEECH_TOKENS, MELS)
        self.pre_lookahead_layer = LookAhead(MELS, config.estimator.look_ahead)
        self._clock: dict[tuple[float, torch.device, torch.dtype], Times] = {}

    @property
    def estimator(self) -> Dit:
        return self.decoder.estimator  # type: ignore[return-value]

    def kept(self) -> Kept:
        layers = list(self.estimator.modules())
        attentions = [each for each in layers if isinstance(each, DitAttention)]
        tails: dict[nn.Module, tuple[int, int]] = {
            each: (self.estimator.width, each.behind) for each in layers if isinstance(each, PositionConvolution)
        }
        return Kept(list(attentions), 2 * attentions[0].heads * attentions[0].head_dim, tails)

    def fuse(self) -> None:
        self.settle()
        for each in self.estimator.modules():
            if isinstance(each, DitAttention):
                each.fuse()

    def settle(self) -> None:
        """Of what the times are made by, once they are made."""
        for begin, _ in self.times():
            self.clock(begin)
        for each in self.estimator.modules():
            if isinstance(each, Modulation):
                each.forget()

    def clock(self, begin: float) -> Times:
        """Worked out once for each type and device; where what it is made by has gone, of what was made."""
        place = begin, self.like.device, self.like.dtype
        if place not in self._clock:
            with torch.inference_mode():
                self._clock[place] = self._worked_out(begin)
        return self._clock[place]

    def _worked_out(self, begin: float) -> Times:
        if self.estimator.norm_out.forgotten:
            made = next(times for (time, *_), times in self._clock.items() if time == begin)
            return [tuple(each.to(self.like) for each in times) for times in made]
        return self.estimator.times(torch.full((), begin, device=self.like.device))

    def mean(self, tokens: Tensor, past: Past, *, chunked: bool, final: bool) -> Tensor:
        embedded = self.input_embedding(tokens)
        if final:
            embedded = F.pad(embedded, (0, 0, 0, LOOK_AHEAD))
        return self.pre_lookahead_layer(embedded, past).repeat_interleave(FRAMES_PER_TOKEN, dim=1).transpose(1, 2)


@dataclass(frozen=True)
class Chunk:
    """Frames of one utterance that are to be moved: their mean and the recording's mel (1, 80, T), from frame `begin`
    on. The first `recorded` are the recording's own."""

    begin: int
    mean: Tensor
    prompt: Tensor
    recorded: int

    @property
    def end(self) -> int:
        return self.begin + self.mean.shape[2]

    def split(self, frames: int) -> Iterator["Chunk"]:
        """The same in parts of so many frames; the last may have fewer."""
        means, prompts = self.mean.split(frames, dim=2), self.prompt.split(frames, dim=2)
        for number, (mean, prompt) in enumerate(zip(means, prompts, strict=True)):
            recorded = min(max(0, self.recorded - number * frames), mean.shape[2])
            yield Chunk(self.begin + number * frames, mean, prompt, recorded)


class MeanStream:
    """The encoder's side of one utterance whose tokens come a few at a time: the recording's, then those spoken."""

    def __init__(self, flow: Solver, prompt_tokens: Tensor, prompt_mel: Tensor, embedding: Tensor) -> None:
        self._flow, self._past = flow, Past()
        self.speaker = flow.speaker(embedding)
        self.prompt = prompt_mel.transpose(1, 2)
        self._waiting = prompt_tokens  # tokens not finished yet
        self._frames = 0  # finished, the recording's included

    @property
    def device(self) -> torch.device:
        return self._waiting.device

    @property
    def bytes(self) -> int:
        return self._past.bytes

    def fork(self) -> "MeanStream":
        fork = copy.copy(self)
        fork._past = self._past.fork()
        return fork

    @torch.inference_mode()
    def push(self, tokens: Tensor, *, final: bool = False) -> Chunk | None:
        """Whole chunks that `tokens` (1, T) finish, as soon as the three tokens after them are known; with `final`, all
        that is left."""
        self._waiting = torch.cat((self._waiting, tokens), dim=1)
        count = self._waiting.shape[1]
        if not final:
            count = max(0, count - LOOK_AHEAD) // CHUNK_TOKENS * CHUNK_TOKENS
        if not count:
            return None
        ahead = self._waiting if final else self._waiting[:, : count + LOOK_AHEAD]
        mean = self._flow.mean(ahead, self._past, chunked=True, final=final)
        self._waiting = self._waiting[:, count:]
        begin, self._frames = self._frames, self._frames + mean.shape[2]
        prompt = self.prompt[:, :, begin : self._frames]
        recorded = prompt.shape[2]
        return Chunk(begin, mean, F.pad(prompt, (0, mean.shape[2] - recorded)), recorded)


class FlowStream:
    """One utterance whose tokens come a few at a time; what is finished equals `mel(…, chunked=True)`.

    With `keep_tokens` the estimator sees about that many tokens: all of the recording, and what was spoken last. The
    encoder always sees everything, as its attention counts distances.
    """

    def __init__(
        self, flow: Solver, prompt_tokens: Tensor, prompt_mel: Tensor, embedding: Tensor, keep_tokens: int | None = None
    ) -> None:
        self._flow = flow
        self._means = MeanStream(flow, prompt_tokens, prompt_mel, embedding)
        recorded, bound = prompt_tokens.shape[1], None
        if keep_tokens is not None:
            bound = Bound(recorded, max(CHUNK_TOKENS, keep_tokens - recorded))
        self._pasts = [Past(bound) for _ in range(flow.steps)]

    @torch.inference_mode()
    def push(self, tokens: Tensor, *, final: bool = False) -> Tensor:
        """The frames (1, 80, n) that `tokens` (1, T) finish, none of the recording; with `final`, all that are left."""
        chunk = self._means.push(tokens, final=final)
        if chunk is None:
            return self._means.prompt.new_empty(1, MELS, 0)
        noise = self._flow.noise[:, :, chunk.begin : chunk.end]
        mel = self._flow.move(noise, chunk.mean, self._means.speaker, chunk.prompt, self._pasts)
        return mel[:, :, chunk.recorded :]

    def fork(self) -> "FlowStream":
        """A stream that goes on from here by itself: what is finished, a voice's recording say, is not done again."""
        fork = copy.copy(self)
        fork._means, fork._pasts = self._means.fork(), [past.fork() for past in self._pasts]
        return fork

    @property
    def device(self) -> torch.device:
        return self._means.device

    @property
    def bytes(self) -> int:
        """What this stream remembers."""
        return self._means.bytes + sum(past.bytes for past in self._pasts)
