"""What passes between a server and a replica: one segment to be spoken, and frames of sound or of failure.

A frame is the same between processes and through Ray: a byte that says what it is, and what it holds. Nothing in it is
pickled.
"""

import asyncio
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field

import numpy as np

from cosyserve.errors import CosyError
from cosyserve.errors.passing import packed, unpacked
from cosyserve.speech.audio import Pcm
from cosyserve.speech.capacity import Capacity
from cosyserve.speech.kernel_choice import KernelsInUse
from cosyserve.speech.synthesizer import Capability, Options, ReferenceAudio
from cosyserve.speech.voices import Entry, Voice

SEGMENT, LEARN, DESCRIBE = b"S", b"L", b"D"  # what may be asked for
SOUND, FAILURE, END = b"s", b"f", b"e"  # what may be answered

_LENGTH_BYTES = 4
_LONGEST = 1 << 28


@dataclass(frozen=True)
class Segment:
    """One call of `Synthesizer.synthesize`."""

    text: str
    voice: str
    options: Options
    trace: Mapping[str, str] = field(default_factory=dict)  # of which it is a part, as `Span.carrier` tells it

    def encode(self) -> bytes:
        """The frame: a line of JSON, then the recording as it is."""
        reference = self.options.reference
        head = {
            "text": self.text,
            "voice": self.voice,
            "instructions": self.options.instructions,
            "seed": self.options.seed,
            "whole": self.options.whole,
            "transcript": None if reference is None else reference.transcript,
            "trace": self.trace,
        }
        return SEGMENT + json.dumps(head).encode() + b"\n" + (b"" if reference is None else reference.recording)

    @classmethod
    def decode(cls, held: bytes) -> "Segment":
        """What the frame holds, its first byte left out."""
        line, _, recording = held.partition(b"\n")
        head = json.loads(line)
        reference = None if head["transcript"] is None else ReferenceAudio(recording, head["transcript"])
        options = Options(head["instructions"], reference, head["seed"], head["whole"])
        return cls(head["text"], head["voice"], options, head["trace"])


def learn(entry: Entry) -> bytes:
    """The frame that asks a replica to prepare a voice whose recording is in the folder of voices."""
    told = {"name": entry.name, "transcript": entry.transcript, "file": entry.file.name}
    return LEARN + json.dumps(told).encode()


@dataclass(frozen=True)
class Description:
    """Describes a synthesizer in another process."""

    name: str
    model: str
    device: str
    capabilities: tuple[str, ...]
    voices: tuple[Voice, ...]
    has_library: bool
    rung: str
    why: str
    why_zh: str
    capacity: Capacity
    kernels: KernelsInUse | None = None

    def encode(self) -> bytes:
        return DESCRIBE + json.dumps(asdict(self)).encode()

    @classmethod
    def decode(cls, data: bytes) -> "Description":
        held = json.loads(data[1:])
        voices = tuple(Voice(**{**each, "languages": tuple(each["languages"])}) for each in held.pop("voices"))
        capacity, capabilities = Capacity(**held.pop("capacity")), tuple(held.pop("capabilities"))
        kernels = held.pop("kernels")
        in_use = None if kernels is None else KernelsInUse(**kernels)
        return cls(**held, capabilities=capabilities, capacity=capacity, voices=voices, kernels=in_use)

    @property
    def capability_set(self) -> frozenset[Capability]:
        return frozenset(map(Capability, self.capabilities))


def sound(pcm: Pcm) -> bytes:
    """A frame of float32 samples, little-endian."""
    return SOUND + np.ascontiguousarray(pcm, dtype="<f4").tobytes()


def failure(error: CosyError) -> bytes:
    return FAILURE + packed(error)


def opened(frame: bytes) -> Pcm:
    """The samples of a frame; raises the failure if the frame holds one."""
    kind, held = frame[:1], frame[1:]
    if kind == SOUND:
        pcm: Pcm = np.frombuffer(held, dtype="<f4").astype(np.float32, copy=False)
        return pcm
    raise unpacked(held)


async def send(writer: asyncio.StreamWriter, frame: bytes) -> None:
    writer.write(len(frame).to_bytes(_LENGTH_BYTES, "big") + frame)
    await writer.drain()


async def receive(reader: asyncio.StreamReader) -> bytes:
    """The next frame; raises `asyncio.IncompleteReadError` if the other side is gone."""
    length = int.from_bytes(await reader.readexactly(_LENGTH_BYTES), "big")
    if length > _LONGEST:
        raise ValueError(f"a frame of {length} bytes")
    return await reader.readexactly(length)
