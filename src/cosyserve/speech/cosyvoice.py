"""CosyVoice as a synthesizer, in either edition: voices and text on one side, the engine on the other."""

import asyncio
import logging
import threading
import time
from collections.abc import AsyncGenerator, Mapping
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import torch

from cosyserve import errors
from cosyserve.cosyvoice.engine.vocabulary import Vocabulary
from cosyserve.cosyvoice.frontend.edition import COSYVOICE2, Edition
from cosyserve.cosyvoice.frontend.prompt_encoder import PromptEncoder
from cosyserve.cosyvoice.frontend.tokenizer import TextTokenizer
from cosyserve.cosyvoice.model.config import Sizes, with_steps
from cosyserve.cosyvoice.model.int8 import quantised
from cosyserve.cosyvoice.model.loading import WeightsError, load_flow, load_hift, load_llm
from cosyserve.cosyvoice.runtime.generation import Generator
from cosyserve.cosyvoice.runtime.runtime import Runtime
from cosyserve.cosyvoice.runtime.utterance import Utterance
from cosyserve.errors import CosyError
from cosyserve.speech.asking import Asker
from cosyserve.speech.audio import Pcm
from cosyserve.speech.engine_tokens import open_engine
from cosyserve.speech.kernel_choice import KernelChoice, KernelsInUse, choose
from cosyserve.speech.parts import MakeGenerator, Parts
from cosyserve.speech.prompts import Prompts, VoicePrompt
from cosyserve.speech.runtime_config import RuntimeConfig
from cosyserve.speech.silence import LeadingSilence
from cosyserve.speech.synthesizer import Capability, Options
from cosyserve.speech.voices import Library, Voice
from cosyserve.text.checks import checked_field
from cosyserve.traces.span import Span

# Positions of a slot: 30 s of recording with its words, a segment, and the longest that a segment may become.
_POSITIONS = 2560
_PREPARING = 8  # threads that look voices up and tokenize; most of the time they wait for the normaliser
_LISTENING_SHARE = 4  # a fourth of the threads listens to recordings, so that streams go on beside it

_LOOK_SECONDS = 2.0  # between two looks at whether a card has more room

