"""PCM to the formats clients ask for, chunk by chunk: no encoder waits for the end of the audio.

The stream options are the ones that really stream: an Ogg page for every 20 ms, no Xing header that would have to be
corrected at the end. A file that can be sought has such headers, and they tell its true length.
"""

import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from functools import partial
from typing import IO, Any, Protocol

import av

from cosyserve.speech.audio import SAMPLE_RATE, Pcm, to_s16le
from cosyserve.speech.label import COMMENT, ENTRY, Label
from cosyserve.speech.mp4 import add_text
from cosyserve.speech.tags import Tags

_CHUNK = struct.Struct("<4sI")  # name and size of a part of a WAV
_WAV_FORMAT = struct.Struct("<HHIIHH")
_MP4 = "ipod"  # as audiobooks have it
_VORBIS_COMMENTS = ("ogg", "flac")
_UNKNOWN = 0xFFFFFFFF  # a size that players read as "until the end"


class Encoder(Protocol):
    def encode(self, pcm: Pcm) -> bytes:
        """What can be sent once `pcm` is there; may be empty, and is where a file is written."""
        ...

    def finish(self) -> bytes:
        """The rest. The encoder is used up afterwards."""
        ...


@dataclass(frozen=True)
class Format:
    """An audio format of the API.

    `delay` is what its codec adds to the length and no header of a stream can announce, in samples at
    `rate` (measured; tests hold it); `frame` is the step its length is rounded up to. `stream_options` are the
    container's where it is sent while it is made, `tag_options` those where it has a label or tags.
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
    stream_options: Mapping[str, str] = field(default_factory=dict)
    tag_options: Mapping[str, str] = field(default_factory=dict)

    def encoder(self, label: Label | None = None) -> Encoder:
        """For audio that is sent while it is made: nothing can be corrected, so no header tells a length."""
        if self.codec:
            return _CodecEncoder(self, _Sink(), {"flush_packets": "1", **self.stream_options}, label)
        return _PcmEncoder(header=_wav_header(label) if self.name == "wav" else b"")

    def writer(self, file: IO[bytes], label: Label | None = None, tags: Tags | None = None) -> Encoder:
        """For a whole in `file`, which can be sought: it tells its length and `tags` where the format can."""
        if self.codec:
            return _CodecEncoder(self, file, {}, label, tags)
        return _PcmWriter(file, partial(_wav_header, label) if self.name == "wav" else None)


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
            container_options={"id3v2_version": "0"},
            stream_options={"write_xing": "0"},
            tag_options={"id3v2_version": "3"},
        ),
        Format(
            "opus",
            "audio/ogg",
            rate=48_000,
            codec="libopus",
            container="ogg",
            bit_rate=32_000,
            codec_options={"application": "lowdelay", "frame_duration": "20"},
            stream_options={"page_duration": "20000"},
        ),
        # One frame of priming; ADTS has no field that tells a decoder to skip it.
        Format("aac", "audio/aac", frame=1024, delay=1024, codec="aac", container="adts", bit_rate=64_000),
        Format("flac", "audio/flac", codec="flac", container="flac", codec_options={"frame_size": "1024"}),
        Format("wav", "audio/wav"),
        Format("pcm", "audio/pcm"),
    )
}

# Those of a whole that is written into a file: an audiobook's besides.
BOOK_FORMATS: Mapping[str, Format] = {
    **FORMATS,
    "m4b": Format(
        "m4b",
        "audio/mp4",
        frame=1024,
        codec="aac",
        container=_MP4,
        bit_rate=64_000,
        container_options={"brand": "M4B "},
    ),
}


class _PcmEncoder:
    def __init__(self, header: bytes) -> None:
        self._header = header

    def encode(self, pcm: Pcm) -> bytes:
        header, self._header = self._header, b""
        return header + to_s16le(pcm)

    def finish(self) -> bytes:
        return b""


class _PcmWriter:
    def __init__(self, file: IO[bytes], header: Callable[[int], bytes] | None) -> None:
        self._file, self._header, self._size = file, header, 0
        if header:
            file.write(header(0))

    def encode(self, pcm: Pcm) -> bytes:
        self._size += self._file.write(to_s16le(pcm))
        return b""

    def finish(self) -> bytes:
        if self._header:
            self._file.seek(0)
            self._file.write(self._header(self._size))
        return b""


def _wav_header(label: Label | None = None, size: int = _UNKNOWN) -> bytes:
    """The header before `size` bytes of samples. The label stands in it, since nothing may come after a stream."""
    pcm, channels, width = 1, 1, 2
    fmt = _WAV_FORMAT.pack(pcm, channels, SAMPLE_RATE, SAMPLE_RATE * width, width, width * 8)
    inside = b"WAVE" + _chunk(b"fmt ", fmt) + (_wav_label(label) if label else b"")
    whole = min(_UNKNOWN, len(inside) + _CHUNK.size + size)
    return _CHUNK.pack(b"RIFF", whole) + inside + _CHUNK.pack(b"data", min(_UNKNOWN, size))


def _wav_label(label: Label) -> bytes:
    """A LIST of INFO. Its texts end with a NUL, as Microsoft's description of RIFF has them."""
    texts = {b"ICMT": COMMENT, ENTRY.encode(): label.entry}
    return _chunk(b"LIST", b"INFO" + b"".join(_chunk(name, text.encode() + b"\0") for name, text in texts.items()))


