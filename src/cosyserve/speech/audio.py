"""What audio is inside CosyServe: mono float32 PCM in [-1, 1] at 24 kHz, CosyVoice's rate."""

import numpy as np
from numpy.typing import NDArray

SAMPLE_RATE = 24_000

Pcm = NDArray[np.float32]


def to_s16le(pcm: Pcm) -> bytes:
    """Signed 16-bit little-endian samples; what lies outside [-1, 1] is clipped."""
    return (np.clip(pcm, -1.0, 1.0) * 32767.0).astype("<i2").tobytes()
