"""Where a voice begins and ends."""

import numpy as np

from cosyserve.speech.audio import SAMPLE_RATE, Pcm

_FRAME = SAMPLE_RATE // 100  # 10 ms
_MARGIN = 5  # frames kept before and after what is heard: consonants begin softly
_BELOW_PEAK = 10 ** (-45 / 20)  # of the loudest frame; the noise of a quiet room lies under it
_AUDIBLE = 10 ** (-50 / 20)  # of full scale, for a voice of which only the beginning is known


def trimmed(pcm: Pcm) -> Pcm:
    """Without the silence at both ends."""
    levels = _levels(pcm)
    loud = np.flatnonzero(levels > levels.max(initial=0) * _BELOW_PEAK)
    if not loud.size:
        return pcm[:0]
    return pcm[max(0, loud[0] - _MARGIN) * _FRAME : (loud[-1] + 1 + _MARGIN) * _FRAME]


def voiced_seconds(pcm: Pcm) -> float:
    """A pause between two sentences is not counted."""
    levels = _levels(pcm)
    loud = (levels > levels.max(initial=0) * _BELOW_PEAK).astype(np.float32)
    near = np.convolve(loud, np.ones(2 * _MARGIN + 1), "same") > 0
    return min(float(near.sum() * _FRAME), float(pcm.size)) / SAMPLE_RATE


class LeadingSilence:
    """Holds a stream back until something is heard, so that its first chunk is one that a listener notices."""

    def __init__(self) -> None:
        self._held: Pcm | None = np.empty(0, np.float32)

    def push(self, pcm: Pcm) -> Pcm:
        """What is to be heard of the stream so far and was not given yet."""
        if self._held is None:
            return pcm
        held = np.concatenate((self._held, pcm))
        heard = np.flatnonzero(_levels(held) > _AUDIBLE)
        if not heard.size:
            self._held = held[-_MARGIN * _FRAME :]
            return pcm[:0]
        self._held = None
        return held[max(0, heard[0] - _MARGIN) * _FRAME :]


def _levels(pcm: Pcm) -> Pcm:
    """The root mean square of each whole frame, and of what is left at the end."""
    whole = pcm.size // _FRAME * _FRAME
    levels = np.sqrt(np.square(pcm[:whole]).reshape(-1, _FRAME).mean(1))
    rest = pcm[whole:]
    levels = np.append(levels, np.sqrt(np.square(rest).mean())) if rest.size else levels
    return levels.astype(np.float32)
