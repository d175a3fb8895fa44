"""From any common audio file to samples that a voice can be learnt from, or a clear refusal.

It runs in a process of its own (`recording`), since decoders were not written for strangers' files.
"""

import io
from collections.abc import Iterator
from itertools import chain

import av
import numpy as np
import soxr
from numpy.typing import NDArray

from cosyserve import errors
from cosyserve.errors import CosyError
from cosyserve.speech.audio import SAMPLE_RATE, Pcm
from cosyserve.speech.silence import trimmed, voiced_seconds

SHORTEST, LONGEST = 1.0, 30.0  # seconds of voice; the speech tokenizer hears 30 at most
LONGEST_FILE = 60.0  # seconds before silence is cut off; what is longer is not a prompt
LOWEST_RATE = 16_000  # the speech tokenizer hears up to 8 kHz, so nothing may be missing there
HIGHEST_RATE = 192_000  # of any recorder there is
MOST_CHANNELS = 8  # 7.1
_QUIETEST, _LOUDEST = 0.01, 0.8  # peaks; what is louder is turned down, so that no resampling clips it
_CANCELLED = 0.05  # of the channels' power; where their mean has less, they are opposed to each other

# What sound is kept in. Any other codec stays closed even while a file is looked through, pictures' above all.
_CODECS = (
    "aac", "aac_fixed", "aac_latm", "ac3", "alac", "amrnb", "amrwb", "eac3", "flac", "libopus", "mp1",
    "mp1float", "mp2", "mp2float", "mp3", "mp3float", "opus", "vorbis", "wmalossless", "wmapro", "wmav1", "wmav2",
    "adpcm_ima_qt", "adpcm_ima_wav", "adpcm_ms",
    "pcm_alaw", "pcm_mulaw", "pcm_s8", "pcm_u8", "pcm_s16le", "pcm_s16be", "pcm_s24le", "pcm_s24be", "pcm_s32le",
    "pcm_s32be", "pcm_f32le", "pcm_f32be", "pcm_f64le", "pcm_f64be",
)  # fmt: skip
_OPTIONS = {
    # Containers that hold nothing but themselves: libav also knows playlists, which would open other files.
    "format_whitelist": "wav,w64,aiff,mp3,flac,ogg,aac,mov,mp4,m4a,matroska,webm,caf,au,amr,asf",
    "protocol_whitelist": "",
    "codec_whitelist": ",".join(_CODECS),
    "max_streams": "32",
}


def decode(data: bytes) -> bytes:
    """Of a file the float32 samples, mono at 24 kHz, as `recording.read` has them; raises `CS-VOICE-…`."""
    pcm = _decoded(data)
    peak = float(np.abs(pcm).max(initial=0))
    if peak < _QUIETEST:
        raise CosyError(errors.RECORDING_SILENT)
    pcm = trimmed(pcm * min(1, _LOUDEST / peak))
    seconds, voiced = pcm.size / SAMPLE_RATE, voiced_seconds(pcm)
    if not SHORTEST <= voiced <= LONGEST:
        raise _length(f"{voiced:.1f} s")
    if seconds > LONGEST:
        raise CosyError(errors.RECORDING_PAUSES, seconds=f"{seconds:.1f} s", voice=f"{voiced:.1f} s", longest=LONGEST)
    return pcm.astype("<f4").tobytes()


def _decoded(data: bytes) -> Pcm:
    """The first sound of the file, its channels' mean; where they cancel each other out, the loudest of them."""
    mixed, power = _read(data, None)
    if np.square(mixed).sum(dtype=float) < _CANCELLED * power.mean():
        mixed, _ = _read(data, int(power.argmax()))
    return mixed


def _read(data: bytes, channel: int | None) -> tuple[Pcm, NDArray[np.float64]]:
    """One channel, or the mean of all, and the power of each. What a header claims is never believed."""
    parts: list[Pcm] = []
    power = np.zeros(1)
    try:
        with av.open(io.BytesIO(data), "r", options=_OPTIONS) as container:
            rate = _checked(container.streams.audio[0])
            longest = LONGEST_FILE * rate
            for part in _channels(container, rate):
                power = power + np.square(part).sum(1, dtype=float)
                parts.append(part.mean(0) if channel is None else part[channel].copy())
                longest -= part.shape[1]
                if longest < 0:
                    raise _length(f"> {LONGEST_FILE:g} s")
    except (av.error.FFmpegError, IndexError, ValueError, OverflowError, MemoryError) as error:
        if not parts:  # else it is cut short, and what there is of it may do
            raise CosyError(errors.RECORDING_UNREADABLE) from error
    pcm = np.concatenate(parts) if parts else np.empty(0, np.float32)
    resampled: Pcm = soxr.resample(pcm, rate, SAMPLE_RATE)
    if not np.isfinite(resampled).all():
        raise CosyError(errors.RECORDING_UNREADABLE)
    return resampled, power


def _length(seconds: str) -> CosyError:
    return CosyError(errors.RECORDING_LENGTH, seconds=seconds, shortest=SHORTEST, longest=LONGEST)


def _checked(stream: av.AudioStream) -> int:
    """The samples a second of what a header claims, once all of that is worth a look."""
    sound = stream.codec_context
    if sound is None or sound.name not in _CODECS:
        raise CosyError(errors.RECORDING_UNREADABLE)
    if sound.sample_rate < LOWEST_RATE:
        raise CosyError(errors.RECORDING_RATE, rate=sound.sample_rate, lowest=LOWEST_RATE)
    if sound.sample_rate > HIGHEST_RATE:
        raise CosyError(errors.RECORDING_RATE_HIGH, rate=sound.sample_rate, highest=HIGHEST_RATE)
    if sound.channels > MOST_CHANNELS:
        raise CosyError(errors.RECORDING_CHANNELS, channels=sound.channels, most=MOST_CHANNELS)
    return sound.sample_rate


def _channels(container: av.container.InputContainer, rate: int) -> Iterator[Pcm]:
    """(channels, n)."""
    resampler = av.AudioResampler(format="fltp", rate=rate)  # of the layout that the first frame has
    for frame in chain(container.decode(audio=0), (None,)):
        for planar in resampler.resample(frame):
            yield np.asarray(planar.to_ndarray(), np.float32)
