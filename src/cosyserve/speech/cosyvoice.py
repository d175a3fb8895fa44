"""CosyVoice as a synthesizer, in either edition: voices and text on one side, the engine on the other."""

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AsyncExitStack, aclosing, nullcontext, suppress
from functools import partial
from pathlib import Path

import torch

from cosyserve import errors
from cosyserve.cosyvoice.engine.vocabulary import Vocabulary
from cosyserve.cosyvoice.frontend.edition import COSYVOICE2, Edition
from cosyserve.cosyvoice.frontend.prompt_encoder import PromptEncoder
from cosyserve.cosyvoice.frontend.tokenizer import TextTokenizer
from cosyserve.cosyvoice.model.config import with_steps
from cosyserve.cosyvoice.model.loading import WeightsError
from cosyserve.cosyvoice.runtime.request import Request
from cosyserve.cosyvoice.runtime.runtime import Runtime
from cosyserve.cosyvoice.runtime.utterance import Utterance
from cosyserve.errors import CosyError
from cosyserve.speech.asking import Asker
from cosyserve.speech.audio import Pcm
from cosyserve.speech.capacity import Capacity
from cosyserve.speech.engine_tokens import open_engine
from cosyserve.speech.kernel_choice import KernelsInUse, choose
from cosyserve.speech.loaded import Loader, Model
from cosyserve.speech.prompts import Prompts, VoicePrompt
from cosyserve.speech.rest import Rest
from cosyserve.speech.runtime_config import RuntimeConfig
from cosyserve.speech.silence import LeadingSilence
from cosyserve.speech.synthesizer import Capability, Options
from cosyserve.speech.voices import Library, Voice
from cosyserve.text.checks import checked_field
from cosyserve.traces.span import Span

_PREPARING = 8  # threads that look voices up and tokenize; most of the time they wait for the normaliser
_LISTENING_SHARE = 4  # a fourth of the threads listens to recordings, so that streams go on beside it


