"""PCM to the formats clients ask for, chunk by chunk: no encoder waits for the end of the audio.

The container options are the ones that really stream: an Ogg page for every 20 ms, no Xing header that
would have to be corrected at the end, small FLAC frames.
"""

import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

import av

from cosyserve.speech.audio import SAMPLE_RATE, Pcm, to_s16le


class Encoder(Protocol):
    def encode(self, pcm: Pcm) -> bytes:
        """What can be sent once `pcm` is there; may be empty."""
        ...

    def finish(self) -> bytes:
        """The rest. The encoder is used up afterwards."""
        ...


@dataclass(frozen=True)
class Format:
    """An audio format of the API.

    `delay` is what its codec adds to the length and no header of a stream can announce, in samples at
    `rate` (measured; tests hold it); `frame` is the step its length is rounded up to.
    """

    name: str
    media_type: str
    rate: int = SAMPLE_RATE
    frame: int = 1
    delay: int = 0
    codec: str = ""
    container: str = ""
    bit_rate: int = 0
    codec_options: Mapping[str, str] = field(default_factory=dict)
    container_options: Mapping[str, str] = field(default_factory=dict)

    def encoder(self) -> Encoder:
        return _CodecEncoder(self) if self.codec else _PcmEncoder(header=self.name == "wav")


FORMATS: Mapping[str, Format] = {
    each.name: each
    for each in (
        # Two frames: LAME's own delay of 576 samples, a decoder's 529, and 47 of LAME's look-ahead.
        Format(
            "mp3",
            "audio/mpeg",
            frame=576,
            delay=2 * 576,
            codec="libmp3lame",
            container="mp3",
            bit_rate=64_000,
            container_options={"write_xing": "0", "id3v2_version": "0"},
        ),
        Format(
            "opus",
            "audio/ogg",
            rate=48_000,
            codec="libopus",
            container="ogg",
            bit_rate=32_000,
            codec_options={"application": "lowdelay", "frame_duration": "20"},
            container_options={"page_duration": "20000"},
        ),
        # One frame of priming; ADTS has no field that tells a decoder to skip it.
        Format("aac", "audio/aac", frame=1024, delay=1024, codec="aac", container="adts", bit_rate=64_000),
        Format("flac", "audio/flac", codec="flac", container="flac", codec_options={"frame_size": "1024"}),
        Format("wav", "audio/wav"),
        Format("pcm", "audio/pcm"),
    )
}


class _PcmEncoder:
    def __init__(self, *, header: bool) -> None:
        self._header = _wav_header() if header else b""

    def encode(self, pcm: Pcm) -> bytes:
        header, self._header = self._header, b""
        return header + to_s16le(pcm)

    def finish(self) -> bytes:
        return b""


def _wav_header() -> bytes:
    """A WAV header of unknown length: both sizes at their maximum, which players read as 'until the end'."""
    unknown, pcm, channels, width = 0xFFFFFFFF, 1, 1, 2
    return struct.pack(
        "<4sI4s4sIHHIIHH4sI",
        *(b"RIFF", unknown, b"WAVE", b"fmt ", 16, pcm, channels, SAMPLE_RATE),
        *(SAMPLE_RATE * width, width, width * 8, b"data", unknown),
    )


class _Sink:
    """A file for the muxer to write to, emptied after every chunk."""

    def __init__(self) -> None:
        self._written = bytearray()

    def write(self, data: bytes) -> int:
        self._written += data
        return len(data)

    def take(self) -> bytes:
        data = bytes(self._written)
        self._written.clear()
        return data


class _CodecEncoder:
    def __init__(self, fmt: Format) -> None:
        self._sink = _Sink()
        self._container = av.open(
            self._sink, "w", format=fmt.container, options={"flush_packets": "1", **fmt.container_options}
        )
        stream = self._container.add_stream(fmt.codec, rate=fmt.rate, options=dict(fmt.codec_options))
        assert isinstance(stream, av.AudioStream)  # noqa: S101 - every codec above is an audio codec
        self._stream = stream
        self._stream.layout = "mono"
        if fmt.bit_rate:
            self._stream.bit_rate = fmt.bit_rate
        self._resampler = av.AudioResampler(format=self._stream.format, layout="mono", rate=fmt.rate)
        self._position = 0

    def encode(self, pcm: Pcm) -> bytes:
        frame = av.AudioFrame.from_ndarray(pcm.clip(-1.0, 1.0).reshape(1, -1), format="flt", layout="mono")
        frame.sample_rate = SAMPLE_RATE
        frame.pts = self._position
        self._position += pcm.size
        self._mux(frame)
        return self._sink.take()

    def finish(self) -> bytes:
        self._mux(None)
        self._container.mux(self._stream.encode(None))
        self._container.close()
        return self._sink.take()

    def _mux(self, frame: av.AudioFrame | None) -> None:
        for resampled in self._resampler.resample(frame):
            self._container.mux(self._stream.encode(resampled))
