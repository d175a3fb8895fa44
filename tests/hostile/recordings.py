"""Recordings made to harm who reads them, on the spot and in little time: bombs, covers, headers that lie.

What begins with "a good voice" is one, and may be taken. Everything else is to be refused with a `CS-VOICE-1…`.
"""

import base64
import io
import struct
import zlib
from collections.abc import Iterator

import av
import numpy as np
from numpy.typing import NDArray

from tests.speech.recordings import encoded, tone

_SIDE = 16_000  # pixels: 768 MB once it is decoded
_HOUR = 3600


def _covers() -> list[tuple[str, bytes]]:
    """Pictures beside three seconds of good sound."""
    picture, sound = png(_SIDE), tone(3)
    flac, mp3 = encoded(sound, form="FLAC"), encoded(sound, form="MP3")
    tags = {"METADATA_BLOCK_PICTURE": base64.b64encode(_flac_picture(picture)).decode()}
    return [
        ("a good voice: MP3 with a cover", _id3(b"APIC", b"\0image/png\0\3\0" + picture) + mp3),
        ("a good voice: MP3 with a JPEG cover", _id3(b"APIC", b"\0image/jpeg\0\3\0" + jpeg()) + mp3),
        ("a good voice: FLAC with a picture", _with_block(flac, 6, _flac_picture(picture))),
        ("a good voice: M4A with a cover", _with_cover(_muxed(sound, "mp4", "aac"), picture)),
        ("a good voice: Opus with a picture", _muxed(sound, "ogg", "libopus", 48_000, tags)),
    ]


def _bombs() -> list[tuple[str, bytes]]:
    """Little to send, much to decode."""
    second = np.zeros((24_000, 1), np.float32)
    return [
        ("an hour of FLAC", encoded(np.zeros((_HOUR * 24_000, 1), np.float32), form="FLAC")),
        ("an hour of AAC", _muxed(second, "adts", "aac") * _HOUR),
        ("an hour of MP3", _muxed(second, "mp3", "libmp3lame") * _HOUR),
        ("an hour of Opus in a chain", _muxed(second, "ogg", "libopus", 48_000) * _HOUR),
        ("a hundred million samples in an MP4", _many_samples(_muxed(tone(3), "mp4", "aac"), 100_000_000)),
        ("four thousand million samples in an MP4", _many_samples(_muxed(tone(3), "mp4", "aac"), 0xFFFFFFFF)),
    ]


def _lying_headers() -> list[tuple[str, bytes]]:
    quiet = bytes(400_000)
    flac = bytearray(encoded(tone(3), form="FLAC"))
    flac[18:21] = (655_350 << 4).to_bytes(3, "big")
    return [
        ("GSM at two thousand million samples a second", wav(bytes(9_400_000), 2_000_000_000, form=0x31, align=65)),
        ("PCM at two thousand million samples a second", wav(quiet, 2_000_000_000)),
        ("PCM at 192,001 samples a second", wav(quiet, 192_001)),
        ("PCM at no samples a second", wav(quiet, 0)),
        ("PCM at the most samples a second", wav(quiet, 0xFFFFFFFF)),
        ("PCM in 65,535 channels", wav(bytes(1 << 20), 48_000, channels=65_535)),
        ("PCM in nine channels", wav(quiet, 48_000, channels=9)),
        ("PCM in no channel", wav(quiet, 48_000, channels=0)),
        ("a good voice: FLAC that claims 655,350 samples a second", bytes(flac)),
        ("G.729 in WAV", wav(quiet, 16_000, form=0x133)),
        ("infinite samples", encoded(np.full((48_000, 1), np.inf, np.float32), subtype="FLOAT")),
        ("a good voice: samples of 1e38", encoded(np.full((48_000, 1), 3e38, np.float32), subtype="FLOAT")),
    ]


def _crowds() -> list[tuple[str, bytes]]:
    return [
        ("five thousand tracks in an MP4", _many_tracks(_muxed(tone(1.5), "mp4", "aac"), 5000)),
        ("five thousand tracks in a Matroska", _matroska(5000)),
        ("boxes within boxes", _nested(50_000)),
    ]


