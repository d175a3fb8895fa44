"""A recording of a voice, as samples and as a file."""

import io
import logging

import av
import numpy as np

from cosyserve import errors
from cosyserve.confined import Bounds, Confined, NotStartedError, UnfinishedError
from cosyserve.errors import CosyError
from cosyserve.speech.audio import SAMPLE_RATE, Pcm

log = logging.getLogger(__name__)

# A minute at 192 kHz in eight channels takes a second and 200 MB.
_BOUNDS = Bounds(memory=512 << 20, cpu_seconds=4, seconds=20, at_once=2)
_decode = Confined("cosyserve.speech.decoding:decode", _BOUNDS)


def read(data: bytes) -> Pcm:
    """Mono at 24 kHz, silence at the edges cut off, never too loud; raises `CS-VOICE-…`. May take seconds, which are
    those of another process."""
    try:
        return np.frombuffer(_decode(data), "<f4").astype(np.float32)
    except NotStartedError as error:  # no recording could be read
        log.error("Recordings cannot be decoded: %s", error)
        raise CosyError(errors.INTERNAL) from error
    except UnfinishedError as error:  # too much, or it crashed the decoder: a recording does neither
        log.warning("A recording of %d bytes ended its decoder: %s", len(data), error)
        raise CosyError(errors.RECORDING_UNREADABLE) from error


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