log = logging.getLogger(__name__)


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
        able = (Capability.CLONE, Capability.INSTRUCT, *[Capability.PRONOUNCE] * edition.pronounces)
        self.capabilities = frozenset(able)
        try:
            sizes = with_steps(edition.config(folder), config.flow_steps)
            tokenizer = TextTokenizer(folder, edition.added)
            prompt_encoder = PromptEncoder(folder, max(1, config.threads // _LISTENING_SHARE), edition.ears)
            flow = load_flow(folder, sizes, config.dtype, config.device)
            vocoder = load_hift(folder, sizes, config.device)
            vocoder.exact = config.dtype == torch.float32
            if tokenizer.size > sizes.llm.vocabulary:
                raise WeightsError(f"the tokenizer has {tokenizer.size} tokens, the model {sizes.llm.vocabulary}")
            chosen = choose(config.device, config.dtype, sizes, config.state_dir)
            if engine is None:
                generator, positions = _generator(folder, sizes, config, chosen), _POSITIONS
            else:
                opened = open_engine(engine, config, Vocabulary.of(sizes.llm, tokenizer.size))
                generator, positions = lambda streams: opened, opened.length
            self._asker = Asker(edition, tokenizer, positions)
            self._prompts = Prompts(voices, folder, prompt_encoder, tokenizer.size, edition)
            self.library = Library(voices, learn=self._prompts.of)
        except WeightsError as error:
            raise CosyError(errors.MODEL_UNUSABLE, reason=error) from error
        self.device = torch.cuda.get_device_name(config.device) if config.device.startswith("cuda") else config.device
        self._config = config
        self.kernels: KernelsInUse | None = chosen.in_use
        self._parts = Parts(generator, sizes, flow, vocoder, config, chosen.kernels)
        parts, self.capacity = self._parts.made()
        self._runtime = Runtime(*parts, config.threads, config.device)
        self._closing = threading.Event()
        if self._parts.shared and self.capacity.bound_by == "memory":
            threading.Thread(target=self._wait_for_room, name="room", daemon=True).start()
        self._preparing = ThreadPoolExecutor(_PREPARING, thread_name_prefix="prepare")

    @property
    def broken(self) -> str:
        return self._runtime.broken

    @property
    def preparing(self) -> str:
        return self._runtime.preparing

    @property
    def voices(self) -> Mapping[str, Voice]:
        return {name: entry.voice for name, entry in self.library.entries.items()}

    async def synthesize(self, segment: str, voice: Voice, options: Options) -> AsyncGenerator[Pcm, None]:
        loop = asyncio.get_running_loop()
        with options.span.begin("prompt"):
            voice_prompt = await self._voice_prompt(voice, options)
            request = await loop.run_in_executor(self._preparing, self._asker.request, segment, voice_prompt, options)
        made: asyncio.Queue[Pcm | Exception | None] = asyncio.Queue()

        def give(item: Pcm | Exception | None) -> None:
            with suppress(RuntimeError):  # the loop has been closed, and with it whoever waited
                loop.call_soon_threadsafe(made.put_nowait, item)

        utterance = Utterance(request, voice_prompt.prompt, give, whole=options.whole and self._config.whole_attention)
        silence = LeadingSilence() if self._config.trim_silence else None
        started, heard = time.time_ns(), False
        self._runtime.start(utterance)
        try:
            while (item := await made.get()) is not None:
                if isinstance(item, Exception):
                    raise item
                if not heard:
                    heard = True
                    _trace_first_sound(options.span, started, utterance)
                self._runtime.taken(utterance)
                pcm = item if silence is None else silence.push(item)
                if pcm.size:
                    yield pcm
        finally:
            self._runtime.cancel(utterance)

    def _wait_for_room(self) -> None:
        """As long as others that hold memory of the card, a predecessor say, may let go of it."""
        while not self._closing.wait(_LOOK_SECONDS):
            if self._parts.streams > self.capacity.streams and not self._grow():
                return

    def _grow(self) -> bool:
        """Make room for more streams, and wait until it is in use; False where that failed for another reason than that
        there is none after all."""
        more = self.capacity.streams + 1
        try:
            self.capacity = self._runtime.grow(lambda: self._parts.made(more)).result()
        except (Exception, CancelledError) as problem:
            if isinstance(problem, CosyError) and problem.fault is errors.GPU_MEMORY:
                return True
            log.warning("No room for more streams could be made: %s", problem)
            return False
        log.info("There is room for %d streams now. %s", self.capacity.streams, self.capacity.why)
        return True

    def close(self) -> None:
        self._closing.set()
        self._preparing.shutdown(cancel_futures=True)
        self._prompts.close()
        self._runtime.close()

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


def _generator(folder: Path, sizes: Sizes, config: RuntimeConfig, chosen: KernelChoice) -> MakeGenerator:
    """What makes the generator, once it is known for how many streams there is room."""
    llm = load_llm(folder, sizes, torch.bfloat16 if config.int8 else config.dtype, config.device)
    llm = quantised(llm) if config.int8 else llm
    return lambda streams: Generator(llm, streams, _POSITIONS, kernels=chosen.kernels)


def _trace_first_sound(span: Span, started: int, utterance: Utterance) -> None:
    """Where the time until now went: to the first token, then to a first hop's tokens and its rendering."""
    now = time.time_ns()
    drawn = utterance.first_token_ns or now
    span.begin("first token", at=started).end(drawn)
    span.begin("first hop", at=drawn).end(now)


def _words(transcript: str) -> str:
    """A card may come from anywhere, and so may its words."""
    return checked_field("transcript", transcript)