def _huge_metadata() -> list[tuple[str, bytes]]:
    """Without any sound behind it."""
    text = b"x" * 9_000_000
    comments = struct.pack("<I", 0) + struct.pack("<I", 1_000_000) + b"\1\0\0\0=" * 1_000_000
    return [
        ("nine megabytes of ID3", _id3(b"COMM", b"\0eng\0" + text)),
        ("a million comments in FLAC", _with_block(encoded(tone(0.01), form="FLAC"), 4, comments)),
        ("nine megabytes of LIST in WAV", b"RIFF\0\0\0\0WAVELIST" + struct.pack("<I", len(text)) + text),
    ]


def _no_sound() -> list[tuple[str, bytes]]:
    endless = bytes(range(256)) * 4096
    magics = (b"RIFF\xff\xff\xff\xffWAVE", b"fLaC", b"OggS", b"\x1aE\xdf\xa3", b"\0\0\0\x18ftypM4A ", b"ID3\4", b"caff")
    return [
        ("a picture", png(_SIDE)),
        ("a JPEG", jpeg()),
        ("a video without sound", _video()),
        *((f"{magic[:4]!r} and rubbish", magic + endless) for magic in magics),
    ]


def png(side: int) -> bytes:
    """A black square. Each row is compressed by itself, so that all rows are the same bytes."""
    row = bytes(1 + 3 * side)
    deflate = zlib.compressobj(9, wbits=-15)
    packed = deflate.compress(row) + deflate.flush(zlib.Z_FULL_FLUSH)
    checksum = (len(row) * side % 65521) << 16 | 1  # Adler-32 of zeros
    data = b"\x78\x9c" + packed * side + b"\x03\0" + struct.pack(">I", checksum)
    chunks = ((b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)), (b"IDAT", data), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(held)) + kind + held + struct.pack(">I", zlib.crc32(kind + held)) for kind, held in chunks
    )


def jpeg() -> bytes:
    """The head of a progressive picture of 65,500 by 65,500, and nothing behind it."""
    frame = struct.pack(">BHHB", 8, 65_500, 65_500, 3) + b"\1\x11\0\2\x11\0\3\x11\0"
    scan = b"\3\1\0\2\0\3\0\0\0\0"
    return b"\xff\xd8\xff\xc2" + _sized(frame) + b"\xff\xda" + _sized(scan) + bytes(1000)


def wav(samples: bytes, rate: int, channels: int = 1, form: int = 1, align: int = 2) -> bytes:
    extra = struct.pack("<HH", 2, 320) if form == 0x31 else b""
    head = struct.pack("<HHIIHH", form, channels, rate, rate, align, 16 if form == 1 else 0) + extra
    chunks = b"WAVEfmt " + struct.pack("<I", len(head)) + head + b"data" + struct.pack("<I", len(samples)) + samples
    return b"RIFF" + struct.pack("<I", len(chunks)) + chunks


def _sized(held: bytes) -> bytes:
    return struct.pack(">H", len(held) + 2) + held


def _id3(kind: bytes, held: bytes) -> bytes:
    """A tag of one frame, version 2.3; its own length is written in sevens of bits."""
    frame = kind + struct.pack(">IH", len(held), 0) + held
    return b"ID3\3\0\0" + bytes(len(frame) >> shift & 0x7F for shift in (21, 14, 7, 0)) + frame


def _flac_picture(picture: bytes) -> bytes:
    mime = b"image/png"
    size = struct.pack(">IIIII", _SIDE, _SIDE, 24, 0, len(picture))
    return struct.pack(">II", 3, len(mime)) + mime + struct.pack(">I", 0) + size + picture


def _with_block(flac: bytes, kind: int, held: bytes) -> bytes:
    """With a block of metadata behind the first, which is 42 bytes with the file's mark."""
    return flac[:42] + bytes([kind]) + len(held).to_bytes(3, "big") + held + flac[42:]


