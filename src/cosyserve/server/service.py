"""Shared by all routes: the settings, the synthesizer, its readiness and its places."""

import logging
import math
import os
import re
import uuid
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from enum import Enum
from functools import cached_property

import anyio
from anyio.to_thread import run_sync
from fastapi.requests import HTTPConnection

from cosyserve import errors
from cosyserve.errors import CosyError, Fault
from cosyserve.keys import Key
from cosyserve.keys.keyring import Keyring
from cosyserve.launch.heartbeat import REASON, REASON_ZH, RELEASE, RESTARTS, START
from cosyserve.launch.ladder import PLAIN, RUNG
from cosyserve.server.admission import Admission
from cosyserve.server.captions import KeptCaptions
from cosyserve.server.fleet import ALONE, Fleet
from cosyserve.server.idleness import Idleness
from cosyserve.server.metrics import Metrics
from cosyserve.server.pulse import WatchedSynthesizer
from cosyserve.server.quotas import Quotas
from cosyserve.server.usage import Usage
from cosyserve.settings import Settings
from cosyserve.speech.audio import Pcm
from cosyserve.speech.capacity import Capacity, by_setting, capacity_of
from cosyserve.speech.choice import Choice
from cosyserve.speech.lexicon import Lexicon
from cosyserve.speech.pipeline import AnySegment, SpeechRequest, speak
from cosyserve.speech.synthesizer import Capability, Options, pronounces, voice_of
from cosyserve.speech.voices import Library, Voice
from cosyserve.store.manifest import SPEAKING
from cosyserve.text import normalise
from cosyserve.text.checks import checked
from cosyserve.text.front_end import whole
from cosyserve.text.lexicon import Words

log = logging.getLogger(__name__)

# Names that clients of OpenAI's API send without having chosen: they get the default voice.
OPENAI_VOICES = frozenset(
    ("alloy", "ash", "ballad", "cedar", "coral", "echo", "fable")
    + ("marin", "nova", "onyx", "sage", "shimmer", "verse")
)
# … and of CosyVoice's first model, one of which its client.py sends unless it is told otherwise.
COSYVOICE_VOICES = frozenset(("中文女", "中文男", "日语男", "粤语女", "英文女", "英文男", "韩语女"))
# OpenAI's families of models, with the dates that tell their releases apart.
_OPENAI_MODEL = re.compile(r"(tts-\d(-hd)?|gpt-[\w.]+(-mini)?-tts)(-latest|-preview|(-\d{2,4})+)?")
# The name a client keeps while its server moves from the preview to the real voice.
PRODUCT_MODEL = "cosyvoice2-0.5b"

_WARM_UP = "你好。Ready."
_LOOK_SECONDS = 0.5  # between two looks at whether anybody has asked
_NEW_REPLICA_SECONDS = 5  # after which it is worth asking again
# Recordings that are listened to at once, and that wait for it: each is work that speech has to share with.
_LISTENING, _TO_LISTEN = 2, 8


class ServerState(str, Enum):
    STARTING = "starting"
    READY = "ready"
    ASLEEP = "asleep"  # ready, and the first request waits for it to wake
    FAILED = "failed"
    STALLED = "stalled"
    BROKEN = "broken"
    IDLE = "idle"
    RETIRING = "retiring"
    STOPPING = "stopping"


_UNREADY: dict[ServerState, Fault] = {
    ServerState.STARTING: errors.STARTING,
    ServerState.FAILED: errors.WARMUP_FAILED,
    ServerState.STALLED: errors.STALLED,
    ServerState.BROKEN: errors.ENGINE_FAILED,
    ServerState.IDLE: errors.STOPPING,
    ServerState.STOPPING: errors.STOPPING,
}
_INCAPABLE: dict[Capability, Fault] = {
    Capability.CLONE: errors.CANNOT_CLONE,
    Capability.INSTRUCT: errors.CANNOT_INSTRUCT,
    Capability.INTERLEAVE: errors.CANNOT_INTERLEAVE,
}


