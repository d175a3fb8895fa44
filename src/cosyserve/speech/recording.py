"""A recording of a voice: from any common audio file to samples that a voice can be learnt from, or a clear refusal."""

import io
from collections.abc import Iterator

import av
import numpy as np
import soxr

from cosyserve import errors
from cosyserve.errors import CosyError
from cosyserve.speech.audio import SAMPLE_RATE, Pcm
from cosyserve.speech.silence import trimmed

SHORTEST, LONGEST = 1.0, 30.0  # seconds of voice; the speech tokenizer hears 30 at most
_LONGEST_FILE = 60.0  # seconds read before silence is cut off; what is longer is not a prompt
_LOWEST_RATE = 16_000  # the speech tokenizer hears up to 8 kHz, so nothing may be missing there
_QUIETEST, _LOUDEST = 0.01, 0.8  # peaks; upstream too turns down what is louder

# Containers that hold nothing but themselves: libav also knows playlists, which would open other files.
_CONTAINED = {
    "format_whitelist": "wav,w64,aiff,mp3,flac,ogg,aac,mov,mp4,m4a,matroska,webm,caf,au,amr,asf",
    "protocol_whitelist": "",
}


def read(data: bytes) -> Pcm:
    """Mono at 24 kHz, silence at the edges cut off, never too loud; raises `CS-VOICE-…`."""
    pcm = trimmed(_decoded(data))
    peak = float(np.abs(pcm).max(initial=0))
    if peak < _QUIETEST:
        raise CosyError(errors.RECORDING_SILENT)
    seconds = pcm.size / SAMPLE_RATE
    if not SHORTEST <= seconds <= LONGEST:
        raise CosyError(errors.RECORDING_LENGTH, seconds=f"{seconds:.1f} s", shortest=SHORTEST, longest=LONGEST)
    return pcm * (_LOUDEST / peak) if peak > _LOUDEST else pcm


def written(pcm: Pcm) -> bytes:
    """A recording as a FLAC file."""
    file = io.BytesIO()
    with av.open(file, "w", format="flac") as container:
        stream = container.add_stream("flac", rate=SAMPLE_RATE)
        assert isinstance(stream, av.AudioStream)  # noqa: S101 - FLAC is an audio codec
        stream.layout = "mono"
        samples = (pcm.clip(-1, 1) * 32767).astype(np.int16).reshape(1, -1)
        frame = av.AudioFrame.from_ndarray(samples, format="s16", layout="mono")
        frame.sample_rate = SAMPLE_RATE
        for packet in (*stream.encode(frame), *stream.encode(None)):
            container.mux(packet)
    return file.getvalue()


def _decoded(data: bytes) -> Pcm:
    """The first audio of the file, mixed to one channel. What its header claims is never believed."""
    parts: list[Pcm] = []
    try:
        with av.open(io.BytesIO(data), "r", options=_CONTAINED) as container:
            rate = container.streams.audio[0].rate
            if rate < _LOWEST_RATE:
                raise CosyError(errors.RECORDING_RATE, rate=rate, lowest=_LOWEST_RATE)
            longest = _LONGEST_FILE * rate
            for part in _mixed(container, rate):
                parts.append(part)
                longest -= part.size
                if longest < 0:
                    seconds = f"> {_LONGEST_FILE:g} s"
                    raise CosyError(errors.RECORDING_LENGTH, seconds=seconds, shortest=SHORTEST, longest=LONGEST)
    except (av.error.FFmpegError, IndexError, ValueError, OverflowError, MemoryError) as error:
        if not parts:  # else it is cut short, and what there is of it may do
            raise CosyError(errors.RECORDING_UNREADABLE) from error
    pcm = np.concatenate(parts) if parts else np.empty(0, np.float32)
    if not np.isfinite(pcm).all():
        raise CosyError(errors.RECORDING_UNREADABLE)
    resampled: Pcm = soxr.resample(pcm, rate, SAMPLE_RATE)
    return resampled


def _mixed(container: av.container.InputContainer, rate: int) -> Iterator[Pcm]:
    mono = av.AudioResampler(format="flt", layout="mono", rate=rate)
    for frame in container.decode(audio=0):
        for mixed in mono.resample(frame):
            yield np.asarray(mixed.to_ndarray(), np.float32).reshape(-1)
    for mixed in mono.resample(None):
        yield np.asarray(mixed.to_ndarray(), np.float32).reshape(-1)
