"""From samples to what a listener gets: speed, then format. Both are work for a thread, done in one step."""

from collections.abc import Iterable
from typing import IO

import numpy as np

from cosyserve.speech.audio import SAMPLE_RATE, Pcm
from cosyserve.speech.captions import Caption
from cosyserve.speech.encoders import Format
from cosyserve.speech.label import Label
from cosyserve.speech.tags import Tags
from cosyserve.speech.timestretch import TimeStretch

SILENCE_SECONDS = 0.2  # what a text without any sound lasts: emoji, punctuation alone


class Output:
    """The audio of one utterance at its speed: in pieces that can be sent at once, or in `file`, which can be sought.

    It is never empty: where no sound came in, a short silence goes out. A file has its true length in its header once
    it is finished, and `tags` where its format has room for them. What of `label` can be heard goes out with the first
    sound, at its own speed. Each segment changes its speed alone, so that its bounds are known to the sample.
    """

    def __init__(
        self,
        fmt: Format,
        speed: float = 1.0,
        file: IO[bytes] | None = None,
        label: Label | None = None,
        tags: Tags | None = None,
    ) -> None:
        self._speed, self._stretch = speed, TimeStretch(speed)
        self._encoder = fmt.encoder(label) if file is None else fmt.writer(file, label, tags)
        self._lead = label.lead if label else np.zeros(0, np.float32)
        self._samples = 0
        self._text, self._begin = "", 0  # of the segment that is spoken now
        self._captions: list[Caption] = []

    @property
    def seconds(self) -> float:
        """How much has gone out so far."""
        return self._samples / SAMPLE_RATE

    @property
    def begin(self) -> int:
        """The sample with which the segment begins that is spoken now."""
        return self._begin

    @property
    def captions(self) -> list[Caption]:
        """Of the segments that are over."""
        return self._captions

    def begin_segment(self, text: str) -> bytes:
        """What comes from here on is the segment that was written as `text`, or a pause where it is empty. Gives the
        rest of the one before."""
        data = self._end_segment()
        self._stretch = TimeStretch(self._speed)
        self._text, self._begin = text, self._samples + self._lead.size
        return data

    def rewrite(self, text: str) -> None:
        """More has been written of the segment that is spoken now: all of it is `text`."""
        self._text = text

    def push(self, pcm: Pcm) -> bytes:
        """What can be sent once `pcm` is there; may be empty, and always is where there is a file."""
        return self._encoded(self._stretch.push(pcm))

    def finish(self) -> bytes:
        """The rest. The output is used up afterwards."""
        data = self._end_segment()
        if not self._samples:
            data += self._encoded([np.zeros(round(SILENCE_SECONDS * SAMPLE_RATE), np.float32)])
        return data + self._encoder.finish()

    def _end_segment(self) -> bytes:
        data = self._encoded(self._stretch.flush())
        if self._text and self._samples > self._begin:
            self._captions.append(Caption(self._text, self._begin, self._samples))
        return data

    def _encoded(self, parts: Iterable[Pcm]) -> bytes:
        data = b""
        for pcm in parts:
            if pcm.size:
                pcm, self._lead = np.concatenate([self._lead, pcm]), self._lead[:0]
                self._samples += pcm.size
                data += self._encoder.encode(pcm)
        return data
