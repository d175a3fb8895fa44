"""Recordings made on the spot, good and bad. No person speaks in them: they are tones, and eSpeak NG."""

import io
import struct

import numpy as np
import soundfile
from numpy.typing import NDArray

from cosyserve.speech.preview import PreviewSynthesizer


def tone(seconds: float, rate: int = 24_000, channels: int = 1) -> NDArray[np.float32]:
    wave = 0.4 * np.sin(2 * np.pi * 220 * np.arange(round(seconds * rate)) / rate)
    return np.repeat(wave[:, None], channels, axis=1).astype(np.float32)


def encoded(samples: NDArray[np.float32], rate: int = 24_000, form: str = "WAV", subtype: str | None = None) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format=form, subtype=subtype)
    return file.getvalue()


def claims_ten_gigabytes() -> bytes:
    """Three seconds of sound under a header that announces as much as its fields can hold."""
    samples = (tone(3)[:, 0] * 32767).astype("<i2").tobytes()
    header = (b"RIFF", 0xFFFFFFF0, b"WAVE", b"fmt ", 16, 1, 1, 24_000, 48_000, 2, 16, b"data", 0xFFFFFF00)
    return struct.pack("<4sI4s4sIHHIIHH4sI", *header) + samples


def speech(text: str = "你好，很高兴认识你。") -> bytes:
    preview = PreviewSynthesizer()
    try:
        return encoded(preview._speak(text, "cmn")[:, None])
    finally:
        preview.close()


PLAYLIST = b"#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\nfile:///etc/hostname\n#EXT-X-ENDLIST\n"
CONCATENATION = b"ffconcat version 1.0\nfile /etc/hostname\n"

REFUSED = {
    "silence": (encoded(np.zeros((48_000, 1), np.float32)), "CS-VOICE-102"),
    "0.2 s": (encoded(tone(0.2)), "CS-VOICE-103"),
    "ten minutes": (encoded(tone(600, 16_000), 16_000), "CS-VOICE-103"),
    "8 kHz": (encoded(tone(3, 8_000), 8_000), "CS-VOICE-104"),
    "not audio": (b"hello world" * 100, "CS-VOICE-101"),
    "nothing": (b"", "CS-VOICE-101"),
    "a header alone": (encoded(tone(3))[:44], "CS-VOICE-102"),
    "not a number": (encoded(np.full((48_000, 1), np.nan, np.float32), subtype="FLOAT"), "CS-VOICE-101"),
    "a playlist": (PLAYLIST, "CS-VOICE-101"),
    "a list of files": (CONCATENATION, "CS-VOICE-101"),
}
TAKEN = {
    "96 kHz in six channels": encoded(tone(3, 96_000, 6), 96_000),
    "a claim of ten gigabytes": claims_ten_gigabytes(),
    "cut short": encoded(tone(3))[:60_000],
    "MP3": encoded(tone(3), form="MP3"),
    "FLAC": encoded(tone(3), form="FLAC"),
    "OGG": encoded(tone(3), form="OGG"),
}