class Service:
    def __init__(self, settings: Settings, choice: Choice, fleet: Fleet = ALONE) -> None:
        self.settings = settings
        self.choice = choice
        self.fleet = fleet
        self.synthesizer = WatchedSynthesizer(choice.synthesizer)
        self.lexicon = Lexicon(settings.voices_dir)
        self.captions = KeptCaptions()
        self.state = ServerState.STARTING
        self.admission = Admission(lambda: self.capacity.streams, settings.max_queue, settings.queue_seconds)
        self.uploads = Admission(
            lambda: _LISTENING,
            _TO_LISTEN,
            settings.queue_seconds,
            full=errors.UPLOADS_BUSY,
            late=errors.UPLOADS_BUSY,
        )
        self.idleness = Idleness(settings.idle_shutdown_minutes, self.admission)
        self.keyring = Keyring(settings)
        self.metrics = Metrics(self.admission, fleet, lambda: self.keyring.named)
        self.quotas = Quotas(self.keyring, Usage(settings.state_dir), self.metrics.by_key.refuse)
        voice_of(self.synthesizer, settings.voice)  # a name that is not there is to be known at the start
        self.rung = os.environ.get(RUNG, PLAIN)
        self.restarts = int(os.environ.get(RESTARTS, "0"))
        self.restart_reason, self.restart_reason_zh = os.environ.get(REASON, ""), os.environ.get(REASON_ZH, "")
        self.release, self.start = os.environ.get(RELEASE, ""), os.environ.get(START, "")
        self.metrics.restarts.inc(self.restarts)

    @cached_property
    def _encoders(self) -> anyio.CapacityLimiter:
        """Threads for encoding only, so that nothing else can delay a stream."""
        return anyio.CapacityLimiter(max(2, os.cpu_count() or 1))

    async def encode(self, work: Callable[..., bytes], *arguments: Pcm) -> bytes:
        """The result of `work`, done in one of the encoding threads."""
        return await run_sync(work, *arguments, limiter=self._encoders)

    @property
    def default_voice(self) -> Voice:
        return voice_of(self.synthesizer, self.settings.voice)

    @property
    def capacity(self) -> Capacity:
        return self.synthesizer.capacity or capacity_of([by_setting(self.settings.max_streams)])

    @property
    def condition(self) -> ServerState:
        """The state as clients see it: if no replica could speak, the server counts as starting."""
        if self.state is not ServerState.READY:
            return self.state
        if not self.fleet.ready:
            return ServerState.STARTING
        rest = self.synthesizer.rest
        return ServerState.ASLEEP if rest is not None and rest.asleep else ServerState.READY

    async def rest(self) -> None:
        """Let go of the device each time that nobody has asked for so long; returns only where there is nothing to let
        go of."""
        rest, seconds = self.synthesizer.rest, self.settings.unload_seconds
        if rest is None or not seconds:
            return
        idleness = Idleness(seconds / 60, self.admission)
        while True:
            left = idleness.seconds_left or 0.0
            if not left and not rest.asleep and self.state is ServerState.READY:
                await rest.sleep()
            await anyio.sleep(max(left, _LOOK_SECONDS))

    async def warm_up(self) -> None:
        """Speak once before the first client does; only then is the server ready."""
        normalise.start()
        try:
            speech = SpeechRequest(whole(_WARM_UP), self.default_voice)
            async for _ in speak(self.synthesizer, speech, max_seconds=math.inf):
                pass
        except Exception:
            self.state = ServerState.FAILED
            log.exception("%s", CosyError(errors.WARMUP_FAILED))
        else:
            if self.state is ServerState.STARTING:
                self.state = ServerState.READY

    def stalls(self) -> bool:
        """Whether the synthesis was just found to be stuck; the server is not ready from then on."""
        if (
            self.state is not ServerState.READY
            or self.synthesizer.pulse.silent_seconds < self.settings.synthesis_seconds
        ):
            return False
        self.state = ServerState.STALLED
        log.error("The synthesis has made no audio for %g s", self.settings.synthesis_seconds)
        return True

    def breaks(self) -> bool:
        """Whether the synthesizer was just found to be broken for the rest of this process."""
        if self.state is not ServerState.READY or not self.synthesizer.broken:
            return False
        self.state = ServerState.BROKEN
        log.error("%s", CosyError(errors.ENGINE_FAILED, reason=self.synthesizer.broken))
        return True

    def idles(self) -> bool:
        """Whether no request has come for so long that the machine should be switched off."""
        return self.state is ServerState.READY and self.idleness.seconds_left == 0

    async def drain(self, state: ServerState = ServerState.STOPPING) -> None:
        """Take no new requests and wait until the running ones are done, for the grace time at most. If a successor
        already serves, there is no limit, neither for them nor for requests of clients that connected before it did."""
        self.state = state
        if state is ServerState.RETIRING:
            await self._idle()
            return
        self.admission.close()
        self.uploads.close()
        with anyio.move_on_after(self.settings.grace_seconds) as patience:
            await self._idle()
        if patience.cancelled_caught:
            log.warning("The grace time is over: %d streams are cut off", self.admission.active)

    async def _idle(self) -> None:
        """Return once no stream runs and no recording is processed."""
        await self.uploads.idle()
        await self.admission.idle()

    def voice(self, name: str) -> Voice:
        """The voice of that name. An empty name and, unless a voice has such a name, OpenAI's own names and those of
        CosyVoice's first model mean the default."""
        if not name.strip():
            return self.default_voice
        try:
            return voice_of(self.synthesizer, name)
        except CosyError:
            if name.strip().lower() in OPENAI_VOICES | COSYVOICE_VOICES:
                return self.default_voice
            raise

    def library(self) -> Library:
        """Where voices are added and removed; raises `CS-CAP-001` where the synthesizer has only its own."""
        if self.synthesizer.library is None:
            raise CosyError(errors.CANNOT_CLONE, synthesizer=self.synthesizer.name)
        return self.synthesizer.library

    def require_capabilities(self, options: Options) -> None:
        for capability in options.needs() - self.synthesizer.capabilities:
            raise CosyError(_INCAPABLE[capability], synthesizer=self.synthesizer.name)

    def models(self) -> list[str]:
        """The one that speaks; with the preview, the one that is to come, too."""
        speaking = self.synthesizer.model
        return [speaking] if speaking in SPEAKING else [speaking, PRODUCT_MODEL]

    def require_model(self, name: str) -> None:
        """Raises `CS-REQ-003` for a name that is neither a model here nor one of OpenAI's; empty is the default."""
        name = name.strip().lower()
        known = {each.lower() for each in (*self.models(), *SPEAKING)}  # a client may have been set up for another one
        if name and name not in known and not _OPENAI_MODEL.fullmatch(name):
            raise CosyError(errors.MODEL_UNKNOWN, param="model", models=", ".join(self.models()))

    def speech(
        self,
        text: str,
        voice: str = "",
        speed: float = 1.0,
        options: Options = Options(),
        *,
        normalize: bool = True,
        ssml: bool = False,
    ) -> SpeechRequest:
        """The speech that a request asks for, checked; raises before any work is done."""
        text = checked(text, self.settings.max_text_chars)
        segments = whole(
            text,
            normalize=normalize,
            first_alone=not options.whole,
            pronounced=pronounces(self.synthesizer),
            words=self.words(voice),
            ssml=ssml,
        )
        return replace(self.streamed(segments, voice, speed, options), characters=len(text))

    def words(self, voice: str) -> Words:
        """What the voice of that name says for the lexicon's words. Whether there is such a voice is checked when it
        is to speak."""
        return self.lexicon.words(self.voice_id(voice), pronounced=pronounces(self.synthesizer))

    def voice_id(self, name: str) -> str:
        """What the voice of that name is called; empty if there is none."""
        try:
            return self.voice(name).id
        except CosyError:
            return ""

    def streamed(
        self, segments: AsyncIterator[AnySegment], voice: str = "", speed: float = 1.0, options: Options = Options()
    ) -> SpeechRequest:
        """The same for a text that is still arriving, whose pieces the caller checks."""
        speaker = self.require_ready(voice, options)
        return SpeechRequest(segments, speaker, speed, replace(options, stream=uuid.uuid4().hex))

    def require_ready(self, voice: str, options: Options) -> Voice:
        """The voice of that name; raises what keeps it from speaking with `options` now."""
        if self.state not in (ServerState.READY, ServerState.RETIRING):
            raise CosyError(_UNREADY[self.state], retry_after=1, reason=self.synthesizer.broken)
        self.require_capabilities(options)
        if not self.fleet.ready:
            raise CosyError(errors.NO_REPLICA, retry_after=_NEW_REPLICA_SECONDS)
        return self.voice(voice)


def key_of(connection: HTTPConnection) -> Key:
    """The key of a request that the door has let in."""
    key: Key = connection.state.key
    return key


def service_of(connection: HTTPConnection) -> Service:
    service: Service = connection.app.state.service
    return service
