"""The seam between the server and whatever speaks."""

from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Protocol, runtime_checkable

from cosyserve import errors
from cosyserve.errors import CosyError
from cosyserve.speech.audio import Pcm
from cosyserve.speech.capacity import Capacity
from cosyserve.speech.kernel_choice import KernelsInUse
from cosyserve.speech.names import found as found
from cosyserve.speech.rest import Sleeper
from cosyserve.speech.voices import Library, Voice
from cosyserve.traces.span import UNTRACED, Span


class Capability(str, Enum):
    """What a synthesizer may or may not be able to do beyond speaking in its own voices."""

    CLONE = "clone"
    INSTRUCT = "instruct"
    PRONOUNCE = "pronounce"  # phonemes and pinyin that stand in a text
    INTERLEAVE = "interleave"  # speaks a sentence before it is complete


@dataclass(frozen=True)
class ReferenceAudio:
    """A recording whose voice is to be used: the file as it was uploaded, and its words where known."""

    recording: bytes
    transcript: str = ""


@dataclass(frozen=True)
class Options:
    """What a request may ask for beyond a voice. Instructions, reference and interleave need a `Capability`."""

    instructions: str = ""
    reference: ReferenceAudio | None = None
    seed: int | None = None  # the same seed gives the same speech
    whole: bool = False  # nobody listens before the end, so what is sooner matters less than what is better
    interleave: bool = False  # sound is to begin before a sentence is complete
    stream: str = ""  # which request a segment belongs to: of several replicas one speaks all of them
    span: Span = field(default=UNTRACED, compare=False)  # of the request's trace, for what is done for it

    def needs(self) -> frozenset[Capability]:
        asked = {
            Capability.INSTRUCT: self.instructions,
            Capability.CLONE: self.reference,
            Capability.INTERLEAVE: self.interleave,
        }
        return frozenset(capability for capability, value in asked.items() if value)


class Synthesizer(Protocol):
    """Speaks one segment of text (a sentence or so) at a time, for many requests at once.

    Nothing of a request is kept on the synthesizer. Closing the iterator cancels the work behind it.
    """

    name: str
    model: str
    device: str
    capabilities: frozenset[Capability]

    @property
    def broken(self) -> str:
        """Why it will never speak again in this process; empty as long as it may."""
        ...

    @property
    def preparing(self) -> str:
        """How far it is with what takes long before the first request; empty once that is done."""
        ...

    @property
    def capacity(self) -> Capacity | None:
        """How many are spoken to at once, by now; None where nothing bounds that but the setting."""
        ...

    @property
    def kernels(self) -> KernelsInUse | None:
        """What it computes with, and why; None where there is nothing to choose."""
        ...

    @property
    def rest(self) -> Sleeper | None:
        """What lets go of the device while nobody speaks; None where there is nothing to let go of."""
        ...

    @property
    def library(self) -> Library | None:
        """Where voices are added and removed; None where there are only the synthesizer's own."""
        ...

    @property
    def voices(self) -> Mapping[str, Voice]:
        """All there are now; the first is the default."""
        ...

    def synthesize(self, segment: str, voice: Voice, options: Options) -> AsyncGenerator[Pcm, None]:
        """24 kHz PCM of `segment`, in chunks of any length, each as soon as it exists."""
        ...

    def close(self) -> None:
        """Let go of threads and device memory."""
        ...


@runtime_checkable
class Interleaver(Protocol):
    """A synthesizer that can `INTERLEAVE`."""

    def interleave(self, pieces: AsyncIterator[str], voice: Voice, options: Options) -> AsyncGenerator[Pcm, None]:
        """The same of a segment whose text comes in pieces. A piece ends where a word ends."""
        ...


def pronounces(synthesizer: Synthesizer) -> bool:
    return Capability.PRONOUNCE in synthesizer.capabilities


def voice_of(synthesizer: Synthesizer, name: str) -> Voice:
    """The voice of that name, in any case, or the first where it is empty. A look-up, never a path; raises
    `CS-VOICE-001`."""
    voices = synthesizer.voices
    voice = found(voices, name) if name.strip() else next(iter(voices.values()))
    if voice is None:
        raise CosyError(errors.VOICE_UNKNOWN, param="voice", voices=", ".join(voices))
    return voice
