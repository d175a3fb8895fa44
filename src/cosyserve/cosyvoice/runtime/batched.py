"""Flow and vocoder of all utterances together, in memory that never moves: for a GPU."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import torch
from torch import Tensor

from cosyserve.cosyvoice.frontend.prompt_encoder import Prompt
from cosyserve.cosyvoice.model.config import CHUNK_TOKENS, FRAMES_PER_TOKEN
from cosyserve.cosyvoice.model.flow import Chunk, Solver
from cosyserve.cosyvoice.model.vocoder import Hop as VocoderHop
from cosyserve.cosyvoice.model.vocoder import Vocoder
from cosyserve.cosyvoice.runtime.editions import mean_batch
from cosyserve.cosyvoice.runtime.flow_batch import FlowBatch, FlowState, Work
from cosyserve.cosyvoice.runtime.flow_memory import CHUNK
from cosyserve.cosyvoice.runtime.graphs import Make, fetched, new_pool
from cosyserve.cosyvoice.runtime.health import is_out_of_memory
from cosyserve.cosyvoice.runtime.hops import Hops, Tokens
from cosyserve.cosyvoice.runtime.lru import Lru
from cosyserve.cosyvoice.runtime.mean_batch import Encoded, EncodedStream
from cosyserve.cosyvoice.runtime.mean_batch import Work as Encode
from cosyserve.cosyvoice.runtime.pages import NoPagesError
from cosyserve.cosyvoice.runtime.token2wav import Hop, Token2WavStream
from cosyserve.cosyvoice.runtime.vocoder import VocoderBatch
from cosyserve.cosyvoice.runtime.whole import WholeFlow, WholeTokens

if TYPE_CHECKING:  # with them comes Triton, which is imported where a card is
    from cosyserve.cosyvoice.kernels.kernels import Kernels

_VOICES = 64  # at most; how many there are is for the pages to say
T = TypeVar("T")


@dataclass
class Voice:
    """What all streams in a voice begin with: the encoder behind the recording, and the recording's chunks with their
    pages. A first stream takes the chunks through the flow; `tails` are there from then on."""

    hops: Hops
    encoded: Encoded
    chunks: list[Chunk]
    pages: list[int]
    tails: Tensor | None = None
    recorder: "FlowPart | None" = None  # the stream that takes the chunks through the flow

    def awaited_by(self, part: "FlowPart") -> bool:
        """Whether another stream is about to make the recording."""
        return bool(self.chunks) and self.tails is None and self.recorder not in (None, part)


@dataclass
class FlowPart:
    """What a stream has of encoder and flow."""

    voice: Voice
    encoded: EncodedStream
    state: FlowState


@dataclass(frozen=True)
class _Own:
    """What a stream's hop begins with: its tokens (1, T), or its mel already."""

    last: bool
    tokens: Tensor | None = None
    mel: Tensor | None = None


class BatchedStream(Token2WavStream):
    @property
    def ready(self) -> bool:
        return super().ready and not (isinstance(self.flow, FlowPart) and self.flow.voice.awaited_by(self.flow))