def _muxed(
    samples: NDArray[np.float32], form: str, codec: str, rate: int = 24_000, tags: dict[str, str] | None = None
) -> bytes:
    file = io.BytesIO()
    bare = {"write_xing": "0", "id3v2_version": "0"} if form == "mp3" else {}  # so that copies of it are one file
    with av.open(file, "w", format=form, options=bare) as container:
        container.metadata.update(tags or {})
        stream = container.add_stream(codec, rate=rate)
        assert isinstance(stream, av.AudioStream)
        stream.layout = "mono"
        stream.bit_rate = 8_000 if codec == "libmp3lame" else 32_000
        frame = av.AudioFrame.from_ndarray(samples.reshape(1, -1), format="fltp", layout="mono")
        frame.sample_rate = 24_000
        stream.codec_context.format = "fltp" if codec != "libopus" else "flt"
        resampler = av.AudioResampler(stream.codec_context.format, "mono", rate)
        for each in (*resampler.resample(frame), None):
            container.mux(stream.encode(each))
    return file.getvalue()


def _video() -> bytes:
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=1)
        assert isinstance(stream, av.VideoStream)
        stream.width = stream.height = 64
        stream.pix_fmt = "yuv420p"
        for _ in range(3):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.zeros((96, 64), np.uint8), format="yuv420p")))
        container.mux(stream.encode(None))
    return file.getvalue()


def _box(kind: bytes, held: bytes) -> bytes:
    return struct.pack(">I", len(held) + 8) + kind + held


def _moov(mp4: bytes) -> tuple[bytes, bytes]:
    """What stands before the last box, which is the index, and what the index holds."""
    at = mp4.index(b"moov") - 4
    return mp4[:at], mp4[at + 8 :]


def _with_cover(mp4: bytes, picture: bytes) -> bytes:
    before, index = _moov(mp4)
    cover = _box(b"ilst", _box(b"covr", _box(b"data", struct.pack(">II", 14, 0) + picture)))
    handler = _box(b"hdlr", bytes(8) + b"mdirappl" + bytes(9))
    return before + _box(b"moov", index + _box(b"udta", _box(b"meta", bytes(4) + handler + cover)))


def _many_tracks(mp4: bytes, count: int) -> bytes:
    before, index = _moov(mp4)
    at = index.index(b"trak") - 4
    track = index[at : at + int.from_bytes(index[at : at + 4], "big")]
    return before + _box(b"moov", index + track * count)


def _many_samples(mp4: bytes, count: int) -> bytes:
    """All of one byte, in one chunk and of the same duration."""
    data = bytearray(mp4)
    for kind, held in (
        (b"stsz", struct.pack(">III", 0, 1, count)),
        (b"stsc", struct.pack(">IIIII", 0, 1, 1, count, 1)),
        (b"stts", struct.pack(">IIII", 0, 1, count, 1)),
    ):
        at = data.index(kind) + 4
        data[at : at + len(held)] = held
    return bytes(data)


def _matroska(tracks: int) -> bytes:
    def element(mark: bytes, held: bytes) -> bytes:
        return mark + (len(held) | 1 << 56).to_bytes(8, "big") + held

    entries = b"".join(
        element(
            b"\xae",
            element(b"\xd7", number.to_bytes(2, "big"))
            + element(b"\x73\xc5", number.to_bytes(2, "big"))
            + element(b"\x83", b"\2")
            + element(b"\x86", b"A_PCM/INT/LIT")
            + element(b"\xe1", element(b"\xb5", struct.pack(">f", 48_000)) + element(b"\x9f", b"\1")),
        )
        for number in range(1, tracks + 1)
    )
    head = element(b"\x1aE\xdf\xa3", element(b"\x42\x82", b"matroska"))
    return head + element(b"\x18\x53\x80\x67", element(b"\x16\x54\xae\x6b", entries))


def _nested(depth: int) -> bytes:
    boxes = b"".join(struct.pack(">I", 8 * (depth - level)) + b"moov" for level in range(depth))
    return _box(b"ftyp", b"M4A \0\0\0\0M4A ") + boxes


KINDS = (_covers, _bombs, _lying_headers, _crowds, _huge_metadata, _no_sound)


def hostile_recordings() -> Iterator[tuple[str, bytes]]:
    """Names, and files of less than 10 MB."""
    for kind in KINDS:
        yield from kind()
