"""What makes samples speech: energy in the voice's band, pauses between, nothing clipped."""

import io
import wave

import av
import numpy as np

from cosyserve.speech.audio import SAMPLE_RATE, Pcm


def from_s16le(data: bytes) -> Pcm:
    samples: Pcm = np.frombuffer(data, "<i2").astype(np.float32)
    return samples / np.float32(32768)


def from_wav(data: bytes) -> Pcm:
    """The samples of a WAV stream, which has to say that it is 24 kHz mono."""
    with wave.open(io.BytesIO(data)) as file:
        assert (file.getframerate(), file.getnchannels()) == (SAMPLE_RATE, 1)
        return from_s16le(file.readframes(file.getnframes()))


def decoded_by_ffmpeg(data: bytes) -> Pcm:
    """The samples of any format, at the format's own rate."""
    container = av.open(io.BytesIO(data))
    assert isinstance(container, av.container.InputContainer)
    with container:
        return np.concatenate([frame.to_ndarray().ravel() for frame in container.decode(audio=0)])


def is_speech(audio: Pcm) -> bool:
    frames = audio[: audio.size // 480 * 480].reshape(-1, 480)  # 20 ms
    level = np.sqrt((frames**2).mean(axis=1))
    spectrum = np.abs(np.fft.rfft(audio)) ** 2
    hertz = np.fft.rfftfreq(audio.size, 1 / SAMPLE_RATE)
    voiced = spectrum[(hertz > 80) & (hertz < 4000)].sum() / spectrum.sum()
    return bool(
        np.isfinite(audio).all()
        and np.abs(audio).max() < 1.0  # not clipped
        and np.abs(audio.mean()) < 0.01  # no offset
        and (level > 0.02).mean() > 0.3  # loud for a good part of it
        and level.std() > 0.02  # and not a steady hum
        and voiced > 0.8
    )