class BatchedToken2Wav:
    """`streams` at once, with `pages` of the flow's past."""

    def __init__(
        self,
        flow: Solver,
        vocoder: Vocoder,
        hops: Hops,
        streams: int,
        pages: int,
        frames: int,
        recording_tokens: int | None = None,
        *,
        kernels: "Kernels | None" = None,
    ) -> None:
        """`frames` bounds what an utterance has behind it, `recording_tokens` how much of that is a recording; by
        default half of it. With `kernels` Triton's make the flow, else PyTorch's."""
        torch.backends.cudnn.deterministic = True  # a seed gives the same samples, whatever runs beside it
        torch.backends.cudnn.allow_tf32 = False  # float32 is exact; the vocoder says by itself when it is not to be
        self.width = streams
        self.slots: float = streams
        self._hops = Hops(hops.first, CHUNK_TOKENS)  # a graph moves a chunk, neither more nor less
        self._flow, pool = flow, new_pool(first=True)  # somebody listens to it, or will soon
        self._encoder = mean_batch(flow, streams + 1, pool)  # and a slot to hear a recording in
        self._hearing = streams
        self.batch = FlowBatch(flow, streams, pages, frames, pool, kernels=kernels)
        self._vocoder = VocoderBatch(vocoder, streams, FRAMES_PER_TOKEN * self._hops.first, CHUNK, pool, kernels)
        tokens = self.batch.pages_behind * CHUNK_TOKENS
        wanted = tokens // 2 if recording_tokens is None else recording_tokens
        self._recording_tokens = min(wanted, tokens - 2 * CHUNK_TOKENS)  # the rest is a ring of whole chunks
        self._voices = Lru[Prompt, Voice](_VOICES)

    @property
    def voices(self) -> list[Voice]:
        """Those that are known, the one that was spoken longest ago first."""
        return self._voices.values()

    def graphs(self) -> list[Make]:
        return [*self._encoder.graphs(self.width), *self.batch.graphs(), *self._vocoder.graphs()]

    def stream(self, prompt: Prompt, seed: int, *, whole: bool = False) -> Token2WavStream:
        if whole:
            tokens, vocoder = WholeTokens(self._flow.silent), self._vocoder.stream(seed, whole=True)
            return BatchedStream(tokens, WholeFlow(self._flow, prompt, tokens), vocoder)
        voice = self._voices.get(prompt) or self._voice(prompt)
        state = self._with_room(lambda: self.batch.begin(voice.pages, voice.tails), but=voice)
        try:
            part = FlowPart(voice, self._encoder.resume(voice.encoded, state.slot), state)
        except BaseException:
            self.batch.end(state)
            raise
        if voice.recorder is None:
            voice.recorder = part
        return BatchedStream(Tokens(voice.hops, self._flow.silent), part, self._vocoder.stream(seed))

    def release(self, stream: Token2WavStream) -> None:
        if isinstance(stream.flow, FlowPart):
            self.batch.end(stream.flow.state)
            if stream.flow.voice.recorder is stream.flow:
                stream.flow.voice.recorder = None

    def hops(self, streams: Sequence[Token2WavStream]) -> list[Hop]:
        """What each does by itself, then the encoder and the flow for all together."""
        nothing = self._flow.noise[:, :, :0]
        own = [self._own(stream) for stream in streams]
        moved = self._moved(streams, self._works(streams, own))
        return [
            (torch.cat(parts, dim=2) if parts else each.mel if each.mel is not None else nothing, each.last)
            for each, parts in zip(own, moved, strict=True)
        ]

    def waves(self, streams: Sequence[Token2WavStream], hops: Sequence[Hop]) -> list[Tensor]:
        sounding: dict[int, VocoderHop] = {}  # by number
        for number, (stream, (mel, last)) in enumerate(zip(streams, hops, strict=True)):
            try:
                hop = None if stream.problem else stream.vocoder.hop(mel, final=last)
            except Exception as problem:  # the others are none of its business
                stream.problem, hop = problem, None
            if hop is not None:
                sounding[number] = hop
        spoken = self._spoken(streams, sounding)
        waves = [spoken.get(number, self._flow.noise.new_empty(0)) for number in range(len(streams))]
        return fetched(waves)

    def _spoken(self, streams: Sequence[Token2WavStream], hops: dict[int, VocoderHop]) -> dict[int, Tensor]:
        """The samples of each. Where memory has run out, one stream ends and the others are spoken again."""
        while hops:
            try:
                return dict(zip(hops, self._vocoder.speak(list(hops.values())), strict=True))
            except Exception as problem:
                if len(hops) > 1 and not is_out_of_memory(problem):
                    raise
                streams[hops.popitem()[0]].problem = problem
        return {}

    def _voice(self, prompt: Prompt) -> Voice:
        """A voice that was not spoken lately: its recording goes through the encoder, and with the first hop of a
        stream through the flow."""
        aligned = self._hops.aligned(prompt, self._recording_tokens)
        device = self._flow.like.device
        speech, mel, speaker = (each[None].to(device) for each in (aligned.speech, aligned.mel, aligned.speaker))
        stream = self._encoder.begin(self._hearing, speech, mel, speaker)
        (chunks,) = self._encoder.push([(stream, False)])
        if self._voices.full and not self._forget():
            raise NoPagesError(f"{_VOICES} voices speak already")
        pages = self._with_room(lambda: self.batch.pages.take(len(chunks)))
        voice = Voice(self._hops.behind(speech.shape[1]), self._encoder.keep(stream), chunks, pages)
        self._voices.keep(prompt, voice)
        return voice

    def _with_room(self, take: Callable[[], T], but: Voice | None = None) -> T:
        """What needs pages, where other voices may have to be forgotten for them; raises `NoPagesError` where that does
        not help."""
        while True:
            try:
                return take()
            except NoPagesError:
                if not self._forget(but):
                    raise

    def _forget(self, but: Voice | None = None) -> bool:
        """Of the voices that no stream speaks in, the one that was spoken longest ago; whether there was one."""
        voice = self._voices.drop(lambda each: each is not but and self._idle(each))
        if voice is not None:
            self.batch.pages.give_back(voice.pages)
        return voice is not None

    def _idle(self, voice: Voice) -> bool:
        return all(self.batch.pages.users(page) == 1 for page in voice.pages)

    def _own(self, stream: Token2WavStream) -> _Own:
        """The tokens of a stream's hop; or the turn of a whole, which is a hop already."""
        try:
            if isinstance(stream.tokens, WholeTokens):
                mel, last = stream.flow.turn()
                return _Own(last, mel=mel)
            tokens, last = stream.tokens.take()
            return _Own(last, tokens)
        except Exception as problem:  # the others are none of its business
            stream.problem = problem
            return _Own(last=True)

    def _works(self, streams: Sequence[Token2WavStream], own: Sequence[_Own]) -> list[list[Work]]:
        """The chunks of each hop. The recording's too, where a stream is the first that takes them through the flow."""
        works: list[list[Work]] = [[] for _ in streams]
        asked: list[tuple[Token2WavStream, Encode]] = []
        for stream, each in zip(streams, own, strict=True):
            if each.tokens is not None:
                stream.flow.encoded.add(each.tokens)
                asked.append((stream, (stream.flow.encoded, each.last)))
        chunks = dict(zip((id(stream) for stream, _ in asked), self._encoded(asked), strict=False))
        for row, stream in enumerate(streams):
            if id(stream) in chunks:
                works[row] = self._behind(stream.flow, chunks[id(stream)])
        return works

    def _encoded(self, asked: Sequence[tuple[Token2WavStream, Encode]]) -> list[list[Chunk]]:
        """The chunks of each stream. Where memory runs out, the last one ends and has none, and the others go on from
        where they are."""
        works = [work for _, work in asked]
        while True:
            try:
                return self._encoder.push(works)
            except Exception as problem:
                if len(works) < 2 or not is_out_of_memory(problem):
                    raise
                works = works[:-1]
                asked[len(works)][0].problem = problem

    def _behind(self, part: FlowPart, chunks: list[Chunk]) -> list[Work]:
        if part.voice.tails is not None and not part.state.moved:  # another stream has taken the recording along
            self.batch.go_on(part.state, part.voice.tails)
        recorded = [] if part.state.moved else part.voice.chunks
        return [
            Work(part.state, each, part.encoded.speaker, ends_recording=number == len(recorded))
            for number, each in enumerate((*recorded, *chunks), 1)
        ]

    def _moved(self, streams: Sequence[Token2WavStream], works: Sequence[list[Work]]) -> list[list[Tensor]]:
        """The mel of each chunk, without its recording's, in as many batches as it takes."""
        mels: list[list[Tensor]] = [[] for _ in works]
        left = [list(each) for each in works]
        while any(left):
            rows = self._next_rows(left)
            try:
                moved = self.batch.move([work for _, work in rows])
            except Exception as problem:
                if not self._make_room(streams, rows, left, problem):
                    raise
                continue
            for (number, work), done in zip(rows, moved, strict=True):
                if done.tails is not None:
                    streams[number].flow.voice.tails = done.tails
                mel = done.mel[:, :, work.chunk.recorded :]
                if mel.shape[2]:
                    mels[number].append(mel)
        return mels

    def _next_rows(self, left: list[list[Work]]) -> list[tuple[int, Work]]:
        """What goes into the next batch, and of which stream it is; that is taken off. Each stream has its turn first,
        then those with more to come take what is over."""
        rows: list[tuple[int, Work]] = []
        room = self.batch.width - sum(1 for each in left if each)
        for number, each in enumerate(left):
            if each and len(rows) < self.batch.width:
                count = min(len(each), each[0].state.room(), 1 + max(0, room))
                room -= count - 1
                rows += [(number, work) for work in each[:count]]
                del each[:count]
        return rows

    @staticmethod
    def _make_room(
        streams: Sequence[Token2WavStream], rows: Sequence[tuple[int, Work]], left: list[list[Work]], problem: Exception
    ) -> bool:
        """Where memory has run out, one stream ends and the others have their chunks again: nothing of a batch counts
        before all of it is done. Whether that helps."""
        numbers = list(dict.fromkeys(number for number, _ in rows))
        if len(numbers) == 1 or not is_out_of_memory(problem):
            return False
        ended = numbers.pop()
        streams[ended].problem, left[ended] = problem, []
        for number in numbers:
            left[number] = [*(work for row, work in rows if row == number), *left[number]]
        return True