class CosyVoiceSynthesizer:
    def __init__(
        self,
        folder: Path,
        voices: Path,
        config: RuntimeConfig,
        engine: Path | None = None,
        edition: Edition = COSYVOICE2,
    ) -> None:
        """Load the model of `folder`; raises `CS-SYN-004` where it is not whole. `engine` takes its language model's
        place; raises `CS-ENGINE-002` where it cannot."""
        self.name, self.model = edition.name, edition.model
        able = {Capability.CLONE: True, Capability.INSTRUCT: True, Capability.PRONOUNCE: edition.pronounces}
        able[Capability.INTERLEAVE] = engine is None  # an engine is given a prompt once
        self.capabilities = frozenset(each for each, is_able in able.items() if is_able)
        try:
            sizes = with_steps(edition.config(folder), config.flow_steps)
            tokenizer = TextTokenizer(folder, edition.added)
            prompt_encoder = PromptEncoder(folder, max(1, config.threads // _LISTENING_SHARE), edition.ears)
            if tokenizer.size > sizes.llm.vocabulary:
                raise WeightsError(f"the tokenizer has {tokenizer.size} tokens, the model {sizes.llm.vocabulary}")
            chosen = choose(config.device, config.dtype, sizes, config.state_dir)
            vocabulary = Vocabulary.of(sizes.llm, tokenizer.size)
            opens = None if engine is None else partial(open_engine, engine, config, vocabulary)
            loader = Loader(Model(folder, sizes, config, chosen, opens))
            self._prompts = Prompts(voices, folder, prompt_encoder, tokenizer.size, edition)
            loaded = loader.first()
        except WeightsError as error:
            raise CosyError(errors.MODEL_UNUSABLE, reason=error) from error
        self._asker = Asker(edition, tokenizer, loaded.positions)
        self.library = Library(voices, learn=self._prompts.of)
        self.device = torch.cuda.get_device_name(config.device) if config.device.startswith("cuda") else config.device
        self._config = config
        self.kernels: KernelsInUse | None = chosen.in_use
        self._capacity = loaded.capacity
        self.rest = Rest(loaded, loader.again, loader.let_go, config.wake_seconds)
        self._preparing = ThreadPoolExecutor(_PREPARING, thread_name_prefix="prepare")

    @property
    def broken(self) -> str:
        return self.rest.broken or ("" if (loaded := self.rest.loaded) is None else loaded.broken)

    @property
    def preparing(self) -> str:
        return "" if (loaded := self.rest.loaded) is None else loaded.preparing

    @property
    def capacity(self) -> Capacity:
        """While it sleeps, what it was before."""
        if (loaded := self.rest.loaded) is not None:
            self._capacity = loaded.capacity
        return self._capacity

    @property
    def voices(self) -> Mapping[str, Voice]:
        return {name: entry.voice for name, entry in self.library.entries.items()}

    async def synthesize(self, segment: str, voice: Voice, options: Options) -> AsyncGenerator[Pcm, None]:
        async with aclosing(self._spoken(partial(self._asker.request, segment), voice, options)) as chunks:
            async for chunk in chunks:
                yield chunk

    async def interleave(self, pieces: AsyncIterator[str], voice: Voice, options: Options) -> AsyncGenerator[Pcm, None]:
        first = await anext(pieces)
        async with aclosing(self._spoken(partial(self._asker.live, first), voice, options, pieces)) as chunks:
            async for chunk in chunks:
                yield chunk

    async def _spoken(
        self,
        ask: Callable[[VoicePrompt, Options], Request],
        voice: Voice,
        options: Options,
        pieces: AsyncIterator[str] | None = None,
    ) -> AsyncGenerator[Pcm, None]:
        """`pieces` are what follows in a live text."""
        loop = asyncio.get_running_loop()
        with options.span.begin("prompt"):
            voice_prompt = await self._voice_prompt(voice, options)
            request = await loop.run_in_executor(self._preparing, ask, voice_prompt, options)
        made: asyncio.Queue[Pcm | Exception | None] = asyncio.Queue()

        def give(item: Pcm | Exception | None) -> None:
            with suppress(RuntimeError):  # the loop has been closed, and with it whoever waited
                loop.call_soon_threadsafe(made.put_nowait, item)

        utterance = Utterance(request, voice_prompt.prompt, give, whole=options.whole and self._config.whole_attention)
        silence = LeadingSilence() if self._config.trim_silence else None
        async with AsyncExitStack() as held:
            with options.span.begin("wake") if self.rest.asleep else nullcontext():
                runtime = (await held.enter_async_context(self.rest.awake())).runtime
            started, heard = time.time_ns(), False
            runtime.start(utterance)
            held.callback(runtime.cancel, utterance)
            if pieces is not None:
                writing = asyncio.create_task(self._write(pieces, utterance, runtime, made))
                held.push_async_callback(_ended, writing)
            while (item := await made.get()) is not None:
                if isinstance(item, Exception):
                    raise item
                if not heard:
                    heard = True
                    _trace_first_sound(options.span, started, utterance)
                runtime.taken(utterance)
                pcm = item if silence is None else silence.push(item)
                if pcm.size:
                    yield pcm

    async def _write(
        self,
        pieces: AsyncIterator[str],
        utterance: Utterance,
        runtime: Runtime,
        made: "asyncio.Queue[Pcm | Exception | None]",
    ) -> None:
        """Give the model its text as it comes. What goes wrong with it is told in place of the sound."""
        loop = asyncio.get_running_loop()
        try:
            async for piece in pieces:
                ids = await loop.run_in_executor(self._preparing, self._asker.piece, utterance.request, piece)
                runtime.written(utterance, ids)
            runtime.written(utterance, (), last=True)
        except Exception as problem:
            made.put_nowait(problem)

    def close(self) -> None:
        self._preparing.shutdown(cancel_futures=True)
        self._prompts.close()
        if (loaded := self.rest.close()) is not None:
            loaded.close()

    async def _voice_prompt(self, voice: Voice, options: Options) -> VoicePrompt:
        """The prompt of a request's recording, else of its voice, which may have been deleted since the request came;
        raises `CS-VOICE-…`, `CS-TEXT-…`."""
        loop = asyncio.get_running_loop()
        with suppress(KeyError, FileNotFoundError):
            encoding = await loop.run_in_executor(self._preparing, self._encode, voice, options)
            # No thread waits while other recordings are listened to, and who leaves gives up the place in that queue.
            return await asyncio.wrap_future(encoding)
        raise CosyError(errors.VOICE_UNKNOWN, param="voice", voices=", ".join(self.library.entries))

    def _encode(self, voice: Voice, options: Options) -> "Future[VoicePrompt]":
        if options.reference is not None:
            return self._prompts.encode_upload(options.reference.recording, _words(options.reference.transcript))
        entry = self.library.entries[voice.id]
        _words(entry.transcript)
        return self._prompts.encode(entry)


def _trace_first_sound(span: Span, started: int, utterance: Utterance) -> None:
    """Where the time until now went: to the first token, then to a first hop's tokens and its rendering."""
    now = time.time_ns()
    drawn = utterance.first_token_ns or now
    span.begin("first token", at=started).end(drawn)
    span.begin("first hop", at=drawn).end(now)


async def _ended(task: "asyncio.Task[None]") -> None:
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


def _words(transcript: str) -> str:
    """A card may come from anywhere, and so may its words."""
    return checked_field("transcript", transcript)