def _chunk(name: bytes, content: bytes) -> bytes:
    """A part of a WAV, which begins and ends at an even position."""
    return _CHUNK.pack(name, len(content)) + content + bytes(len(content) % 2)


class _Sink:
    """A file for the muxer to write to that cannot be sought, emptied after every chunk."""

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
    def __init__(
        self,
        fmt: Format,
        file: "_Sink | IO[bytes]",
        options: Mapping[str, str],
        label: Label | None,
        tags: Tags | None = None,
    ) -> None:
        self._file, self._take = file, file.take if isinstance(file, _Sink) else bytes
        self._entry = label.entry if label and fmt.container == _MP4 else ""  # which libav would leave out
        options = {**fmt.container_options, **options, **(fmt.tag_options if label or tags else {})}
        self._container = av.open(file, "w", format=fmt.container, options=options)
        self._container.metadata.update({**(tags.fields if tags else {}), **(label.tags if label else {})})
        if tags and fmt.container in _VORBIS_COMMENTS:
            self._container.metadata.update(_chapter_comments(tags))
        elif tags:
            self._container.set_chapters(_chapters(tags))
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
        return self._take()

    def finish(self) -> bytes:
        self._mux(None)
        self._container.mux(self._stream.encode(None))
        self._container.close()
        if self._entry and not isinstance(self._file, _Sink):
            add_text(self._file, ENTRY, self._entry)
        return self._take()

    def _mux(self, frame: av.AudioFrame | None) -> None:
        for resampled in self._resampler.resample(frame):
            self._container.mux(self._stream.encode(resampled))


def _chapters(tags: Tags) -> list[Any]:
    """As libav takes them, in milliseconds."""
    return [
        {
            "id": number,
            "start": round(1000 * mark.begin),
            "end": round(1000 * mark.end),
            "time_base": Fraction(1, 1000),
            "metadata": {"title": mark.title},
        }
        for number, mark in enumerate(tags.chapters)
    ]


def _chapter_comments(tags: Tags) -> dict[str, str]:
    """Chapters as Vorbis comments have them. libav leaves them out of FLAC and rounds them to seconds in Ogg."""
    comments = {}
    for number, mark in enumerate(tags.chapters):
        minutes, seconds = divmod(mark.begin, 60)
        comments[f"CHAPTER{number:03}"] = f"{int(minutes // 60):02}:{int(minutes % 60):02}:{seconds:06.3f}"
        comments[f"CHAPTER{number:03}NAME"] = mark.title
    return comments
